"""Which local files attach_artifact reads, and that it says so where it cannot read any safely."""

import os
import sys
from pathlib import Path

import pytest

from contextdna import InvalidInput, LimitExceeded, open_hub
from contextdna_tools import artifacts
from contextdna_tools.artifacts import read_local_file
from tests.hub.rig import ALICE, settings_in
from tests.tools.calling import calling

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows reads no local files")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "note.txt").write_text("all is well")
    (tmp_path / "outside.txt").write_text("not for you")
    return folder


def code_of(path: Path, *roots: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        read_local_file(str(path), roots, 100)
    assert "outside" not in caught.value.message
    return caught.value.code


@posix
def test_a_file_inside_an_allowed_root_is_read(root: Path) -> None:
    assert read_local_file(str(root / "inner" / "note.txt"), (root,), 100) == b"all is well"


@posix
def test_links_folders_pipes_and_what_lies_outside_are_refused(root: Path, tmp_path: Path) -> None:
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "way").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    for path in (root / "link.txt", root / "way" / "outside.txt", root / "inner", root / "pipe", root,
                 tmp_path / "outside.txt", root / ".." / "outside.txt", Path("note.txt")):  # fmt: skip
        assert code_of(path, root) == "path_not_allowed", path


@posix
def test_a_file_or_a_root_that_is_not_there_cannot_be_read(root: Path, tmp_path: Path) -> None:
    assert code_of(root / "absent.txt", root) == "path_unreadable"
    assert code_of(tmp_path / "gone" / "note.txt", tmp_path / "gone") == "path_unreadable"


@posix
def test_a_file_over_the_limit_is_refused(root: Path) -> None:
    with pytest.raises(LimitExceeded) as caught:
        read_local_file(str(root / "inner" / "note.txt"), (root,), 5)
    assert caught.value.code == "artifact_too_large"


@pytest.fixture
def data(root: Path) -> Path:
    """Make a data folder inside the allowed root."""
    folder = root / "data"
    (folder / "artifacts").mkdir(parents=True)
    (folder / "master.key").write_text("secret")
    (folder / "artifacts" / "of-bob").write_text("secret")
    return folder


def refusal(path: Path, root: Path, data: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        read_local_file(str(path), (root,), 100, data)
    return caught.value.code


@posix
def test_the_data_folder_is_never_read_whatever_the_roots_are(root: Path, data: Path) -> None:
    key, artifact = data / "master.key", data / "artifacts" / "of-bob"
    for path, allowed in ((key, root), (artifact, root), (key, data), (artifact, artifact.parent)):
        assert refusal(path, allowed, data) == "path_not_allowed", (path, allowed)
    (root / "way").symlink_to(data)
    assert refusal(root / "way" / "master.key", root / "way", data) == "path_not_allowed"
    assert read_local_file(str(root / "inner" / "note.txt"), (root,), 100, data) == b"all is well"


@posix
def test_hard_links_to_files_of_the_data_folder_are_refused(root: Path, data: Path) -> None:
    for number, target in enumerate((data / "master.key", data / "artifacts" / "of-bob")):
        (root / f"note{number}.txt").hardlink_to(target)
        assert refusal(root / f"note{number}.txt", root, data) == "path_not_allowed"
    (root / "again.txt").hardlink_to(root / "inner" / "note.txt")
    assert read_local_file(str(root / "again.txt"), (root,), 100, data) == b"all is well"


@posix
@pytest.mark.anyio
async def test_the_tool_does_not_read_the_key_of_its_own_installation(tmp_path: Path) -> None:
    async with (
        open_hub(settings_in(tmp_path / "data")) as hub,
        calling(ALICE, "legacy", hub=hub, roots=(tmp_path,)) as alice,
    ):
        (tmp_path / "innocent.txt").hardlink_to(tmp_path / "data" / "master.key")
        for path in ("data/master.key", "data/contextdna.db", "innocent.txt"):
            error = await alice.error("attach_artifact", path=str(tmp_path / path))
            assert error["code"] == "path_not_allowed"


def test_a_server_without_roots_says_how_else_to_attach() -> None:
    with pytest.raises(InvalidInput) as caught:
        artifacts.read_local_file("/etc/hosts", (), 100)
    assert caught.value.code == "path_not_allowed"
    assert all(way in caught.value.hint for way in ("text", "base64", "s3://"))


def test_a_system_that_cannot_open_step_by_step_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_OPENS_STEP_BY_STEP", False)
    assert code_of(root / "inner" / "note.txt", root) == "path_unsupported"
