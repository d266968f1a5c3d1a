"""What the tools answer, as values. Names are those of the tools; a field that the server left out has its default."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Protocol, TypeVar

from contextdna.client.errors import AnswerInvalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Begun:
    """A session as begun or resumed. ``session_id`` is a secret: whoever has it acts as the agent."""

    session_id: str = field(repr=False)
    agent_id: str = ""
    project_id: str = ""
    conversation: str = ""
    expires_at: str = ""
    resumed: bool = False
    briefing: tuple[str, ...] = ()
    work: Mapping[str, Any] = field(default_factory=dict)
    """Of a resumed one: task, progress, thoughts, delegation_id and state_keys."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One memory as stored. Within a run, ``queued`` means that the server was away: nothing is stored yet."""

    id: str
    version: int
    status: str
    later: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Gives the id of what is ``queued``, once it is stored; empty before."""


QUEUED = Stored("", 0, "queued")


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing found."""

    kind: str
    id: str
    content: str
    score: float = 0.0
    why: tuple[str, ...] = ()
    type: str = ""
    level: str = ""
    owner: str = ""
    created_at: str = ""
    version: int = 1
    tags: tuple[str, ...] = ()
    shared_by: str = ""
    session: str = ""
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What retrieval gave, best first. ``degraded``: the server was away, so that nothing was searched."""

    hits: tuple[Hit, ...]
    cursor: str = ""
    truncated: bool = False
    empty: Mapping[str, Any] | None = None
    degraded: bool = False

    def __str__(self) -> str:
        """Give the hits as text, one a paragraph, as a model can read them."""
        return "\n\n".join(f"[{hit.type or hit.kind}] {hit.content} ({hit.id})" for hit in self.hits)


class Late(Protocol):
    """Makes a delegation later; gives the answer of delegate_with_context."""

    async def __call__(self, *, patient: bool) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task handed to a child agent; pass it to `Memory.run` to work on it.

    ``session_id`` is empty when the server was away (``degraded``). Such a delegation is made when the child's run
    begins, or later in it.
    """

    session_id: str = field(repr=False)
    briefing: str = ""
    delegation_id: str = ""
    chain: tuple[str, ...] = ()
    depth: int = 0
    inherited: Mapping[str, int] = field(default_factory=dict)
    expires_at: str = ""
    child_agent_id: str = ""
    task: str = ""
    degraded: bool = False
    late: Late | None = field(default=None, repr=False, compare=False)
    """How to make the delegation later; set when ``degraded``."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the end of a session left behind."""

    status: str
    stored: tuple[str, ...] = ()
    delegation_completed: bool = False
    grants_ended: int = 0
    children_ended: int = 0
    promoted: tuple[str, ...] = ()
    """Working memories that stay, as episodic ones."""
    expired: tuple[str, ...] = ()
    """The other working memories of the session, which are forgotten."""


@dataclass(frozen=True, slots=True)
class Logged:
    """The ids of turns; empty within a run when they wait for the server."""

    ids: tuple[str, ...]
    conversation: str = ""


@dataclass(frozen=True, slots=True)
class Shared:
    """How many memories each agent may read now, or how many grants ended."""

    shared: Mapping[str, int]
    memory_ids: tuple[str, ...] = ()
    unknown_agents: tuple[str, ...] = ()
    revoked: int = 0
    expires_at: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """An artifact as kept; ``id`` is empty within a run when it waits for the server."""

    id: str
    uri: str
    name: str = ""
    version: int = 1
    media_type: str = ""
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A loop record, and where the gate stands; ``gate`` is empty within a run when it waits for the server."""

    id: str
    gate: Mapping[str, Any]
    objections: tuple[str, ...] = ()

    @property
    def gate_open(self) -> bool:
        """Whether the gate is known to be open."""
        return bool(self.gate.get("open"))


def answer_as(kind: type[T], raw: Mapping[str, Any], **known: Any) -> T:
    """Make a value of an answer; fields that this version does not know are left out.

    Args:
        kind: One of the classes here.
        raw: The structured content of the answer.
        known: Fields that the caller knows, which the answer does not repeat.

    Raises:
        AnswerInvalid: An essential field is missing.
    """
    values = dict(known)
    for item in fields(kind):  # type: ignore[arg-type]  # T is one of the dataclasses above
        if item.name in raw:
            value = raw[item.name]
            values[item.name] = tuple(value) if isinstance(value, list) else value
        elif item.name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise AnswerInvalid(f"the answer has no {item.name}", hint="Is it a contextdna server of this version?")
    return kind(**values)


def found(raw: Mapping[str, Any]) -> Found:
    """Make a value of the answer of retrieve_context.

    Raises:
        AnswerInvalid: An essential field is missing.
    """
    return answer_as(Found, {**raw, "hits": [answer_as(Hit, hit) for hit in listed(raw, "hits")]})


def stored(raw: Mapping[str, Any]) -> tuple[Stored, ...]:
    """Make values of the answer of store_memory.

    Raises:
        AnswerInvalid: An essential field is missing.
    """
    return tuple(answer_as(Stored, item) for item in listed(raw, "stored"))


def listed(raw: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Give a list of objects in an answer.

    Raises:
        AnswerInvalid: It is none.
    """
    value = raw.get(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise AnswerInvalid(f"the answer has no list {name}", hint="Is it a contextdna server of this version?")
    return value
