"""Tool: attach_artifact."""

import base64
import binascii
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio.to_thread
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from contextdna import ArtifactDraft, InvalidInput, LimitExceeded
from contextdna_tools.arguments import LEVEL, Arguments, Object, level_of
from contextdna_tools.spec import WRITES, Call, Tool, hints

_OPENS_STEP_BY_STEP: Final = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW")
"""Whether the system can open a file relative to a folder and without following links; Windows cannot."""
_OBJECT: Final = "s3://"


class AttachArtifact(Arguments):
    """Keep a file or long text beside the memories: text, base64, or a path. Gives its id and URI; the same name
    again is its next version."""

    name: str = Field("", description="File name; default the path's")
    text: str = Field("", description="As text")
    base64: str = Field("", description="As base64")
    path: str = Field("", description="Allowed s3://, or local on stdio")
    media_type: str = Field("", description="Default: guessed")
    level: str = LEVEL
    importance: float = Field(0.5, description="0..1")
    metadata: Object = Field({}, description="Any JSON")


class ArtifactResult(BaseModel):
    """Answer of attach_artifact."""

    id: str
    uri: str
    name: str = ""
    version: int = 1
    media_type: str = ""
    size_bytes: int = 0
    sha256: str = ""
    held: SkipJsonSchema[str | None] = None
    """``spool`` where the bytes wait for S3."""


async def attach_artifact(call: Call, args: AttachArtifact) -> ArtifactResult:
    """Keep an artifact."""
    if sum(map(bool, (args.text, args.base64, args.path))) != 1:
        raise InvalidInput(
            "give exactly one of text, base64 and path", code="artifact_source", hint="An empty file is not kept."
        )
    name = args.name or Path(args.path).name
    source = args.path if args.path.startswith(_OBJECT) else ""
    data = b"" if source else await _data(call, args)
    artifact = await call.workspace(args).attach_artifact(
        ArtifactDraft(
            name=name,
            data=data,
            media_type=args.media_type,
            level=level_of(args.level, call.hub.settings.default_level),
            importance=args.importance,
            metadata=args.metadata,
            source=source,
        ),
        progress=_progress(call),
    )
    record = artifact.record
    return ArtifactResult(
        id=record.id,
        uri=f"contextdna://projects/{record.project_id}/artifacts/{record.id}",
        name=artifact.name,
        version=record.position,
        media_type=artifact.media_type,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        held=artifact.held or None,
    )


def _progress(call: Call) -> Callable[[int, int], Awaitable[None]] | None:
    tell = call.progress
    if tell is None:
        return None

    async def told(done: int, total: int) -> None:
        await tell(done, total, "bytes stored")

    return told


async def _data(call: Call, args: AttachArtifact) -> bytes:
    if args.text:
        try:
            return args.text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                "text holds a lone surrogate", code="text_unstorable", hint="Send valid text."
            ) from error
    if args.base64:
        try:
            return base64.b64decode(args.base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput("base64 is broken", code="base64_invalid", hint="Use standard base64.") from error
    if "://" in args.path:
        raise InvalidInput(
            "objects can be attached from s3:// only",
            code="object_unsupported",
            hint="Give s3://bucket/key, a local path, text or base64.",
        )
    settings = call.hub.settings
    limit = settings.limits.artifact_bytes_max
    return await anyio.to_thread.run_sync(read_local_file, args.path, call.allowed_roots, limit, settings.data_dir)


def read_local_file(path: str, roots: tuple[Path, ...], bytes_max: int, data_dir: Path | None = None) -> bytes:
    """Read a regular file inside an allowed root, following no symbolic link on the way, and none of the data folder.

    Each folder is opened relative to the one before with O_NOFOLLOW, so that nothing can be swapped between a check
    and its use. Folder and files of the installation are known by device and inode, whatever leads to them.

    Raises:
        InvalidInput: ``path_not_allowed``, ``path_unreadable``, or ``path_unsupported`` on Windows.
        LimitExceeded: ``artifact_too_large``.
    """
    if not roots:  # as over HTTP, always
        raise InvalidInput(
            "this server reads no local files",
            code="path_not_allowed",
            hint="Send text or base64, or s3://bucket/key where the operator allows it. Only a server on stdio reads "
            "files, from folders of artifacts.allowed_roots.",
        )
    if not _OPENS_STEP_BY_STEP:
        raise InvalidInput(
            "local paths cannot be read safely on this system", code="path_unsupported", hint="Send text or base64."
        )
    root, parts = _inside_root(path, roots)
    kept_back = _Kept(data_dir)
    if kept_back.holds(root):
        raise _not_allowed()
    folder = _opened_root(root)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
            if kept_back.is_folder(folder):
                raise _not_allowed()
        return _read_regular(parts[-1], folder, bytes_max, kept_back)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _not_allowed() from error
        raise _unreadable() from error
    finally:
        os.close(folder)


class _Kept:
    """What no path may lead to: the data folder with the database, the key and other agents' artifacts."""

    def __init__(self, data_dir: Path | None) -> None:
        self._data_dir = data_dir
        self._folder = _identity_of(data_dir) if data_dir else None

    def holds(self, path: Path) -> bool:
        """Tell whether a path is the data folder or lies inside it."""
        real = path.resolve()
        return self._folder is not None and self._folder in map(_identity_of, (real, *real.parents))

    def is_folder(self, fd: int) -> bool:
        """Tell whether an open folder is the data folder."""
        return _identity(os.fstat(fd)) == self._folder

    def is_file(self, found: os.stat_result) -> bool:
        """Tell whether a file has another name, a hard link, inside the data folder."""
        if found.st_nlink < 2 or self._data_dir is None:
            return False
        files = (Path(folder) / name for folder, _, names in os.walk(self._data_dir) for name in names)
        return _identity(found) in map(_identity_of, files)


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        return _identity(path.stat())
    except OSError:  # gone, or not for us to look at
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _opened_root(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unreadable() from error


def _read_regular(name: str, folder: int, bytes_max: int, kept_back: _Kept) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or kept_back.is_file(found):
            raise _not_allowed()
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(bytes_max + 1)
    finally:
        os.close(fd)
    if len(data) > bytes_max:
        raise LimitExceeded(
            f"the file is larger than {bytes_max} bytes", code="artifact_too_large", hint="Attach a part of it."
        )
    return data


def _inside_root(path: str, roots: tuple[Path, ...]) -> tuple[Path, tuple[str, ...]]:
    wanted = Path(path)
    if "\x00" in path or ".." in wanted.parts or not wanted.is_absolute():
        raise _not_allowed()
    for root in roots:
        if wanted.is_relative_to(root) and wanted != root:
            return root, wanted.relative_to(root).parts
    raise _not_allowed()


def _not_allowed() -> InvalidInput:
    return InvalidInput(
        "the path is not a plain file inside an allowed root",
        code="path_not_allowed",
        hint="Give an absolute path without .. and links inside a folder of artifacts.allowed_roots, or send text.",
    )


def _unreadable() -> InvalidInput:
    return InvalidInput("the file cannot be read", code="path_unreadable", hint="Check that it is there.")


ATTACH_ARTIFACT = Tool("attach_artifact", AttachArtifact, ArtifactResult, attach_artifact, hints(), WRITES)
