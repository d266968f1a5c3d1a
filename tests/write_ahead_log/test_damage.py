"""Logs in files whose bytes were lost or changed: a prefix of what was written comes back, or a refusal."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contextdna.backends.segmented_log import look_into_log
from contextdna.backends.segmented_log.segments import Segments
from contextdna.backends.segmented_log.snapshots import SnapshotFolder
from contextdna.errors import IntegrityFault, StorageUnavailable
from tests.servers.postgres import EVERYWHERE

Groups = list[list[list[bytes]]]
"""Units of entries, in groups that are flushed together."""

GROUPS: Final = st.lists(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=3), min_size=1, max_size=3), min_size=1, max_size=6
)


TIMES: Final = 50 if EVERYWHERE else 1


def opened(folder: Path) -> Segments:
    return Segments(folder, sealer=None, segment_bytes=250, size_bytes_max=0)


@contextmanager
def written(groups: Groups, *, closed: bool) -> Iterator[Path]:
    """Give the folder of a log; one that is not closed is as its process would leave it that was killed."""
    with TemporaryDirectory() as name:
        log = opened(Path(name))
        for units in groups:
            log.append(units)
        log.close() if closed else log._let_go()
        yield Path(name)


def entries_of(groups: Groups) -> list[bytes]:
    return [entry for units in groups for entries in units for entry in entries]


def recovered(folder: Path) -> list[bytes] | None:
    """Give what a log gives back; None where it is refused."""
    try:
        log = opened(folder)
    except IntegrityFault:
        return None
    try:
        found: list[bytes] = []
        while page := log.page(len(found)):
            found += [entry.data for entry in page]
        assert len(found) == log.last_seq
        return found
    finally:
        log.close()


def segments_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wal"))


@settings(max_examples=15 * TIMES)
@given(groups=GROUPS, data=st.data())
def test_a_log_that_was_cut_off_gives_back_a_prefix_and_takes_more(groups: Groups, data: st.DataObject) -> None:
    with written(groups, closed=False) as folder:
        last = segments_of(folder)[-1]
        size = data.draw(st.integers(48, last.stat().st_size))
        os.truncate(last, size)
        found = recovered(folder)
        assert found is not None
        units = [entries for units in groups for entries in units]
        assert found in [[entry for unit in units[:n] for entry in unit] for n in range(len(units) + 1)]
        log = opened(folder)
        log.append([[b"more"]])
        log.close()
        assert recovered(folder) == [*found, b"more"]


@settings(max_examples=15 * TIMES)
@given(groups=GROUPS, data=st.data())
def test_a_log_that_is_cut_off_after_it_was_closed_is_refused(groups: Groups, data: st.DataObject) -> None:
    with written(groups, closed=True) as folder:
        last = segments_of(folder)[-1]
        os.truncate(last, data.draw(st.integers(0, last.stat().st_size)))
        found, view = recovered(folder), look_into_log(folder)
        assert (found, view.damage is None) in ((None, False), (entries_of(groups), True))
        (folder / "end").write_bytes(b"not whole")
        log = opened(folder) if found else None
        if log:
            log.append([[b"more"]])
            log.close()
            assert recovered(folder) == [*entries_of(groups), b"more"]


@settings(max_examples=30 * TIMES)
@given(groups=GROUPS, data=st.data())
def test_a_log_with_a_changed_bit_gives_back_a_prefix_or_is_refused(groups: Groups, data: st.DataObject) -> None:
    closed = data.draw(st.booleans())
    with written(groups, closed=closed) as folder:
        segments = segments_of(folder)
        path = data.draw(st.sampled_from(segments))
        place = data.draw(st.integers(0, path.stat().st_size * 8 - 1))
        changed = bytearray(path.read_bytes())
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        found, before = recovered(folder), entries_of(groups)
        if found is None:
            return
        assert path == segments[-1]
        flushed_before = len(entries_of(groups[:-1]))
        assert found == before[: len(found)]
        assert len(found) >= (len(before) if closed else flushed_before), "only a last group may be taken for torn"


@settings(max_examples=10 * TIMES)
@given(groups=GROUPS, data=st.data())
def test_a_log_without_one_of_its_segments_is_refused(groups: Groups, data: st.DataObject) -> None:
    with written(groups, closed=True) as folder:
        data.draw(st.sampled_from(segments_of(folder))).unlink()
        assert recovered(folder) is None
        assert look_into_log(folder).damage


def test_what_looks_like_a_frame_within_an_entry_is_none(tmp_path: Path) -> None:
    log = opened(tmp_path / "one")
    log.append([[b"a"], [b"b"]])
    log._let_go()
    inner = segments_of(tmp_path / "one")[0].read_bytes()
    log = opened(tmp_path / "two")
    log.append([[b"kept"]])
    log.append([[inner * 3]])
    log._let_go()
    path = segments_of(tmp_path / "two")[-1]
    os.truncate(path, path.stat().st_size - 1)
    assert recovered(tmp_path / "two") == [b"kept"]


def test_what_was_behind_a_torn_frame_never_comes_back(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([[b"kept"]])
    torn = segments_of(tmp_path)[0].stat().st_size + 16
    log.append([[b"first"], [b"stale"]])
    log._let_go()
    with open(segments_of(tmp_path)[0], "r+b") as file:  # as if the disk had taken the second of both only
        file.seek(torn)
        file.write(b"\xff" * 8)
    log = opened(tmp_path)
    log.append([[b"fresh"]])  # as long as what was torn
    log._let_go()
    assert recovered(tmp_path) == [b"kept", b"fresh"]


class Disk:
    """Notes what would outlast a loss of power: contents as they were flushed, under names as their folder was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        fsync = os.fsync

        def note(descriptor: int) -> None:
            fsync(descriptor)
            at = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if at.is_dir():
                self._names |= {path.name: path.stat().st_ino for path in at.iterdir()}
                self._names = {name: inode for name, inode in self._names.items() if (at / name).exists()}
            else:
                self._contents[at.stat().st_ino] = at.read_bytes()

        monkeypatch.setattr(os, "fsync", note)

    def lose_power(self, folder: Path, into: Path, *, lost: Callable[[int], int]) -> None:
        """Make a folder of what is left; of what was not flushed some of the bytes are there, or zeros for them."""
        into.mkdir()
        for name, inode in self._names.items():
            flushed = self._contents.get(inode, b"")
            path = folder / name
            later = path.read_bytes()[len(flushed) :] if path.exists() and path.stat().st_ino == inode else b""
            keep = lost(len(later))
            (into / name).write_bytes(flushed + later[:keep] + bytes(len(later) - keep))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files are read from /proc")
@pytest.mark.parametrize("lost", [lambda _: 0, lambda n: n, lambda n: n // 2], ids=["all", "nothing", "half"])
def test_what_was_acknowledged_outlasts_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Callable[[int], int]
) -> None:
    disk, write = Disk(monkeypatch), os.write
    folder, turns = tmp_path / "log", iter(range(1000))
    log = opened(folder)
    acknowledged: list[bytes] = []
    pending: list[bytes] = []

    def cut(descriptor: int, part: Any) -> int:
        count = write(descriptor, part)
        into = tmp_path / f"after-{next(turns)}"
        disk.lose_power(folder, into, lost=lost)
        left, forgotten = _left(into)
        assert left in (acknowledged[forgotten:], (acknowledged + pending)[forgotten:])
        assert forgotten >= log.forgotten
        return count

    monkeypatch.setattr(os, "write", cut)
    for number in range(30):
        pending[:] = [b"%d" % number, b"x" * number]
        log.append([pending])
        acknowledged += pending
        pending.clear()
        if number in (15, 20):
            log.forget(log.last_seq - (number - 15))
    log.close()


def _left(folder: Path) -> tuple[list[bytes], int]:
    log = opened(folder)
    found: list[bytes] = []
    while page := log.page(log.forgotten + len(found)):
        found += [entry.data for entry in page]
    log._let_go()
    return found, log.forgotten


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_disk_that_fails_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    log = opened(tmp_path)
    log.append([[b"kept"]])
    with monkeypatch.context() as patched:
        write = os.write

        def fail(descriptor: int, part: bytes = b"") -> int:
            if failing == "write":
                write(descriptor, part[:3])
            raise OSError(28, "No space left on device")

        patched.setattr(os, failing, fail)
        with pytest.raises(StorageUnavailable) as refused:
            log.append([[b"not kept"]])
    assert refused.value.code == ("storage_full" if failing == "write" else "storage_outcome_unknown")
    if failing == "write":
        log.append([[b"later"]])
    else:  # a second flush would tell nothing
        with pytest.raises(StorageUnavailable) as refused:
            log.append([[b"later"]])
        assert refused.value.code == "log_closed"
        assert not log.status().sound
    log.close()
    assert recovered(tmp_path) == [b"kept", b"later" if failing == "write" else b"not kept"]


def test_a_log_that_is_as_large_as_it_may_get_takes_more_once_it_is_applied(tmp_path: Path) -> None:
    log = Segments(tmp_path, sealer=None, segment_bytes=250, size_bytes_max=400)
    [kept, refused, small] = log.append([[b"x" * 200], [b"x" * 200], [b"y"]])
    assert (kept, small) == (1, 2)
    assert isinstance(refused, StorageUnavailable)
    assert (refused.code, refused.retryable) == ("log_full", True)
    log.forget(2)
    assert log.append([[b"x" * 200]]) == [3]
    log.close()


@pytest.mark.anyio
async def test_a_snapshot_is_whole_or_refused(tmp_path: Path) -> None:
    snapshots = SnapshotFolder(tmp_path)
    assert await snapshots.load() is None
    await snapshots.save("ab" * 16, 7, iter([b"one", b"two"]))
    await snapshots.save("ab" * 16, 9, iter([b"three", b"four"]))
    loaded = await snapshots.load()
    assert loaded is not None
    assert (loaded.log_id, loaded.seq, loaded.chunks) == ("ab" * 16, 9, (b"three", b"four"))
    path = tmp_path / f"{9:020}.snapshot"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(IntegrityFault):
            await snapshots.load()
        path.write_bytes(whole[:place])
        with pytest.raises(IntegrityFault):
            await snapshots.load()
