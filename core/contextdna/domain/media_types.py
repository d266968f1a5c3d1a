"""What kind of file an artifact is, when nobody says: by its name, else by its first bytes."""

import codecs
import mimetypes
from functools import cache
from pathlib import PurePosixPath
from typing import Final

_BINARY: Final = "application/octet-stream"
_LOOKED_AT_BYTES: Final = 64 * 1024

# What the standard library does not know, or takes for something else than those who work with agents mean.
_BY_SUFFIX: Final = {
    ".diff": "text/x-diff",
    ".go": "text/x-go",
    ".ini": "text/plain",
    ".js": "text/javascript",
    ".jsonl": "text/plain",
    ".jsx": "text/javascript",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".patch": "text/x-diff",
    ".rs": "text/x-rust",
    ".sh": "text/x-shellscript",
    ".sql": "text/x-sql",
    ".toml": "application/toml",
    ".ts": "text/typescript",
    ".tsx": "text/typescript",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_BY_PACKING: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_BY_FIRST_BYTES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)


def guess_media_type(name: str, data: bytes) -> str:
    """Guess a media type; the same on every machine."""
    return _by_name(name) or _by_bytes(data)


def _by_name(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    guessed, packing = _known_types().guess_type(f"file{''.join(PurePosixPath(name).suffixes[-2:])}".lower())
    if packing:
        return _BY_PACKING.get(packing, _BINARY)
    return guessed or ""


def _by_bytes(data: bytes) -> str:
    for start, media_type in _BY_FIRST_BYTES:
        if data.startswith(start):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "text/plain" if _is_text(data[:_LOOKED_AT_BYTES]) else _BINARY


def _is_text(data: bytes) -> bool:
    if b"\x00" in data:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # a character may be cut off at the end
    except UnicodeDecodeError:
        return False
    return True


@cache
def _known_types() -> mimetypes.MimeTypes:
    """Give the types that come with Python, without those that the system was set up with."""
    return mimetypes.MimeTypes()
