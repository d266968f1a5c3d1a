"""What the benchmark of faults finds wrong when it is there, and that the documents show what was kept."""

import asyncio
import json
import random
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.__main__ import main
from benchmarks.faults.agents import code_of
from benchmarks.faults.cases import FAULTS
from benchmarks.faults.promises import Findings, Found, Note, Said
from benchmarks.faults.relay import HOST, Relay, is_open, relayed
from benchmarks.faults.tables import BEGIN, END, parts, tables, write_page
from tests.servers.postgres import EVERYWHERE

DICE = random.Random(1)  # noqa: S311 - a seed, not a secret
KEPT = json.loads(faults.KEPT.read_text(encoding="utf-8"))["tables"]["faults"]


def test_the_page_shows_the_faults_that_were_kept() -> None:
    _, shown, _ = parts(faults.PAGE.read_text(encoding="utf-8"))
    assert shown == f"{BEGIN}\n{tables(KEPT)}{END}"


def test_what_was_kept_is_the_whole_matrix_with_nothing_lost() -> None:
    assert {(row["dependency"], row["fault"]) for row in KEPT} == {(fault.dependency, fault.name) for fault in FAULTS}
    assert all(row["acknowledged"] and not row["lost"] and not row["twice"] and not row["misread"] for row in KEPT)
    assert all(row["back_after_s"] >= 0 for row in KEPT)


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no place for it", encoding="utf-8")
    with pytest.raises(ValueError, match="no markers"):
        write_page(page, KEPT)
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind", encoding="utf-8")
    write_page(page, KEPT)
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n{tables(KEPT)}{END}\nbehind"


@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        ([Found("m1", "k1 second", 2)], {}),
        ([Found("m1", "k1 third", 3)], {}),
        ([], {"lost": ["k1"]}),
        ([Found("m1", "k1 first", 1)], {"lost": ["k1, version 2"]}),
        ([Found("m1", "k1 other", 2)], {"lost": ["k1, version 2"]}),
        ([Found("m1", "k1 third", 4)], {"twice": ["k1, version 4"]}),
        ([Found("m2", "k1 second", 2)], {"elsewhere": ["k1"]}),
        ([Found("m1", "k1 second", 2), Found("m2", "k1 first", 1)], {"twice": ["k1"]}),
    ],
)
def test_memories_are_held_to_what_was_told(there: list[Found], wrong: dict[str, list[str]]) -> None:
    findings = Findings()
    told = Note("k1", "k1 second", "m1", version=2, unsure=["k1 third"])
    findings.judge_notes([told, Note("k2", "k2 never acknowledged")], there)
    assert findings == Findings(**wrong)


def test_conversations_are_held_to_what_was_told() -> None:
    said = Said(turns={"a": True, "b": False, "c": True, "d": True})
    findings = Findings()
    findings.judge_turns(said, ["a", "c", "b", "d"])
    assert findings == Findings()
    findings.judge_turns(said, ["c", "a", "a"])
    assert (findings.lost, findings.twice, findings.out_of_order) == (["d"], ["a"], ["0"])


def test_artifacts_are_held_to_what_was_told() -> None:
    findings = Findings()
    findings.judge_artifacts({"x": "text", "y": "text", "z": "text"}, {"x": b"text", "y": b"other"})
    assert findings.lost == ["y", "z"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"result": {"content": [{"text": '{"error":{"code":"storage_full"}}'}]}}, "storage_full"),
        ({"error": {"code": -32603, "data": {"code": "storage_unreachable"}}}, "storage_unreachable"),
        ({"error": {"code": -32603}}, "-32603"),
        ({}, "unreadable"),
    ],
)
def test_codes_are_read_from_results_and_errors(answer: dict[str, object], code: str) -> None:
    assert code_of(answer) == code


@pytest.mark.anyio
async def test_a_relay_passes_on_and_breaks_connections_at_a_random_byte() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    async def echoed(relay: Relay) -> int:
        reader, writer = await asyncio.open_connection(HOST, relay.port)
        writer.write(bytes(5000))
        try:
            return len(await reader.readexactly(5000))
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0
        finally:
            writer.close()

    async with await asyncio.start_server(echo, HOST, 0) as far:
        async with relayed(far.sockets[0].getsockname()[1], DICE) as relay:
            assert await echoed(relay) == 5000
            relay.breaks_within = 4000
            assert await echoed(relay) == 0
            relay.breaks_within = 0
            assert await echoed(relay) == 5000
        assert not is_open(relay.port)


@pytest.mark.skipif(not EVERYWHERE, reason="takes half a minute: CONTEXTDNA_TEST_EVERYWHERE=1")
@pytest.mark.parametrize("fault", ["small:sqlite:cut", "large:redis:killed"])
def test_a_fault_loses_nothing(fault: str, tmp_path: Path) -> None:
    kept = tmp_path / "found.json"
    main(["faults", "--only", fault, "--json", str(kept)])
    [row] = json.loads(kept.read_text(encoding="utf-8"))["tables"]["faults"]
    assert row["acknowledged"] > 10
    assert not any(row[name] for name in ("lost", "twice", "elsewhere", "out_of_order", "though_refused", "misread"))
    assert row["back_after_s"] >= 0
