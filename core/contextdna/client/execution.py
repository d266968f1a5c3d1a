"""What a run does with the server: begin, ask, write, end; and what it does without one.

A write that cannot be done now waits, in order, and goes out before the next one and at the end. Each write is booked
once: as stored, as not stored, or as perhaps stored when it left and no answer came.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio

from contextdna.client import answers, requests
from contextdna.client.answers import Begun, Delegated, Ended, Late, Stored, answer_as
from contextdna.client.connection import Connection, Request
from contextdna.client.ending import Ending
from contextdna.client.errors import ClientError, Refused, ServerAway
from contextdna.client.heartbeat import Heartbeat
from contextdna.client.report import Ledger, Unstored, Waiting
from contextdna.client.requests import BeginFields

RESULTS_MAX: Final = 100
"""How many artifacts and memories the end of a session takes as its result. Source: end_session."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """The bounds of a run.

    Attributes:
        waiting_max: Writes that may wait while the server is away; what comes after is given up, and reported.
        waiting_bytes_max: Their content together, in bytes.
        closing_s: What the end of a run may take at most, in seconds, when it is cancelled too.
        heartbeat_s: How often the run tells a server of the full profile that its agent is alive, in seconds; 0: never.

    Raises:
        ValueError: heartbeat_s is below 0.
    """

    waiting_max: int = 1000
    waiting_bytes_max: int = 32 * 1024 * 1024
    closing_s: float = 10.0
    heartbeat_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.heartbeat_s >= 0:
            raise ValueError("heartbeat_s is 0 or above")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a run begins: with the session of a handle; else of a delegation that is made only then; else a new one."""

    agent_id: str = ""
    task: str = ""
    parent: str | Execution = field(default="", repr=False)
    session_id: str = field(default="", repr=False)
    briefing: str = ""
    late: Late | None = field(default=None, repr=False)
    fields: BeginFields = field(default_factory=BeginFields)


_OVER: Final = frozenset({"session_ended", "session_expired"})


class Execution:
    """The session of one run, and the books of what was written in it."""

    def __init__(self, connection: Connection, opening: Opening, limits: RunLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._one_at_a_time = anyio.Lock()
        self._artifacts: list[str] = []
        self._learned: list[str] = []
        self.promote: list[Stored | str] = []
        self.heartbeat = Heartbeat(connection, lambda: self.begun.session_id if self.begun else "", limits.heartbeat_s)
        self.opening = opening
        self.ledger = Ledger(limits.waiting_max, limits.waiting_bytes_max)
        self.begun: Begun | None = None
        self.ended = False
        self.open = False

    @property
    def session_id(self) -> str:
        """The handle; empty while no session could be begun."""
        return self.begun.session_id if self.begun else self.opening.session_id

    @property
    def agent_id(self) -> str:
        """The agent by the name that the server gives; until then the one that was asked for."""
        return (self.begun.agent_id if self.begun else "") or self.opening.agent_id

    @property
    def conversation(self) -> str:
        """The public id of the session."""
        return self.session_id.partition(".")[0]

    async def begin(self, *, patient: bool = False) -> None:
        """Begin or resume, when that is not done yet.

        Raises:
            ClientError: It could not be done.
            RuntimeError: The run is not open.
        """
        self.require_open()
        if self.begun:
            return
        async with self._one_at_a_time:
            if not self.begun:
                request = await self._beginning(patient=patient)
                raw = await self._connection.call(request, self.ledger.tally, patient=patient)
                self.begun = answer_as(Begun, raw)

    async def _beginning(self, *, patient: bool) -> Request:
        """Give the request that begins or resumes, once what it rests on is there.

        Raises:
            ClientError: It cannot be there now.
        """
        opening = self.opening
        if opening.late and not opening.session_id:
            given = answer_as(Delegated, await opening.late(patient=patient))
            self.opening = opening = replace(opening, session_id=given.session_id, briefing=given.briefing)
        if opening.session_id:
            return requests.resume(opening.session_id)
        parent = opening.parent
        if isinstance(parent, Execution):
            await parent.begin(patient=patient)
            parent = parent.session_id
        return requests.begin(opening.agent_id, opening.task, parent, **opening.fields)

    def require_open(self) -> None:
        """Refuse what is called before or after the run.

        Raises:
            RuntimeError: The run is not open.
        """
        if not self.open:
            raise RuntimeError("the run is not open: use it inside `async with memory.run(...)`")

    async def call(self, request: Request, *, patient: bool = False) -> dict[str, Any]:
        """Call a tool in the session.

        Raises:
            ClientError: It was not answered, or refused.
        """
        await self.begin(patient=patient)
        bound = replace(request, arguments={**request.arguments, "session_id": self.session_id})
        return await self._connection.call(bound, self.ledger.tally, patient=patient)

    async def ask(self, request: Request) -> dict[str, Any]:
        """Read something; the answer is empty when the server is away.

        Raises:
            ClientError: The question is refused for good.
        """
        try:
            return await self.call(request)
        except ClientError as error:
            if not error.retryable:
                raise
            self.ledger.degraded = True
            self.ledger.unanswered += 1
            return {}

    async def write(self, item: Waiting) -> dict[str, Any]:
        """Write something behind all that waits; the answer is empty when it is not known to be done.

        Raises:
            ClientError: It is refused for good.
        """
        try:
            await self._catch_up()
            return await self._send(item)
        except ClientError as error:
            if not error.retryable:
                raise
            self.ledger.wait(item, error)
            return {}

    async def delegate(self, item: Waiting) -> tuple[dict[str, Any], Late | None]:
        """Delegate now; else give the way to do it later.

        Raises:
            ClientError: It is refused for good.
        """
        try:
            await self._catch_up()
            return await self.call(item.request), None
        except anyio.get_cancelled_exc_class():
            self._cancelled(item)
            raise
        except ClientError as error:
            if not error.retryable:
                raise
            item.uncertain = isinstance(error, ServerAway) and error.outcome_unknown
            return {}, self._later(item.request, self.ledger.give_up(item, error))

    def _later(self, request: Request, missing: Unstored) -> Late:
        async def delegate(*, patient: bool) -> dict[str, Any]:
            if not self.open:
                raise ServerAway("the run that delegated is over", code="parent_over")
            raw = await self.call(request, patient=patient)
            if missing in self.ledger.unstored:  # a second run of the same child has nothing left to make up for
                self.ledger.unstored.remove(missing)
            return raw

        return delegate

    async def _catch_up(self) -> None:
        await self.begin()
        if self.ledger.waiting:
            await self._flush()

    async def close(self, ending: Ending) -> None:
        """Write all that waits and then the end of the session, in bounded time.

        Raises nothing: what could not be done is in the ledger.
        """
        self.heartbeat.stop()
        self.ledger.waiting += ending.writes()
        try:
            with anyio.move_on_after(self._limits.closing_s, shield=True):
                await self.begin(patient=True)
                await self._flush(patient=True)
        except ClientError as error:
            self.ledger.give_up_all(error)
        except Exception as error:  # noqa: BLE001 - the end of a run hides nothing of what its body raised
            logger.error("a run could not be closed: %s", type(error).__name__)
            self.ledger.give_up_all(ClientError(f"the end failed: {type(error).__name__}", code="closing_failed"))
        finally:
            self.ledger.give_up_all(ServerAway("the end of the run took too long", code="closing_timeout"))
            self.open = False

    async def _flush(self, *, patient: bool = False) -> None:
        """Send what waits, in order.

        Raises:
            ClientError: The server is away again, or cannot now; the rest keeps waiting.
        """
        waiting = self.ledger.waiting
        async with self._one_at_a_time:
            while waiting:
                item = waiting[0]
                try:
                    await self._send(item, patient=patient)
                except Refused as error:
                    if error.retryable:
                        raise
                    waiting.remove(item)
                    await self._refused(item, error)
                else:
                    waiting.remove(item)

    async def _send(self, item: Waiting, *, patient: bool = False) -> dict[str, Any]:
        """Send one write and book it; the answer is empty when it may have arrived and cannot be repeated.

        Raises:
            ClientError: It was not carried out, or can be repeated.
        """
        try:
            raw = await self.call(self._completed(item.request), patient=patient)
        except anyio.get_cancelled_exc_class():
            self._cancelled(item)
            raise
        except ServerAway as error:
            item.uncertain = item.uncertain or error.outcome_unknown
            if item.request.repeatable or not item.uncertain:
                raise
            self.ledger.give_up(item, error)
            return {}
        self._book(item, raw)
        return raw

    def _completed(self, request: Request) -> Request:
        """Name what belongs to the run at its end: what waited has its id only then."""
        if request.tool != "end_session":
            return request
        named = {"artifacts": self._results()[:RESULTS_MAX], "promote": self._promoted()}
        return replace(request, arguments={**request.arguments, **named})

    def _results(self) -> list[str]:
        """Give the artifacts of the run, and where it was delegated what it learned that its end does not store."""
        delegated = self.begun is not None and bool(self.begun.work.get("delegation_id"))
        return list(dict.fromkeys([*self._artifacts, *(self._learned if delegated else [])]))

    def _promoted(self) -> list[str]:
        named = [one if isinstance(one, str) else one.id or (one.later() if one.later else "") for one in self.promote]
        return [memory_id for memory_id in dict.fromkeys(named) if memory_id]

    def _cancelled(self, item: Waiting) -> None:
        item.uncertain = True
        self.ledger.give_up(item, ServerAway("it was cancelled before the server answered", code="cancelled"))
        if item in self.ledger.waiting:
            self.ledger.waiting.remove(item)

    def _book(self, item: Waiting, raw: Mapping[str, Any]) -> None:
        item.ids = _ids(raw)
        if item.request.tool == "end_session":
            self._over(item, answer_as(Ended, raw))
        if item.request.tool == "attach_artifact":
            self._artifacts.append(str(raw.get("id", "")))
        if item.learned:
            self._learned += item.ids
        if item.ids:
            self.ledger.keep(item.what, item.ids)

    def _over(self, item: Waiting, end: Ended) -> None:
        """Note how the session ended."""
        self.ended = True
        self.ledger.promoted, self.ledger.expired = end.promoted, end.expired
        if left := self._results()[RESULTS_MAX:]:
            error = Refused(
                f"{len(left)} more than the {RESULTS_MAX} that the end of a session takes",
                code="artifacts_out_of_range",
                hint="Share them with whoever delegated the task.",
            )
            self.ledger.give_up(replace(item, what="which of what was stored belongs to the result"), error)

    async def _refused(self, item: Waiting, error: Refused) -> None:
        """Book the refusal of what waited.

        Raises:
            ClientError: A bare end was refused, too.
        """
        ending = item.request.tool == "end_session"
        over = error.code.startswith("session_")
        if ending and error.code == "session_ended" and (error.repeated or item.uncertain):
            await self._find_the_end(item, error)
        elif item.parts and not over:  # one text among them is refused: each is written, and judged, by itself
            self.ledger.waiting[:0] = item.parts
        elif ending and not over:
            await self._end_without(item, error)
        else:
            self.ended = self.ended or (ending and error.code in _OVER)  # it was over before the run came to end it
            self.ledger.give_up(item, error)

    async def _end_without(self, item: Waiting, error: Refused) -> None:
        """End the session without what is refused: memories to keep or artifacts where one is gone, else the result.

        Raises:
            ClientError: A bare end was refused, too.
        """
        if self._promoted() and error.code in ("not_found", "not_working") and await self._promote_less(item, error):
            self.ledger.waiting.insert(0, item)
            return
        if self._results() and error.code == "not_found":
            self.ledger.give_up(replace(item, what="which artifacts belong to the result"), error)
            self._artifacts.clear()
            self._learned.clear()
            self.ledger.waiting.insert(0, item)
            return
        self.ledger.give_up(replace(item, what=item.what.removeprefix("end of session, ")), error)
        bare = self._completed(requests.end(success=bool(item.request.arguments["success"])))
        self._over(item, answer_as(Ended, await self.call(bare, patient=True)))

    async def _promote_less(self, item: Waiting, error: Refused) -> bool:
        """Leave out what cannot be promoted, so that the others stay; tell whether that left out anything.

        Raises:
            ClientError: The server is away, or cannot now.
        """
        wanted = self._promoted()
        tiers = {memory_id: await self._tier_in_session(memory_id) for memory_id in wanted}
        working = [memory_id for memory_id in wanted if tiers[memory_id] == "working"]
        if not all(tiers.values()):
            self.ledger.give_up(replace(item, what="which working memories stay"), error)
        self.promote = [*working]
        return len(working) < len(wanted)

    async def _tier_in_session(self, memory_id: str) -> str:
        """Give the tier of a memory; empty where it is gone, or a working one of another session."""
        try:
            [memory] = answers.listed(await self.call(requests.get([memory_id]), patient=True), "memories")
        except Refused as error:
            if error.retryable:
                raise
            return ""
        tier = str(memory.get("tier", ""))
        return "" if tier == "working" and memory.get("session") != self.conversation else tier

    async def _find_the_end(self, item: Waiting, error: Refused) -> None:
        """Find out whether an end that got no answer was carried out: it stores all of its texts, or none."""
        texts = [text for text in (item.request.arguments["output"], *item.request.arguments["learnings"]) if text]
        self.ended = True
        ids = await self._ids_of(texts)
        if ids:
            self.ledger.keep(item.what, ids)
        elif texts:
            item.uncertain = True
            self.ledger.give_up(item, error)

    async def _ids_of(self, texts: list[str]) -> list[str]:
        """Find what the session stored, as its caller: the session itself is over. Empty when that cannot be asked."""
        types = ("result", "success_pattern", "failure_pattern")
        request = requests.retrieve("", types=types, agent=self.agent_id, limit=100)
        try:
            found = answers.found(await self._connection.call(request, self.ledger.tally, patient=True))
        except ClientError:
            return []
        return [hit.id for hit in found.hits if hit.session == self.conversation and hit.content in texts]


def _ids(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the ids of records in an answer, whichever tool it is of."""
    items = raw.get("stored") or raw.get("ids") or ([raw["id"]] if raw.get("id") else [])
    return tuple(str(item["id"]) if isinstance(item, dict) else str(item) for item in items)
