"""Whether what answers a question is among the hits, over the real server on stdio.

Each conversation has a project of its own. Its turns are stored in order, as memories in batches of store_memory or
(`--as turns`) in one session a meeting with log_turn. Then each question that something answers is one call of
retrieve_context, as any agent makes it, with the tool's own defaults unless options say otherwise. A hit counts when it
is a turn that the data name as evidence.

Tokens a query are those of the whole answer as a model reads it, estimated as the product does.

The data are not part of this project: LoCoMo and LongMemEval have licences of their own, LoCoMo's is non-commercial.
"""

import argparse
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from mcp import Client

from benchmarks.conversations import Asked, Conversation, Meeting, Said, read_locomo, read_longmemeval
from benchmarks.corpus import batches
from benchmarks.progress import show_progress
from benchmarks.report import Report
from benchmarks.scores import Score, by_category, score
from benchmarks.servers import add_command_option, called, checked, command_of, connected, text_of
from contextdna.domain.tokens import estimate_tokens

_BATCH = 100
_NAMED_MAX = 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--locomo", type=Path, metavar="FILE", help="conversations, JSON or that with gzip")
    data.add_argument("--longmemeval", type=Path, metavar="FILE", help="questions, JSON or that with gzip")
    add_path_options(parser)
    parser.add_argument("--embedder", default="", help="search by meaning, too: the setting search.embedder")
    add_command_option(parser)


def add_path_options(parser: argparse.ArgumentParser) -> None:
    """Declare which way through the product is measured."""
    kept_as = ("memories", "turns")
    parser.add_argument("--as", dest="kept_as", choices=kept_as, default="memories", help="what a turn is stored as")
    parser.add_argument("--no-dates", action="store_true", help="leave the date of the session out of the texts")
    parser.add_argument("--limit", type=int, help="hits a question (default: the tool's own)")
    parser.add_argument("--max-tokens", type=int, help="tokens of an answer (default: the tool's own)")
    parser.add_argument("--conversations", type=int, help="only the first ones (default: all)")


def run(options: argparse.Namespace) -> Report:
    """Store and ask."""
    read = read_locomo(options.locomo) if options.locomo else read_longmemeval(options.longmemeval)
    talks = read[: options.conversations]
    with tempfile.TemporaryDirectory() as data:
        judged = anyio.run(_measure, talks, options, data)
    return report_of(talks, judged)


def report_of(talks: Sequence[Conversation], judged: Sequence["Judged"]) -> Report:
    """Put the scores of all questions together."""
    turns = sum(len(meeting.turns) for talk in talks for meeting in talk.meetings)
    return Report(
        {
            "evidence by turn": by_category([one.by_turn for one in judged]),
            "evidence by session": by_category([one.by_meeting for one in judged]),
        },
        [
            f"{len(talks)} conversations with {turns:,} turns; questions without evidence are not counted.",
            *([f"Conversations: {', '.join(talk.source for talk in talks)}."] if len(talks) <= _NAMED_MAX else []),
        ],
    )


async def _measure(talks: Sequence[Conversation], options: argparse.Namespace, data: str) -> list["Judged"]:
    projects = [word for talk in talks for word in ("--project", talk.name)]
    server = [*command_of(options), "--data", data, *projects]
    environment = {"CONTEXTDNA_SEARCH__EMBEDDER": options.embedder} if options.embedder else {}
    async with connected(server, environment=environment) as client:
        stored = await store_all(client, talks, options)
        if not options.embedder:
            return await ask_all(client, talks, stored, options)
    await _embed(command_of(options), data, environment)
    async with connected(server, environment=environment) as client:
        return await ask_all(client, talks, stored, options)


async def _embed(command: Sequence[str], data: str, environment: Mapping[str, str]) -> None:
    """Make the embeddings that are still missing: `contextdna reindex` beside `contextdna serve`.

    Raises:
        RuntimeError: It failed.
    """
    reindex = [*("reindex" if word == "serve" else word for word in command), "--data", data]
    done = await anyio.run_process(reindex, check=False, stderr=None, env={**os.environ, **environment})
    if done.returncode:
        raise RuntimeError(f"{shlex.join(reindex)} ended with {done.returncode}")


# --- storing ---

Stored = Mapping[str, str]
"""The id of each turn's record, by the turn's id. Turns with the same text may share one."""


async def store_all(client: Client, talks: Sequence[Conversation], options: argparse.Namespace) -> list[Stored]:
    """Store each conversation in its project."""
    stored = []
    for number, talk in enumerate(talks, start=1):
        store = _store_turns if options.kept_as == "turns" else _store_memories
        stored.append(await store(client, talk, dates=not options.no_dates))
        show_progress("storing conversations", number, len(talks))
    return stored


async def _store_memories(client: Client, talk: Conversation, *, dates: bool) -> Stored:
    said = [(turn.id, _text(turn, meeting, dates=dates)) for meeting in talk.meetings for turn in meeting.turns]
    ids: dict[str, str] = {}
    for batch in batches(said, _BATCH):
        memories = [{"content": text} for _, text in batch]
        answer = await called(client, "store_memory", {"memories": memories, "project_id": talk.name})
        ids |= {turn: item["id"] for (turn, _), item in zip(batch, answer["stored"], strict=True)}
    return ids


async def _store_turns(client: Client, talk: Conversation, *, dates: bool) -> Stored:
    ids: dict[str, str] = {}
    for meeting in talk.meetings:
        begun = await called(client, "begin_session", {"project_id": talk.name})
        for batch in batches(meeting.turns, _BATCH):
            turns = [{"role": turn.role, "content": _text(turn, meeting, dates=dates)} for turn in batch]
            answer = await called(client, "log_turn", {"session_id": begun["session_id"], "turns": turns})
            ids |= {turn.id: record for turn, record in zip(batch, answer["ids"], strict=True)}
    return ids


def _text(turn: Said, meeting: Meeting, *, dates: bool) -> str:
    said = f"{turn.speaker}: {turn.text}"
    return f"[{meeting.date}] {said}" if dates else said


# --- asking ---


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer, judged by the turns that are evidence and by their sessions."""

    by_turn: Score
    by_meeting: Score


async def ask_all(
    client: Client, talks: Sequence[Conversation], stored: Sequence[Stored], options: argparse.Namespace
) -> list[Judged]:
    """Ask every question once, in its project."""
    total = sum(len(talk.questions) for talk in talks)
    given = {"limit": options.limit, "max_tokens": options.max_tokens}
    more = {name: value for name, value in given.items() if value is not None}
    judged: list[Judged] = []
    for talk, ids in zip(talks, stored, strict=True):
        for question in talk.questions:
            arguments = {"query": question.text, "project_id": talk.name, **more}
            result = checked("retrieve_context", await client.call_tool("retrieve_context", arguments))
            hits = [hit["id"] for hit in (result.structured_content or {}).get("hits", [])]
            judged.append(_judge(question, talk, ids, hits, tokens=estimate_tokens(text_of(result))))
            show_progress("asking", len(judged), total)
    return judged


def _judge(question: Asked, talk: Conversation, ids: Stored, hits: Sequence[str], *, tokens: int) -> Judged:
    meetings = {ids[turn.id]: meeting.id for meeting in talk.meetings for turn in meeting.turns}
    met = list(dict.fromkeys(meetings[hit] for hit in hits if hit in meetings))
    evidence = frozenset(ids[turn] for turn in question.evidence)
    return Judged(
        score(question.category, hits, evidence, tokens=tokens),
        score(question.category, met, question.meetings, tokens=tokens),
    )
