"""Writes that can be promised while the database is away: what they are, and how they are written down.

Such a write must need nothing of the database for its answer: the ids of new records are made beforehand, and what an
update leads to follows from the version that it names. All else is judged when it is replayed.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Protocol

from contextdna.domain import access, access_tokens, broken_promises, conversations, memories
from contextdna.domain.access import Action, Caller
from contextdna.domain.encryption import Vault
from contextdna.domain.operation import Operation
from contextdna.domain.packing import compact_json
from contextdna.domain.scopes import require_scopes
from contextdna.domain.validation import check_change, check_count, check_name
from contextdna.errors import Conflict, IntegrityFault, InvalidInput
from contextdna.values.ids import AgentId, IdPrefix, ProjectId, RecordId, TokenId, derived_id, is_id, new_id
from contextdna.values.level import Level
from contextdna.values.memory import MemoryChange, MemoryDraft, OnDuplicate
from contextdna.values.principal import Actor, Principal, Role, Scope
from contextdna.values.project import IdempotentResult
from contextdna.values.record import Tier
from contextdna.values.settings import HubSettings
from contextdna.values.turn import TurnDraft

_FORMAT: Final = 1
_VERSION_MAX: Final = 2**31


class Request(Protocol):
    """What a caller asked for."""

    action: ClassVar[Action]
    needs_session: ClassVar[bool]

    @property
    def may_wait(self) -> bool:
        """Whether its answer needs nothing of the database."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether the same request again, while the first waits, means the first."""
        ...

    def check(self, actor: Actor, settings: HubSettings) -> None:
        """Refuse what can be refused without the database.

        Raises:
            InvalidInput: The request is wrong.
            AccessDenied: The actor may not write at that level.
        """
        ...

    def new_ids(self, now: datetime) -> tuple[str, ...]:
        """Make the ids of the records that it is about."""
        ...

    async def run(self, op: Operation) -> tuple[str, ...]:
        """Do it; gives the ids of the records that it came to."""
        ...


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """To store memories."""

    action: ClassVar[Action] = Action.STORE_MEMORY
    needs_session: ClassVar[bool] = False
    drafts: tuple[MemoryDraft, ...]
    on_duplicate: OnDuplicate = OnDuplicate.MERGE
    idempotency_key: str = ""

    @property
    def may_wait(self) -> bool:
        """Whether its answer needs nothing of the database: whether something is there already, only that can tell."""
        return self.on_duplicate is not OnDuplicate.ERROR

    @property
    def repeats(self) -> bool:
        """Whether the same request again means the first."""
        return bool(self.idempotency_key) or self.on_duplicate is OnDuplicate.MERGE

    def check(self, actor: Actor, settings: HubSettings) -> None:
        """Refuse what can be refused without the database."""
        memories.check_drafts(self.drafts, settings)
        for draft in self.drafts:
            access.require_level(actor, draft.level)
        if self.idempotency_key:
            check_name(self.idempotency_key, name="idempotency_key")

    def new_ids(self, now: datetime) -> tuple[str, ...]:
        """Make an id for each memory."""
        return tuple(new_id(IdPrefix.MEMORY, now) for _ in self.drafts)

    async def run(self, op: Operation) -> tuple[str, ...]:
        """Store them."""
        answer = await memories.store(
            op, self.drafts, on_duplicate=self.on_duplicate, idempotency_key=self.idempotency_key
        )
        return tuple(item.id for item in answer)


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """To change a memory at a version."""

    action: ClassVar[Action] = Action.UPDATE_MEMORY
    needs_session: ClassVar[bool] = False
    record_id: RecordId
    change: MemoryChange
    expected_version: int

    @property
    def may_wait(self) -> bool:
        """Whether its answer needs nothing of the database."""
        return True

    @property
    def repeats(self) -> bool:
        """Whether the same request again means the first: its version says so."""
        return True

    def check(self, actor: Actor, settings: HubSettings) -> None:
        """Refuse what can be refused without the database."""
        check_change(self.change, settings)
        check_count(self.expected_version, name="expected_version", maximum=_VERSION_MAX)
        if self.change.level is not None:
            access.require_level(actor, self.change.level)
        if self.change.superseded_by == self.record_id:
            raise InvalidInput(
                "a memory cannot supersede itself", code="superseded_by_itself", hint="Name the newer one."
            )

    def new_ids(self, now: datetime) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """Give the id of the memory."""
        return (self.record_id,)

    async def run(self, op: Operation) -> tuple[str, ...]:
        """Change it."""
        op.promised = None
        stored, _ = await memories.update(op, self.record_id, self.change, expected_version=self.expected_version)
        await broken_promises.forget(op, self.record_id, stored.version)
        return (stored.id,)


@dataclass(frozen=True, slots=True)
class LogRequest:
    """To append turns to the session's conversation."""

    action: ClassVar[Action] = Action.LOG_TURN
    needs_session: ClassVar[bool] = True
    drafts: tuple[TurnDraft, ...]

    @property
    def may_wait(self) -> bool:
        """Whether its answer needs nothing of the database."""
        return True

    @property
    def repeats(self) -> bool:
        """Whether the same request again means the first: what is said twice is two turns."""
        return False

    def check(self, actor: Actor, settings: HubSettings) -> None:
        """Refuse what can be refused without the database."""
        conversations.check_drafts(self.drafts, actor, settings)

    def new_ids(self, now: datetime) -> tuple[str, ...]:
        """Make an id for each turn."""
        return tuple(new_id(IdPrefix.TURN, now) for _ in self.drafts)

    async def run(self, op: Operation) -> tuple[str, ...]:
        """Log them."""
        return await conversations.log(op, self.drafts)


@dataclass(frozen=True, slots=True)
class QueuedWrite:
    """A request as it waits: whose, and under which ids it was promised. It holds memory text and a session handle."""

    at: datetime
    caller: Caller
    request: Request
    ids: tuple[str, ...]
    project_id: ProjectId = ProjectId("")
    agent_id: AgentId = AgentId("")
    """Where and as whom it was taken."""
    after: str = ""
    """The name of the queued update whose promised version it names: without that one it would hit another's."""
    name: str = ""
    """Names it for ever, by chance: a place in a log is given anew where the log was put back from a backup."""
    is_seen: bool = False
    """Whether its caller was shown the version that it names."""

    @property
    def action(self) -> Action:
        """What is asked for."""
        return self.request.action

    @property
    def idempotency_key(self) -> str:
        """The key that it was asked for under; empty without one."""
        return self.request.idempotency_key if isinstance(self.request, StoreRequest) else ""

    async def replay(self, op: Operation, vault: Vault, *, is_review: bool = False) -> tuple[str, ...]:
        """Do it once, however often it comes: what was done is known by its name, kept in the same transaction.

        Args:
            op: The operation.
            vault: Knows what rows of tokens are sealed with.
            is_review: Whether an operator has looked at it: then it may be of any age.

        Raises:
            Conflict: ``queued_too_old``: that it was done, and purged since, would not be known any more.
            ContextDnaError: What refused it; nothing was changed.
        """
        key = _done(self.name)
        earlier = await op.tx.requests.answer(op.project_id, op.actor.agent_id, key)
        if earlier is not None:
            op.note(repeated=1)
            return tuple(json.loads(earlier.answer))
        if not is_review and op.now - self.at > timedelta(days=op.settings.retention.idempotency_days):
            raise _too_old()
        if token_id := self.caller.principal.credential_id:
            await access_tokens.require_standing(op.tx, vault, TokenId(token_id), at=self.at)
        op.promised = deque(self.ids)
        unseen = await self._unseen_version(op)
        ids = await self.request.run(op)
        if unseen:
            raise _unseen(self.ids, unseen)
        await _keep(op, key, compact_json(list(ids)))
        if isinstance(self.request, UpdateRequest):
            await _keep(op, _led_to(self.request.record_id, self.request.expected_version + 1), self.name)
        op.note(queued_ms=int(self.at.timestamp() * 1000))
        return ids

    async def _unseen_version(self, op: Operation) -> int:
        """Give the version that an update names where its caller cannot have seen what it is now, else 0.

        It has seen what stood when the update was taken, and was promised what its own queued updates lead to.
        """
        if not isinstance(self.request, UpdateRequest) or self.request.expected_version == 1:
            return 0  # the first version is the record's own: nobody else can have made it
        version = self.request.expected_version
        led = await op.tx.requests.answer(op.project_id, op.actor.agent_id, _led_to(self.request.record_id, version))
        if self.after:
            return version if led is None or led.answer != self.after else 0
        if self.is_seen:
            return 0
        if led is None and await broken_promises.is_broken(op, self.request.record_id, version):
            return version
        taken = await op.tx.records.take(op.project_id, [self.request.record_id])
        is_later = any(record.updated_at > self.at for record in taken)
        return version if is_later and led is None else 0


async def _keep(op: Operation, key: str, answer: str) -> None:
    await op.tx.requests.keep_answer(IdempotentResult(op.project_id, op.actor.agent_id, key, b"", answer, op.now))


# No idempotency key of a caller holds a slash.


def _done(name: str) -> str:
    """Name the note that a queued write was done."""
    return f"spool/{name}"


def _led_to(record_id: RecordId, version: int) -> str:
    """Name the note of which queued update led to a version of a memory."""
    return f"spool/{record_id}.{version}"


def _too_old() -> Conflict:
    return Conflict(
        "a queued write is older than what is remembered of writes that were done",
        code="queued_too_old",
        hint="Where the database was away for so long, have it done: `contextdna spool --retry`. Else drop it.",
    )


def _unseen(record_ids: tuple[str, ...], version: int) -> Conflict:
    return Conflict(
        f"version {version} of the memory is another's: the queued update that this one builds upon was not stored",
        code="version_conflict",
        hint="Read the memory again with get_memory, then update with its version.",
        record_ids=record_ids,
        current_version=version,
        expected_version=version,
    )


def promised_ids(request: Request, actor: Actor, vault: Vault, *, now: datetime) -> tuple[str, ...]:
    """Make the ids that a caller is told: of the same request under an idempotency key, the same in every process.

    Args:
        request: What is asked for.
        actor: Who asks.
        vault: Makes ids that nobody can guess.
        now: When.
    """
    if not isinstance(request, StoreRequest) or not request.idempotency_key:
        return request.new_ids(now)
    reader = actor.reader  # its circles are a part of the request, as they are where the answer is kept
    text = json.dumps([reader.team_id, reader.swarm_id, asdict(request)], default=_plain, sort_keys=True)
    return tuple(
        derived_id(IdPrefix.MEMORY, vault.digest("queued id", actor.project_id, actor.agent_id, text, str(place)))
        for place in range(len(request.drafts))
    )


def require_may_queue(actor: Actor, caller: Caller, request: Request, settings: HubSettings) -> None:
    """Refuse a write as far as that can be judged without the database.

    Raises:
        InvalidInput: The request is wrong.
        AccessDenied: The role, the level or the credential does not allow it.
    """
    access.require_role(actor, request.action)
    require_scopes(caller.principal, request.action)
    request.check(actor, settings)


def packed(write: QueuedWrite) -> bytes:
    """Write a queued write down."""
    principal = write.caller.principal
    document = {
        "format": _FORMAT,
        "action": write.action,
        "at": write.at.isoformat(),
        "ids": write.ids,
        "project_id": write.project_id,
        "agent_id": write.agent_id,
        "after": write.after,
        "name": write.name,
        "is_seen": write.is_seen,
        "caller": {**asdict(replace(write.caller, principal=None)), "principal": None},  # type: ignore[arg-type]
        "principal": {**asdict(principal), "scopes": sorted(principal.scopes)},
        "request": asdict(write.request),  # type: ignore[call-overload]
    }
    return json.dumps(document, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked(data: bytes) -> QueuedWrite:
    """Read a queued write.

    Raises:
        IntegrityFault: ``queued_unreadable``: another version wrote it, or it is none.
    """
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise ValueError("of another version")
        principal = document["principal"]
        caller = Caller(
            **{
                **document["caller"],
                "principal": Principal(
                    AgentId(principal["agent_id"]),
                    tuple(ProjectId(name) for name in principal["project_ids"]),
                    principal["team_id"],
                    principal["swarm_id"],
                    Role(principal["role"]),
                    frozenset(Scope(name) for name in principal["scopes"]),
                    credential_id=principal["credential_id"],
                ),
            }
        )
        request = _REQUESTS[document["action"]](document["request"])
        at, ids = datetime.fromisoformat(document["at"]), tuple(document["ids"])
        project_id, agent_id = ProjectId(document["project_id"]), AgentId(document["agent_id"])
        after, name, is_seen = document["after"], document["name"], bool(document.get("is_seen"))
        if not is_id(name):
            raise ValueError("without a name")
        return QueuedWrite(at, caller, request, ids, project_id, agent_id, after, name, is_seen)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityFault(
            "a queued write cannot be read",
            code="queued_unreadable",
            hint="Run the version of contextdna that queued it, or drop it with `contextdna spool`.",
        ) from error


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be queued")


def _store(fields: Mapping[str, Any]) -> StoreRequest:
    drafts = tuple(_memory(draft) for draft in fields["drafts"])
    return StoreRequest(drafts, OnDuplicate(fields["on_duplicate"]), fields["idempotency_key"])


def _memory(fields: Mapping[str, Any]) -> MemoryDraft:
    return MemoryDraft(
        **{
            **fields,
            "tier": Tier(fields["tier"]),
            "level": Level(fields["level"]),
            "tags": tuple(fields["tags"]),
            "valid_from": _time(fields["valid_from"]),
            "valid_to": _time(fields["valid_to"]),
            "relates_to": tuple(fields["relates_to"]),
        }
    )


def _update(fields: Mapping[str, Any]) -> UpdateRequest:
    change = fields["change"]
    return UpdateRequest(
        RecordId(fields["record_id"]),
        MemoryChange(
            **{
                **change,
                "tier": _optional(Tier, change["tier"]),
                "level": _optional(Level, change["level"]),
                "tags": _optional(tuple, change["tags"]),
                "valid_to": _time(change["valid_to"]),
            }
        ),
        fields["expected_version"],
    )


def _log(fields: Mapping[str, Any]) -> LogRequest:
    drafts: Sequence[Mapping[str, Any]] = fields["drafts"]
    return LogRequest(
        tuple(
            TurnDraft(**{**draft, "level": Level(draft["level"]), "tool_calls": tuple(draft["tool_calls"])})
            for draft in drafts
        )
    )


def _optional(make: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else make(value)


def _time(text: str | None) -> datetime | None:
    return _optional(datetime.fromisoformat, text)  # type: ignore[no-any-return]


_REQUESTS: Final[Mapping[str, Callable[[Mapping[str, Any]], Request]]] = {
    Action.STORE_MEMORY: _store,
    Action.UPDATE_MEMORY: _update,
    Action.LOG_TURN: _log,
}
