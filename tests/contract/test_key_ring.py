"""Contract of ``KeyRing``, and of the files and texts that master keys come from."""

import base64
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from contextdna.backends.key_ring import (
    MasterKeyRing,
    add_master_key,
    create_key_file,
    master_key_id,
    parse_master_key,
    read_key_file,
)
from contextdna.errors import ContextDnaError, IntegrityFault, SettingsInvalid, StorageUnavailable
from contextdna.ports.storage import KeyRing

KEY: Final = bytes(range(32))
OTHER_KEY: Final = bytes(range(1, 33))
KEY_ID: Final = f"mk_{hashlib.sha256(KEY).hexdigest()[:8]}"
PROJECT_KEY: Final = b"p" * 32
PROCESSES: Final = 6
posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")


@pytest.fixture(params=["value", "file"])
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> KeyRing:
    """Give a ring of one key, once for each source."""
    if request.param == "value":
        return parse_master_key(KEY.hex())
    return create_key_file(tmp_path / "keys")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "master-keys"


def refusal(call: Callable[..., Any], *args: Any) -> ContextDnaError:
    with pytest.raises(ContextDnaError) as refused:
        call(*args)
    assert refused.value.hint
    return refused.value


# The port


@pytest.mark.parametrize("key", [b"", PROJECT_KEY, b"x" * 1000], ids=["empty", "key", "long"])
def test_a_wrapped_key_unwraps(ring: KeyRing, key: bytes) -> None:
    wrapped = ring.wrap(key, b"where it belongs")
    assert ring.unwrap(ring.current_id, wrapped, b"where it belongs") == key


def test_wrapping_twice_gives_different_bytes_that_hide_the_key(ring: KeyRing) -> None:
    one, other = ring.wrap(PROJECT_KEY, b""), ring.wrap(PROJECT_KEY, b"")
    assert one != other
    assert PROJECT_KEY not in one
    assert len(one) == 12 + len(PROJECT_KEY) + 16


@pytest.mark.parametrize("place", [0, 11, 12, 43, 44, 59])
def test_a_changed_byte_is_noticed(ring: KeyRing, place: int) -> None:
    wrapped = bytearray(ring.wrap(PROJECT_KEY, b"here"))
    wrapped[place] ^= 1
    assert refusal(ring.unwrap, ring.current_id, bytes(wrapped), b"here").code == "wrong_key"


@pytest.mark.parametrize("length", [0, 5, 27, 59])
def test_cut_bytes_are_noticed(ring: KeyRing, length: int) -> None:
    wrapped = ring.wrap(PROJECT_KEY, b"here")[:length]
    assert refusal(ring.unwrap, ring.current_id, wrapped, b"here").code == "wrong_key"


def test_a_key_opens_only_where_it_belongs(ring: KeyRing) -> None:
    wrapped = ring.wrap(PROJECT_KEY, b"here")
    assert refusal(ring.unwrap, ring.current_id, wrapped, b"there").code == "wrong_key"


def test_another_master_key_does_not_open(ring: KeyRing) -> None:
    wrapped = ring.wrap(PROJECT_KEY, b"here")
    other = parse_master_key(OTHER_KEY.hex())
    for master_id in (ring.current_id, other.current_id, ""):
        fault = refusal(other.unwrap, master_id, wrapped, b"here")
        assert isinstance(fault, IntegrityFault)
        assert fault.code == "wrong_key"


# Texts


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(KEY.hex(), id="hex"),
        pytest.param(KEY.hex().upper(), id="upper-case-hex"),
        pytest.param(base64.b64encode(KEY).decode(), id="base64"),
        pytest.param(base64.b64encode(KEY).decode().rstrip("="), id="base64-unpadded"),
        pytest.param(f" {KEY.hex()}\n", id="blanks-around"),
    ],
)
def test_a_key_is_read_from_text(text: str) -> None:
    assert parse_master_key(text).current_id == KEY_ID == master_key_id(KEY)
    wrapped = parse_master_key(KEY.hex()).wrap(PROJECT_KEY, b"")
    assert parse_master_key(text).unwrap(KEY_ID, wrapped, b"") == PROJECT_KEY


@pytest.mark.parametrize("between", [",", " ", ", ", "\n", " ,\n"])
def test_of_several_keys_the_last_is_current_and_the_others_open(between: str) -> None:
    wrapped = parse_master_key(KEY.hex()).wrap(PROJECT_KEY, b"")
    ring = parse_master_key(between.join((KEY.hex(), base64.b64encode(OTHER_KEY).decode())))
    assert ring.current_id == master_key_id(OTHER_KEY)
    assert ring.unwrap(KEY_ID, wrapped, b"") == PROJECT_KEY


def test_url_safe_base64_is_read() -> None:
    key = b"\xfb\xff" * 16
    assert parse_master_key(base64.urlsafe_b64encode(key).decode()).current_id == master_key_id(key)


@pytest.mark.parametrize(
    "text", ["", "secret", "zz" * 32, KEY.hex()[:-2], KEY.hex() + "00", "é" * 64, "=" * 44, ",", f"{KEY.hex()},x"]
)
def test_a_text_that_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    refused = refusal(parse_master_key, text)
    assert isinstance(refused, SettingsInvalid)
    assert refused.code == "master_key_invalid"
    assert not text or text not in refused.message + refused.hint


@pytest.mark.parametrize(
    ("keys", "current_id"),
    [({}, "mk_1"), ({"mk_1": KEY}, "mk_2"), ({"mk_1": KEY[:-1]}, "mk_1"), ({"mk_1": KEY, "mk_2": b""}, "mk_1")],
    ids=["none", "current-missing", "short", "empty"],
)
def test_a_ring_without_a_whole_current_key_is_refused(keys: dict[str, bytes], current_id: str) -> None:
    assert refusal(MasterKeyRing, keys, current_id).code == "master_key_invalid"


def test_a_ring_does_not_print_its_keys() -> None:
    ring = parse_master_key(KEY.hex())
    assert KEY_ID in repr(ring)
    assert KEY.hex() not in repr(ring)
    assert repr(KEY) not in repr(ring)


# Files


def test_a_created_file_is_read_again(path: Path) -> None:
    created = create_key_file(path)
    wrapped = created.wrap(PROJECT_KEY, b"")
    for again in (read_key_file(path), create_key_file(path)):
        assert again.current_id == created.current_id
        assert again.unwrap(created.current_id, wrapped, b"") == PROJECT_KEY


def test_creating_leaves_nothing_else_behind(path: Path) -> None:
    create_key_file(path)
    add_master_key(path)
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_is_never_overwritten(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a key file")
    path.chmod(0o600)
    assert refusal(create_key_file, path).code == "key_file_invalid"
    assert path.read_text() == "not a key file"


@posix_only
def test_only_the_owner_may_read_a_created_file(path: Path) -> None:
    create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    add_master_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    create_key_file(path)
    path.chmod(mode)
    for call in (read_key_file, create_key_file, add_master_key):
        refused = refusal(call, path)
        assert isinstance(refused, SettingsInvalid)
        assert refused.code == "key_file_permissions"
        assert "chmod 600" in refused.hint
    assert list(path.parent.iterdir()) == [path]


@posix_only
@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_file_of_ones_own_is_accepted(path: Path, mode: int) -> None:
    ring = create_key_file(path)
    path.chmod(mode)
    assert read_key_file(path).current_id == ring.current_id


def test_a_missing_file_is_named(path: Path) -> None:
    refused = refusal(read_key_file, path)
    assert isinstance(refused, SettingsInvalid)
    assert refused.code == "key_file_missing"
    assert str(path) in refused.message
    path.parent.mkdir()
    assert refusal(add_master_key, path).code == "key_file_missing"
    assert list(path.parent.iterdir()) == []


def test_added_keys_become_current_and_older_ones_still_open(path: Path) -> None:
    rings = [create_key_file(path), add_master_key(path), add_master_key(path)]
    assert len({ring.current_id for ring in rings}) == 3
    last = read_key_file(path)
    assert last.current_id == rings[2].current_id
    for ring in rings:
        assert last.unwrap(ring.current_id, ring.wrap(PROJECT_KEY, b""), b"") == PROJECT_KEY
    fault = refusal(rings[0].unwrap, last.current_id, last.wrap(PROJECT_KEY, b""), b"")
    assert fault.code == "wrong_key"


def test_the_file_is_text_with_one_key_a_line(path: Path) -> None:
    first, second = create_key_file(path), add_master_key(path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line.split(" ")[0] for line in lines] == [first.current_id, second.current_id]
    assert all(len(base64.b64decode(line.split(" ")[1])) == 32 for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("# a comment only\n", id="comment-only"),
        pytest.param(f"{KEY_ID}\n", id="no-key"),
        pytest.param(f"{KEY_ID} {KEY.hex()[:-4]}\n", id="cut-key"),
        pytest.param(f"{KEY_ID} {OTHER_KEY.hex()}\n", id="id-of-another-key"),
        pytest.param(f"{KEY_ID} {KEY.hex()}\nrubbish\n", id="rubbish-after"),
        pytest.param("\xff\xfe", id="not-ascii"),
    ],
)
def test_a_damaged_file_is_refused(path: Path, text: str) -> None:
    create_key_file(path)
    path.write_text(text, encoding="latin-1")
    for call in (read_key_file, add_master_key):
        refused = refusal(call, path)
        assert isinstance(refused, SettingsInvalid)
        assert refused.code == "key_file_invalid"
    assert path.read_text(encoding="latin-1") == text


def test_hex_keys_and_blank_lines_are_read(path: Path) -> None:
    create_key_file(path)
    path.write_text(f"# mine\n\n{master_key_id(OTHER_KEY)} {OTHER_KEY.hex()}\n  {KEY_ID}   {KEY.hex()}  \n")
    assert read_key_file(path).current_id == KEY_ID


def test_keys_are_added_by_one_process_at_a_time(path: Path) -> None:
    ring = create_key_file(path)
    lock = path.with_name(f".{path.name}.lock")
    lock.touch()
    assert refusal(add_master_key, path).code == "key_file_busy"
    assert read_key_file(path).current_id == ring.current_id
    lock.unlink()
    assert add_master_key(path).current_id != ring.current_id


@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_failing_disk_leaves_the_old_keys(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    ring = create_key_file(path)
    text = path.read_text()

    def fail(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        assert isinstance(refusal(lambda: add_master_key(path)), StorageUnavailable)
        assert isinstance(refusal(lambda: create_key_file(path.with_name("new"))), StorageUnavailable)
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]
    assert read_key_file(path).current_id == ring.current_id


def test_a_file_system_without_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    ring = create_key_file(path)
    assert create_key_file(path).current_id == ring.current_id
    assert list(path.parent.iterdir()) == [path]


_CREATE: Final = """
import sys
from pathlib import Path
from contextdna.backends.key_ring import create_key_file
print("ready", flush=True)
sys.stdin.readline()
print(create_key_file(Path(sys.argv[1])).current_id, flush=True)
"""


def test_processes_that_create_the_file_at_once_share_one_key(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CREATE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        key_ids = {process.communicate(timeout=60)[0] for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert key_ids == {f"{read_key_file(path).current_id}\n"}
    assert list(path.parent.iterdir()) == [path]


def test_the_loser_of_a_race_reads_the_winners_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    winner = create_key_file(path)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert create_key_file(path).current_id == winner.current_id
    assert read_key_file(path).current_id == winner.current_id


def test_a_digest_is_the_same_wherever_the_key_is_and_another_under_another_key(ring: KeyRing, tmp_path: Path) -> None:
    digest = ring.digest(b"data")
    assert len(digest) == 32
    assert digest == ring.digest(b"data")
    assert digest not in (ring.digest(b"datb"), parse_master_key(OTHER_KEY.hex()).digest(b"data"))
    if ring.current_id == KEY_ID:
        assert parse_master_key(f"{OTHER_KEY.hex()},{KEY.hex()}").digest(b"data") == digest
        assert KEY not in (digest, ring.digest(b""))
