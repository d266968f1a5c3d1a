"""Turns: what was said in a session."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from contextdna.values.ids import AgentId, SessionId
from contextdna.values.level import Level
from contextdna.values.record import Record


@dataclass(frozen=True, slots=True)
class TurnDraft:
    """One turn as handed in."""

    role: str
    content: str
    level: Level = Level.PROJECT
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """Each with ``name``, ``arguments`` (an object), and ``result`` where there is one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn opened for a reader who may see it."""

    record: Record
    content: str
    metadata: Mapping[str, Any]
    granted_by: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """One conversation as a list shows it: only turns that the reader may see count."""

    session_id: SessionId
    agent_id: AgentId
    turns: int
    first_at: datetime
    last_at: datetime
