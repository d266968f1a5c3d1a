"""The job that embeds what was written, and what a call needs embedded before its own transaction."""

import logging
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import anyio

from contextdna.domain import embedding, leases
from contextdna.domain.access import Action, Caller, resolve_actor
from contextdna.domain.recall import TEXT_CHARS_MAX, Recall
from contextdna.domain.scopes import require_scopes
from contextdna.domain.semantics import require_same_model
from contextdna.domain.vectors import FLOAT_BYTES
from contextdna.errors import ContextDnaError, StorageUnavailable
from contextdna.hub.door import Door
from contextdna.hub.locks import Job, one_job
from contextdna.ports.database import Transaction
from contextdna.ports.embedder import Embedder
from contextdna.ports.storage import Locks
from contextdna.values.ids import ProjectId

logger = logging.getLogger(__name__)

_FIRST_AFTER_S: Final = 1.0  # leaves the start alone
_LOOK_EVERY_S: Final = 0.5
_PAUSE_S: Final = 2.0
_PAUSE_S_MAX: Final = 300.0
_QUESTION_TIMEOUT_S: Final = 2.0
_READING_TIMEOUT_S: Final = 2.0
_ELSEWHERE_S: Final = 5.0  # after which one looks again whether another process still embeds
_ANY_WORD: Final = "dimension"  # embedded to load the model, and to learn what it gives
_REST_S: Final = 30.0  # after a question failed, searches do not wait for the embedder again so soon


@dataclass(frozen=True, slots=True)
class SemanticHealth:
    """How searching by meaning stands in a project."""

    model: str
    waiting: int
    """Records without a vector."""
    problem: str = ""
    """The code of what keeps it from working; empty when all is well."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What reindexing did to a project."""

    project_id: ProjectId
    model: str
    dimension: int
    embedded: int
    model_changed: bool
    """True when vectors of another model were there, which count no longer."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A project where embedding failed, and until when it is left alone."""

    failures: int = 0
    until: float = 0.0

    def after_another(self) -> Self:
        """Give a rest that is twice as long, up to a bound."""
        failures = self.failures + 1
        pause_s = min(_PAUSE_S * 2**failures, _PAUSE_S_MAX) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        return replace(self, failures=failures, until=anyio.current_time() + pause_s)


class Semantics:
    """Embeds records behind the writes, and questions ahead of the searches.

    Args:
        door: Where calls go through; its ``recall`` holds what was embedded.
        embedder: What embeds; None does nothing at no cost.
        locks: Keep processes from embedding the same records.
    """

    def __init__(self, door: Door, embedder: Embedder | None, locks: Locks) -> None:
        self._door = door
        self._locks = locks
        self._embedder = embedder
        self._problems: dict[ProjectId, ContextDnaError] = {}
        self._question_problem: ContextDnaError | None = None
        self._rest_until = 0.0
        self._reading: dict[ProjectId, anyio.Lock] = {}
        self._filling: dict[ProjectId, anyio.Lock] = {}

    # What calls need

    async def prepare(self, caller: Caller, action: Action, text: str) -> None:
        """Embed a call's text and read new vectors, so that its transaction can search by meaning.

        Nothing is raised: what cannot be had is left out, and who may not call is told by the call itself.
        """
        recall = self._door.recall
        if recall is None or not text.strip():
            return
        try:
            project_id = await self._project_to_search(caller, action, recall)
            if project_id is not None and await self._question(text, recall):
                with anyio.move_on_after(_READING_TIMEOUT_S):  # of a large project, what is read by then is searched
                    await self._catch_up(project_id, recall)
        except ContextDnaError as error:
            logger.debug("a search goes on by words alone: %s", error.code)
        except Exception as error:  # noqa: BLE001 - meaning is an extra: whatever fails in it, words are searched
            logger.warning("a search goes on by words alone: %s", type(error).__name__)

    async def _project_to_search(self, caller: Caller, action: Action, recall: Recall) -> ProjectId | None:
        """Find the project that a call is about, where it has vectors of the model at work."""

        async def unit(tx: Transaction) -> ProjectId | None:
            actor = await resolve_actor(tx, caller, action, now=self._door.clock())
            require_scopes(caller.principal, action)
            space = await tx.embeddings.space(actor.project_id)
            return actor.project_id if space is not None and space.model == recall.model else None

        return await self._door.database.read(unit)

    async def _question(self, text: str, recall: Recall) -> bool:
        """Embed a question, within two seconds; True when it is there."""
        if recall.question(text) is not None:
            return True
        if anyio.current_time() < self._rest_until:
            return False
        with anyio.move_on_after(_QUESTION_TIMEOUT_S):
            try:
                [vector] = await self._vectors([text[:TEXT_CHARS_MAX]])
            except ContextDnaError as error:
                self._question_problem = error
            else:
                recall.keep_question(text, vector)
                self._question_problem = None
                return True
        if self._question_problem is None:
            self._question_problem = _failure("the embedder takes too long for a question")
        self._rest_until = anyio.current_time() + _REST_S
        return False

    async def _catch_up(self, project_id: ProjectId, recall: Recall) -> None:
        async def unit(tx: Transaction) -> bool:
            return await embedding.catch_up(tx, await self._door.vault.keys(tx, project_id), recall, project_id)

        async with self._reading.setdefault(project_id, anyio.Lock()):
            while not await self._door.database.read(unit):
                pass

    # The job

    async def run(self) -> None:
        """Embed what comes until cancelled; what fails is tried again, ever later, while searches go on by words."""
        if self._embedder is None:
            return
        rests: dict[ProjectId, _Rest] = {}
        await anyio.sleep(_FIRST_AFTER_S)
        while True:
            revision = await self._revision()
            if await self._look_at_all(rests):
                await self._warm()
            await self._wait_for_another(revision, until=min((rest.until for rest in rests.values()), default=math.inf))

    async def _look_at_all(self, rests: dict[ProjectId, _Rest]) -> bool:
        """Embed in the projects that do not rest; what fails rests alone. False when no project could be."""
        worked = False
        for project_id in self._door.settings.projects:
            rest = rests.get(project_id, _Rest())
            if anyio.current_time() < rest.until:
                continue
            outcome = await self._embed_alone(project_id)
            if outcome is None:
                rests[project_id] = _Rest(until=anyio.current_time() + _ELSEWHERE_S)
            elif outcome:
                rests.pop(project_id, None)
                worked = True
            else:
                rests[project_id] = rest.after_another()
        return worked

    async def _warm(self) -> None:
        """Read new vectors ahead of the searches, and load the model: the first time takes seconds."""
        recall = self._door.recall
        if recall is None:
            return
        if recall.question(_ANY_WORD) is None:
            await self._question(_ANY_WORD, recall)
        for project_id in self._door.settings.projects:
            try:
                await self._catch_up(project_id, recall)
            except ContextDnaError as error:
                logger.debug("vectors of project %s cannot be read now: %s", project_id, error.code)
            except Exception as error:  # noqa: BLE001 - a background job that ends would end the hub
                logger.warning("vectors of project %s cannot be read now: %s", project_id, type(error).__name__)

    async def turn(self) -> bool:
        """Embed what is missing in the projects that the process was started with; False when any failed."""
        for project_id in self._door.settings.projects:
            await self._embed(project_id)
        return not self._problems

    async def _embed_alone(self, project_id: ProjectId) -> bool | None:
        """Embed what is missing in a project; False when it failed, None when another process is at it."""
        try:
            if not await self._batch(project_id, at_most=1):
                self._problems.pop(project_id, None)
                return True
            async with one_job(self._locks, project_id, "embed") as job:
                return None if job is None else await self._embed(project_id, job)
        except ContextDnaError as error:
            self._fails(project_id, error, error.code)
        return False

    async def _embed(self, project_id: ProjectId, job: Job | None = None) -> bool:
        """Embed what is missing in a project; False when it failed."""
        try:
            async with self.embedding_of(project_id):
                await self.fill(project_id, job=job)
        except ContextDnaError as error:
            self._fails(project_id, error, error.code)
        except Exception as error:  # noqa: BLE001 - a background job that ends would end the hub
            self._fails(project_id, _failure("embedding failed"), type(error).__name__)
        return project_id not in self._problems

    def _fails(self, project_id: ProjectId, problem: ContextDnaError, reason: str) -> None:
        known = self._problems.get(project_id)
        if known is None or known.code != problem.code:
            logger.warning("records of project %s cannot be embedded now: %s", project_id, reason)
        self._problems[project_id] = problem

    def embedding_of(self, project_id: ProjectId) -> anyio.Lock:
        """Give what one holds while one embeds a project's records, so that none is embedded twice."""
        return self._filling.setdefault(project_id, anyio.Lock())

    async def fill(
        self, project_id: ProjectId, *, progress: Callable[[int], None] = lambda _: None, job: Job | None = None
    ) -> int:
        """Embed all that is missing in a project, batch by batch; gives how many records.

        The caller holds ``embedding_of`` the project, and the job where processes do it for each other.

        Raises:
            SettingsInvalid: ``embedding_model_mixed``, ``embedder_missing`` or ``embedder_invalid``.
            StorageUnavailable: ``embedder_unavailable``, or the engine cannot do it now.
        """
        done = 0
        while batch := await self._batch(project_id):
            vectors = await self._vectors_of([item.text for item in batch])
            if not await self._keep(project_id, batch, vectors, job):
                break
            done += len(batch)
            progress(done)
            if job is not None:
                await job.go_on()
        self._problems.pop(project_id, None)
        return done

    async def dimension(self) -> int:
        """Ask the embedder for the dimension of its vectors."""
        [vector] = await self._vectors([_ANY_WORD])
        return len(vector) // FLOAT_BYTES

    async def health(self, project_id: ProjectId) -> SemanticHealth | None:
        """Tell how embedding stands in a project; None without an embedder."""
        recall = self._door.recall
        if recall is None:
            return None
        problem = self._problems.get(project_id) or self._question_problem
        try:
            waiting = await self._door.database.read(lambda tx: _backlog(tx, recall, project_id))
        except ContextDnaError as error:
            waiting, problem = 0, error
        return SemanticHealth(recall.model, waiting, problem.code if problem else "", problem.hint if problem else "")

    async def _batch(self, project_id: ProjectId, *, at_most: int = 0) -> list[embedding.Waiting]:
        recall, limit = self._door.recall, at_most or (self._embedder.batch_max if self._embedder else 0)
        if recall is None:
            return []

        async def unit(tx: Transaction) -> list[embedding.Waiting]:
            space = await tx.embeddings.space(project_id)
            if space is not None:
                require_same_model(recall, space, project_id=project_id)
            return await embedding.waiting(tx, await self._door.vault.keys(tx, project_id), limit=limit)

        return await self._door.database.read(unit)

    async def _keep(
        self, project_id: ProjectId, batch: Sequence[embedding.Waiting], vectors: Sequence[bytes], job: Job | None
    ) -> bool:
        recall = self._door.recall
        if recall is None:
            return False

        async def unit(tx: Transaction) -> bool:
            if job is not None:
                await leases.fence(tx, job.lease, now=self._door.clock())
            return await embedding.keep(tx, await self._door.vault.keys(tx, project_id), recall, batch, vectors)

        return await self._door.database.write(unit)

    async def _vectors_of(self, texts: Sequence[str]) -> list[bytes]:
        """Embed texts; an empty one gets an empty vector."""
        there = [text for text in texts if text]
        vectors = iter(await self._vectors(there) if there else ())
        return [next(vectors) if text else b"" for text in texts]

    async def _vectors(self, texts: Sequence[str]) -> list[bytes]:
        if self._embedder is None:
            raise _failure("there is no embedder")
        try:
            vectors = await self._embedder.embed(texts)
        except ContextDnaError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model's library raises, the server goes on
            logger.warning("the embedder failed: %s", type(error).__name__)
            raise _failure("the embedder failed") from None  # its error may quote the text
        sizes = set(map(len, vectors))
        if len(vectors) != len(texts) or len(sizes) != 1 or 0 in sizes or sizes.pop() % FLOAT_BYTES:
            raise _failure("the embedder gives other vectors than were asked for")
        return vectors

    async def _revision(self) -> int:
        try:
            return await self._door.database.revision()
        except ContextDnaError:
            return -1

    async def _wait_for_another(self, revision: int, *, until: float) -> None:
        """Wait until anyone has committed since, in this process or another, or a time is reached."""
        while anyio.current_time() < until:
            await anyio.sleep(_LOOK_EVERY_S)
            if await self._revision() != revision:
                return


async def _backlog(tx: Transaction, recall: Recall, project_id: ProjectId) -> int:
    space = await tx.embeddings.space(project_id)
    if space is not None:
        require_same_model(recall, space, project_id=project_id)
    return await tx.embeddings.backlog(project_id)


def _failure(message: str) -> StorageUnavailable:
    return StorageUnavailable(
        message,
        code="embedder_unavailable",
        hint="It is tried again, and until then searches compare words alone. See that it runs.",
        retryable=True,
    )
