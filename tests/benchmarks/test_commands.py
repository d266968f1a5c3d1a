"""Every benchmark runs, in sizes that tell nothing, and finds what it is for."""

import asyncio
import gzip
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp import Client

from benchmarks import abandoned, cold_start, memory, recall, remote, stdio
from benchmarks import all as everything
from benchmarks.__main__ import main
from benchmarks.callers import Refused
from benchmarks.commands import COMMANDS, command_named
from benchmarks.corpus import Fact
from benchmarks.floor_server import floor_server, http_app
from benchmarks.http1 import Address, Connection
from benchmarks.http_servers import FLOOR, Running, lost
from contextdna import AgentId, HubSettings, Principal, ProjectId, Role, open_hub
from contextdna_server.app import build_server
from contextdna_server.http.serving import bound_socket
from tests.http.running import running
from tests.servers.postgres import fresh_database_url
from tests.servers.redis import redis_url

ROOT = Path(__file__).parents[2]
Found = Mapping[str, Any]
Run = Callable[..., Found]

LOCOMO = [
    {
        "sample_id": "made-up",
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Bo",
            "session_1_date_time": "1 May 2030",
            "session_1": [
                {"speaker": "Ada", "dia_id": "D1:1", "text": "I bought a violin in the market hall."},
                {"speaker": "Bo", "dia_id": "D1:2", "text": "My kettle is broken, and the plumber has no time."},
            ],
            "session_2_date_time": "9 May 2030",
            "session_2": [{"speaker": "Bo", "dia_id": "D2:1", "text": "The plumber repaired the pipe after all."}],
        },
        "qa": [
            {"question": "Where did Ada buy the violin?", "evidence": ["D1:1"], "category": 4},
            {"question": "What did the plumber do?", "evidence": ["D1:2; D2:1"], "category": 1},
            {"question": "Does Ada have a cat?", "evidence": [], "category": 5},
        ],
    }
]
LONGMEMEVAL = [
    {
        "question_id": f"q1{ending}",
        "question_type": "single-session-user",
        "question": "Which instrument did I buy?",
        "question_date": "2030/05/20",
        "haystack_session_ids": ["a", "b"],
        "haystack_dates": ["2030/05/01", "2030/05/09"],
        "haystack_sessions": [
            [{"role": "user", "content": "I bought an instrument, a violin.", "has_answer": True}],
            [{"role": "user", "content": "The kettle is broken."}, {"role": "assistant", "content": "Call a plumber."}],
        ],
        "answer_session_ids": ["a"],
    }
    for ending in ("", "_abs")
]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a benchmark and give what it kept; it was printed, too."""

    def run(*arguments: str) -> Found:
        kept = tmp_path / "found.json"
        main([*arguments, "--json", str(kept)])
        found: Found = json.loads(kept.read_text(encoding="utf-8"))
        printed = capsys.readouterr().out
        assert all(title in printed for title in found["tables"])
        return found

    return run


@asynccontextmanager
async def connected_here(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """Connect to the server that a command would start, in this process: starting one takes a second."""
    assert not environment
    if "benchmarks.floor_server" in command:
        async with Client(floor_server()) as client:
            yield client
        return
    named = tuple(ProjectId(word) for at, word in enumerate(command) if command[at - 1] == "--project")
    folder = Path(command[command.index("--data") + 1])
    settings = HubSettings(data_dir=folder, projects=(*named, ProjectId("default")))
    user = Principal(AgentId("user"), settings.projects, role=Role.SYSTEM)
    async with open_hub(settings) as hub, Client(build_server(hub, identity=lambda: user)) as client:
        yield client


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, recall, stdio):
        monkeypatch.setattr(module, "connected", connected_here)


def test_latency_is_measured_beside_the_floor_with_and_without_a_writer(run: Run, tmp_path: Path) -> None:
    small = ["--sizes", "200", "--questions", "4", "--warmup", "1", "--keep", str(tmp_path / "kept")]
    found = run("latency", *small, "--callers", "1,3", "--roles", "agent")
    asked = found["tables"]["retrieve_context"]
    assert [(row["question"], row["callers"]) for row in asked] == [
        ("three words", 1),
        ("three words", 3),
        ("sentence", 1),
        ("sentence", 3),
    ]
    assert all(row["found"] == row["floor_found"] == 1 for row in asked)
    assert "keep" not in found["options"]
    beside = run("latency", *small, "--callers", "2", "--roles", "system", "--writer")
    assert {row["role"] for row in beside["tables"]["retrieve_context"]} == {"system"}
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["zipf-200"]


def test_throughput_is_measured_one_by_one_from_many_and_in_batches(run: Run) -> None:
    found = run("throughput", "--calls", "4", "--callers", "2", "--batched", "10")
    assert all(row["per_s"] > 0 for row in found["tables"]["memories a second"])


def test_the_log_is_measured_beside_writes_without_it_and_with_sqlite(run: Run) -> None:
    found = run("wal", "--calls", "4", "--callers", "2", "--turns", "2")
    ways = ["in memory", "in memory, log unflushed", "in memory, log", "sqlite"]
    assert [row["way"] for row in found["tables"]["store"]] == [*ways, *ways]
    assert {row["log"] for row in found["tables"]["log"]} == {"files", "sqlite"}


def test_the_cache_is_measured_in_the_process_and_in_redis(run: Run) -> None:
    found = run("cache", "--calls", "4", "--callers", "2", "--redis", redis_url())
    assert {row["cache"] for row in found["tables"]["cache"]} == {"in process", "redis"}
    assert {row["call"] for row in found["tables"]["state"]} == {"write", "read, near", "read, far", "read, no cache"}
    assert "unix:" not in json.dumps(found)


def test_both_engines_are_held_to_the_same_targets(run: Run) -> None:
    small = ("--size", "20", "--calls", "4", "--few", "2", "--callers", "3", "--seconds", "0")
    found = run("engines", *small, "--redis", redis_url(), "--database", fresh_database_url())
    for table in ("calls", "dual write", "batch"):
        assert {row["database"] for row in found["tables"][table]} == {"sqlite", "postgresql"}
    assert {row["call"] for row in found["tables"]["calls"]} >= {"store", "read", "update"}
    assert "postgresql:" not in json.dumps(found)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("way", [(), ("--as", "turns"), ("--no-dates", "--limit", "2", "--max-tokens", "500")])
def test_recall_over_locomo_counts_answers_by_category(run: Run, tmp_path: Path, way: tuple[str, ...]) -> None:
    data = tmp_path / "talks.json.gz"
    data.write_bytes(gzip.compress(json.dumps(LOCOMO).encode()))
    found = run("recall", "--locomo", str(data), *way)
    rows = {row["category"]: row for row in found["tables"]["evidence by turn"]}
    assert {name: row["questions"] for name, row in rows.items()} == {"multi-hop": 1, "single-hop": 1, "all": 2}
    assert rows["all"]["recall@5"] == rows["all"]["MRR"] == 1
    assert found["options"]["locomo"] == data.name


@pytest.mark.usefixtures("in_this_process")
def test_recall_over_longmemeval_leaves_out_what_nothing_answers(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "questions.json"
    data.write_text(json.dumps(LONGMEMEVAL), encoding="utf-8")
    for rows in run("recall", "--longmemeval", str(data))["tables"].values():
        assert [(row["category"], row["questions"], row["MRR"]) for row in rows] == [
            ("single-session-user", 1, 1),
            ("all", 1, 1),
        ]


def test_recall_over_a_server_of_its_own(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "talks.json"
    data.write_text(json.dumps(LOCOMO), encoding="utf-8")
    found = run("recall", "--locomo", str(data), "--command", f"{sys.executable} -m contextdna_server serve")
    assert found["tables"]["evidence by session"][-1]["recall@5"] == 1


@pytest.mark.usefixtures("in_this_process")
def test_calls_are_measured_beside_the_floor(run: Run) -> None:
    found = run("stdio", "--memories", "20", "--calls", "4", "--warmup", "1")
    assert [row["call"] for row in found["tables"]["calls"]][2:4] == ["store_memory", "retrieve_context"]
    assert found["tables"]["beside"][-1]["value"] == 1


@pytest.mark.usefixtures("in_this_process")
def test_memory_and_bytes_are_measured(run: Run) -> None:
    found = run("memory", "--size", "200", "--questions", "2")
    on_disk = {row["part"]: row["bytes"] for row in found["tables"]["bytes on disk"]}
    whole = on_disk.pop("whole file")
    on_disk.pop("floor: bare FTS5, whole file")
    assert on_disk["records_index"] > 0
    assert whole * 0.7 < sum(on_disk.values()) <= whole


@asynccontextmanager
async def serving_here(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Serve what a command would over HTTP, in this process."""
    if tuple(command) == FLOOR:
        listening = bound_socket("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(http_app(), http="h11", ws="none", log_config=None))
        serving = asyncio.create_task(server.serve([listening]))
        yield Running(Address(*listening.getsockname()), os.getpid())
        server.should_exit = True
        await serving
        return
    http = {"session_idle_s": 0.2} if environment else {}
    async with running(Path(command[command.index("--data") + 1]), http=http) as served:
        host, _, port = served.url.removeprefix("http://").partition(":")
        yield Running(Address(host, int(port)), os.getpid())


def test_calls_over_http_are_measured_on_each_transport(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "serving", serving_here)
    monkeypatch.setattr(remote, "_BLOCK", 2)
    found = run("remote", "--memories", "10", "--clients", "2", "--seconds", "0.3", "--calls", "2", "--warmup", "0")
    calls = ["floor echo", "store_memory", "retrieve_context"]
    assert [row["call"] for row in found["tables"]["one client"]] == 3 * calls
    for row in found["tables"]["under load"]:
        assert row["errors"] == row["lost_writes"] == 0
        assert row["calls_per_s"] > 0
        assert row["found"] == 1


def test_errors_and_lost_writes_are_counted(tmp_path: Path) -> None:
    class Broken:
        async def connect(self) -> None:
            raise ConnectionError("not again")

        async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - a Caller
            raise Refused(tool)

        async def leave(self) -> None:
            """Nothing is open."""

    load = remote.Load([Fact("content", "question", "statement")], 1.0, random.Random(1))  # noqa: S311 - no secret
    with pytest.raises(ConnectionError):
        asyncio.run(remote._round([Broken()], load, load.draw, times={"store_memory": []}, seconds=10))
    assert load.errors == ["store_memory: Refused: store_memory"]
    assert asyncio.run(lost(tmp_path, ["mem_01m7zpnpqm0epqer50fvz0"])) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and drops packets")
def test_what_vanished_clients_leave_is_measured(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned, "serving", serving_here)
    for wait in ("_RETURN_S", "_MARGIN_S", "_POLL_S"):
        monkeypatch.setattr(abandoned, wait, 0.01)
    ways = cycle(abandoned.LEAVING.values())

    def leave(connection: Connection) -> None:
        next(ways)(connection)

    monkeypatch.setattr(abandoned, "LEAVING", {"some way": leave})
    small = ("--sessions", "2", "--streams", "3", "--agents", "2", "--idle", "0.5", "--silence", "0.01")
    found = run("abandoned", *small, "--warmup", "1")
    rows = found["tables"]["memory of the server"]
    streams = ["GET /sse, some way", "GET /mcp, some way"]
    assert [row["abandoned"] for row in rows] == ["sessions of one agent", "sessions of 2 agents", *streams]
    assert all(row["peak_mib"] > 0 for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_process_is_read() -> None:
    assert os.getpid() in set(memory.descendants(os.getppid()))
    assert memory.figures({os.getpid()})["rss_mb"] > 1


def test_starts_are_measured_in_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answering = (sys.executable, "-S", "-c", "input(); print('{\"result\": 1}')")
    monkeypatch.setattr(cold_start, "FLOOR", answering)
    monkeypatch.setattr(cold_start, "command_of", lambda _: answering)
    found = run("cold-start", "--rounds", "1", "--warmup", "1", "--fresh-data")
    assert [row["count"] for row in found["tables"]["time to the answer to initialize"]] == [1, 1]


def test_wakes_are_measured_within_and_across_processes(run: Run) -> None:
    found = run("signals", "--rounds", "1", "--warmup", "0", "--waiters", "2", "--seconds", "0.01")
    assert all(row["count"] == 1 for row in found["tables"]["from the sending call"])


def test_what_keeps_a_benchmark_from_measuring_is_said_in_one_line(tmp_path: Path) -> None:
    data = tmp_path / "talks.json"
    data.write_text("[1]", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^recall: talks\.json: a list of objects with 'conversation' is"):
        main(["recall", "--locomo", str(data)])


def test_all_steps_are_commands_that_can_be_given() -> None:
    given = ["--locomo", "talks.json", "--longmemeval", "questions.json", "--embedder", "wordllama"]
    for quick in ((), ("--quick",)):
        options = _parsed("all", [*given, *quick])
        steps = list(everything.steps(options))
        assert len({step.name for step in steps}) == len(steps)
        for step in steps:
            name, *rest = everything.arguments(step, quick=bool(quick), keep=Path("kept"))
            _parsed(name, rest)
    assert {step.command for step in steps} == {command.name for command in COMMANDS} - {"all", "plots"}


def _parsed(name: str, arguments: Sequence[str]) -> Any:
    command = command_named(name)
    assert command
    return command.parser().parse_args(arguments)


def test_the_plots_of_the_documents_are_those_that_kept_results_give(run: Run, tmp_path: Path) -> None:
    from benchmarks import plots  # here: matplotlib takes seconds to import, which else every process of a run does

    found = run("plots", "--into", str(tmp_path))
    drawn = [row["plot"] for row in found["tables"]["drawn"]]
    assert drawn == [f"{name}.svg" for name in plots.PLOTS]
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for file in drawn:
        assert f"(benchmarks/{file})" in page
        assert (ROOT / "docs" / "benchmarks" / file).exists()


def _times_of(*measured: tuple[int, int]) -> Found:
    figures = dict.fromkeys(("p50_ms", "p95_ms", "floor_p50_ms", "floor_p95_ms"), 1.5)
    kinds = ("three words", "sentence")
    where = [{"memories": size, "callers": callers, "question": kind} for size, callers in measured for kind in kinds]
    rows = [{**row, **figures, "role": "agent"} for row in where]
    return {"benchmark": "latency", "tables": {"retrieve_context": rows}}


@pytest.mark.parametrize(
    ("alone", "beside", "titles", "bars"),
    [
        ([(10, 1), (10, 8), (99, 1)], [(10, 1), (10, 64)], ["p50, 10 memories", "p95, 10 memories"], 3 + 2 + 2),
        ([(10, 1), (10, 8)], [(99, 1)], [f"{p}, {size} memories" for size in (10, 99) for p in ("p50", "p95")], 2 + 2),
        ([], [(99, 8)], ["p50, 99 memories", "p95, 99 memories"], 1 + 1),
        ([], [], [], 0),
    ],
)
def test_results_of_different_sizes_and_callers_are_drawn_as_far_as_they_go(
    alone: Sequence[tuple[int, int]], beside: Sequence[tuple[int, int]], titles: Sequence[str], bars: int
) -> None:
    from benchmarks import plots  # here: matplotlib takes seconds to import, which else every process of a run does

    results = {"latency": _times_of(*alone), "latency-writer": _times_of(*beside)}
    figure = plots.draw_callers(results)
    assert [axes.get_title() for axes in (figure.axes if figure else [])] == titles
    assert (len(figure.axes[0].patches) if figure else 0) == bars
    assert bool(plots.draw_latency(results)) == bool(alone)


def test_every_way_of_recall_is_drawn() -> None:
    from benchmarks import plots  # here: matplotlib takes seconds to import, which else every process of a run does

    rows = [{"category": "all", "recall@5": 0.5, "recall@10": 0.6, "recall@20": 0.7, "MRR": 0.4}]
    recalled = {"benchmark": "recall", "tables": {"evidence by turn": rows}}
    names = ("recall-locomo-memories", "recall-locomo-semantic", "recall")
    figure = plots.draw_recall(dict.fromkeys(names, recalled))
    assert figure
    _, named = figure.axes[0].get_legend_handles_labels()
    assert named == ["memories", "semantic"]
