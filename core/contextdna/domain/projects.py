"""Projects: their making, what a reader may know of them, and names to complete."""

from datetime import datetime

from contextdna.domain import audit
from contextdna.domain.encryption import Vault
from contextdna.domain.operation import Operation
from contextdna.domain.validation import check_name
from contextdna.errors import IntegrityFault, InvalidInput, NotFound
from contextdna.ports.database import Transaction
from contextdna.values.audit import AuditDraft, Outcome, Risk
from contextdna.values.ids import INSTALLATION, AgentId, ProjectId, SessionId
from contextdna.values.project import Project, ProjectOverview
from contextdna.values.record import Kind
from contextdna.values.search import RecordFilter

_COMPLETIONS_MAX = 100  # Source: MCP completion/complete allows at most 100 values


async def are_there(tx: Transaction, vault: Vault, project_ids: tuple[ProjectId, ...]) -> bool:
    """Tell whether ``ensure`` has nothing to make: reading takes no turn at a project that somebody holds up.

    Raises:
        IntegrityFault: As of ``ensure``.
    """
    if not await tx.keys.all(INSTALLATION):
        return False
    await _check_installation(tx, vault)
    for project_id in project_ids:
        if await tx.projects.get(project_id) is None:
            return False
        await vault.keys(tx, project_id)
    return True


async def ensure(tx: Transaction, vault: Vault, project_ids: tuple[ProjectId, ...], *, now: datetime) -> None:
    """Make the installation's keys and the named projects where they are not there yet.

    What was there and is gone is never made anew: that would hide its removal.

    Raises:
        InvalidInput: ``project_id_invalid``.
        IntegrityFault: ``wrong_key``: the master key is not the one that the data was written with; or
            ``installation_erased``, ``project_erased``: rows were removed from the database.
    """
    if not await tx.keys.all(INSTALLATION):
        if await tx.projects.all() or await tx.keys.all() or await tx.audit.heads() or await tx.audit.chains():
            raise _erased("the installation's keys are", code="installation_erased")
        await vault.create(tx, INSTALLATION, now=now)
        await _audit(tx, vault, INSTALLATION, "installation.create", created=(), now=now)
    await _check_installation(tx, vault)
    for project_id in project_ids:
        check_name(project_id, name="project_id")
        if await tx.projects.get(project_id) is None:
            await _create(tx, vault, project_id, now=now)
        await vault.keys(tx, project_id)


async def _check_installation(tx: Transaction, vault: Vault) -> None:
    await vault.keys(tx, INSTALLATION)
    if await tx.audit.head(INSTALLATION) is None:
        raise _erased("the installation's audit log is", code="installation_erased")


async def _create(tx: Transaction, vault: Vault, project_id: ProjectId, *, now: datetime) -> None:
    if await has_remains(tx, project_id):
        raise _erased(f"project {project_id} is", code="project_erased")
    await tx.projects.add(Project(project_id, now))
    await vault.create(tx, project_id, now=now)
    await _audit(tx, vault, project_id, audit.PROJECT_CREATED, created=(project_id,), now=now)
    await _audit(tx, vault, INSTALLATION, audit.PROJECT_CREATED, created=(project_id,), now=now)


async def has_remains(tx: Transaction, project_id: ProjectId) -> bool:
    """Tell whether anything says that there was such a project, apart from its own row."""
    if await tx.keys.all(project_id) or await tx.records.total(project_id) or await tx.audit.head(project_id):
        return True
    earlier = await tx.audit.latest(
        INSTALLATION, before_seq=2**62, limit=1, action=audit.PROJECT_CREATED, agent_id="", record_id=project_id
    )
    return bool(earlier)


def _erased(what: str, *, code: str) -> IntegrityFault:
    return IntegrityFault(
        f"{what} gone from the database, other rows of it are not",
        code=code,
        hint="Rows were removed by hand: keep a copy of the folder, and restore a backup.",
    )


async def overview(op: Operation) -> ProjectOverview:
    """Count what the actor may see of its project.

    Raises:
        NotFound: ``project_not_found``.
    """
    project = await op.tx.projects.get(op.project_id)
    if project is None:
        raise NotFound("no such project for this caller", code="project_not_found")
    counts = await op.tx.records.count_visible(op.actor.reader, now=op.now)
    kinds: dict[str, int] = {}
    levels: dict[str, int] = {}
    types: dict[str, int] = {}
    for (kind, level, type_), records in counts.items():
        kinds[kind] = kinds.get(kind, 0) + records
        levels[level] = levels.get(level, 0) + records
        types[type_] = types.get(type_, 0) + records
    agents = len(await op.tx.projects.agents(op.project_id))
    return ProjectOverview(
        project, tuple(sorted(kinds.items())), tuple(sorted(levels.items())), tuple(sorted(types.items())), agents
    )


async def complete(op: Operation, argument: str, prefix: str) -> list[str]:
    """List names that the actor may see and that start with a prefix, at most 100.

    Raises:
        InvalidInput: ``argument_unknown``.
    """
    names = await _names(op, argument)
    return sorted({name for name in names if name.startswith(prefix)})[:_COMPLETIONS_MAX]


async def _names(op: Operation, argument: str) -> list[str]:
    reader = op.actor.reader
    match argument:
        case "project_id":
            return [reader.project_id]
        case "session_id":
            found = await op.tx.records.conversations(reader, now=op.now, limit=_COMPLETIONS_MAX, offset=0)
            return [summary.session_id for summary in found]
        case "artifact_id":
            return await _recent(op, Kind.ARTIFACT)
        case "memory_id":
            return await _recent(op, Kind.MEMORY)
        case "task_id":
            return await _recent(op, Kind.TASK)
        case "phase":
            return await op.tx.records.subjects(reader, Kind.LOOP, now=op.now, limit=1000)
        case "agent_id":
            return [agent.id for agent in await op.tx.projects.agents(op.project_id)]
        case _:
            raise InvalidInput("nothing to complete for this argument", code="argument_unknown")


async def _recent(op: Operation, kind: Kind) -> list[str]:
    where = RecordFilter(kinds=(kind,))
    found = await op.tx.records.list_recent(op.actor.reader, where, now=op.now, limit=1000)
    return [candidate.id for candidate in found]


async def _audit(
    tx: Transaction, vault: Vault, chain: ProjectId, action: str, *, created: tuple[str, ...], now: datetime
) -> None:
    draft = AuditDraft(
        project_id=chain,
        at=now,
        principal_id=AgentId("contextdna"),
        agent_id=AgentId("contextdna"),
        session_id=SessionId(""),
        action=action,
        outcome=Outcome.ALLOWED,
        risk=Risk.LOW,
        record_ids=created,
        details="{}",
        request_id="",
        trace_id="",
    )
    await audit.append(tx, await vault.keys(tx, chain), [draft])
