"""Conversations with questions about them, read from the formats of LoCoMo and LongMemEval.

Source: A. Maharana et al., Evaluating Very Long-Term Conversational Memory of LLM Agents (2024), whose file is a list
of conversations with their questions; D. Wu et al., LongMemEval (2024), whose file is a list of questions, each with
the sessions that it is asked about. The data are not part of this project and have licences of their own.
"""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOCOMO_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
"""Source: the order in LoCoMo's own evaluation script, which differs from that in the paper's text."""
_LOCOMO_TURN = re.compile(r"D\d+:\d+")
_UNANSWERABLE = "_abs"  # the end of the ids of LongMemEval's questions that nothing answers


@dataclass(frozen=True, slots=True)
class Said:
    """One turn."""

    id: str
    speaker: str
    role: str
    """user or assistant."""
    text: str


@dataclass(frozen=True, slots=True)
class Meeting:
    """One session of a conversation: turns in order."""

    id: str
    date: str
    turns: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its kind, and the ids of the turns and of the sessions that answer it."""

    text: str
    category: str
    evidence: frozenset[str]
    meetings: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is stored in one project, and asked there."""

    name: str
    meetings: tuple[Meeting, ...]
    questions: tuple[Asked, ...]
    """Those that something answers."""
    source: str
    """What the data call it."""


def read_locomo(path: Path) -> list[Conversation]:
    """Read a file of LoCoMo: JSON, or that with gzip.

    Raises:
        ValueError: It has another format.
    """
    return [_locomo(number, raw) for number, raw in enumerate(_records(path, "conversation"), start=1)]


def read_longmemeval(path: Path) -> list[Conversation]:
    """Read a file of LongMemEval: JSON, or that with gzip.

    Raises:
        ValueError: It has another format.
    """
    return [_longmemeval(number, raw) for number, raw in enumerate(_records(path, "haystack_sessions"), start=1)]


def _records(path: Path, key: str) -> list[Mapping[str, Any]]:
    content = path.read_bytes()
    records = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    if not (isinstance(records, list) and all(isinstance(raw, dict) and key in raw for raw in records)):
        raise ValueError(f"{path.name}: a list of objects with {key!r} is expected")
    return records


def _locomo(number: int, raw: Mapping[str, Any]) -> Conversation:
    talk = raw["conversation"]
    numbers = sorted(int(key.removeprefix("session_")) for key in talk if re.fullmatch(r"session_\d+", key))
    meetings = tuple(
        Meeting(
            str(at),
            talk.get(f"session_{at}_date_time", ""),
            tuple(_locomo_turn(turn, first=talk["speaker_a"]) for turn in talk[f"session_{at}"]),
        )
        for at in numbers
    )
    there = {turn.id: meeting.id for meeting in meetings for turn in meeting.turns}
    asked = tuple(_locomo_question(question, there) for question in raw["qa"])
    answerable = tuple(question for question in asked if question.evidence)
    return Conversation(f"talk-{number}", meetings, answerable, raw.get("sample_id", ""))


def _locomo_turn(raw: Mapping[str, Any], *, first: str) -> Said:
    return Said(raw["dia_id"], raw["speaker"], "user" if raw["speaker"] == first else "assistant", raw["text"])


def _locomo_question(raw: Mapping[str, Any], there: Mapping[str, str]) -> Asked:
    """Read a question. Evidence is written down by hand: some entries name two turns, some one that is not there."""
    named = {turn for entry in raw.get("evidence") or () for turn in _LOCOMO_TURN.findall(entry)}
    evidence = frozenset(named & there.keys())
    category = _LOCOMO_CATEGORIES.get(raw.get("category", 0), str(raw.get("category")))
    return Asked(raw["question"], category, evidence, frozenset(there[turn] for turn in evidence))


def _longmemeval(number: int, raw: Mapping[str, Any]) -> Conversation:
    ids = raw["haystack_session_ids"]
    sessions = zip(ids, raw["haystack_dates"], raw["haystack_sessions"], strict=True)
    meetings = tuple(
        Meeting(f"{at}:{session_id}", date, _longmemeval_turns(f"{at}:{session_id}", turns))
        for at, (session_id, date, turns) in enumerate(sessions)
    )
    evidence = frozenset(
        said.id
        for meeting, turns in zip(meetings, raw["haystack_sessions"], strict=True)
        for said, turn in zip(meeting.turns, turns, strict=True)
        if turn.get("has_answer")
    )
    answering = frozenset(f"{at}:{one}" for at, one in enumerate(ids) if one in raw["answer_session_ids"])
    asked = Asked(raw["question"], raw["question_type"], evidence, answering)
    answerable = evidence and not str(raw["question_id"]).endswith(_UNANSWERABLE)
    return Conversation(f"talk-{number}", meetings, (asked,) if answerable else (), raw["question_id"])


def _longmemeval_turns(session_id: str, turns: Sequence[Mapping[str, Any]]) -> tuple[Said, ...]:
    return tuple(
        Said(f"{session_id}:{position}", turn["role"], turn["role"], turn["content"])
        for position, turn in enumerate(turns)
    )
