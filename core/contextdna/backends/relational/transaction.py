"""All tables over one executor: what a unit of work gets."""

from dataclasses import dataclass

from contextdna.backends.relational.access_tokens import AccessTokens
from contextdna.backends.relational.agents import Agents
from contextdna.backends.relational.embeddings import Embeddings
from contextdna.backends.relational.leases import Leases
from contextdna.backends.relational.ledger import Audit, Events, Keys, Requests
from contextdna.backends.relational.loops import Loops
from contextdna.backends.relational.records import Records
from contextdna.backends.relational.signals import Signals
from contextdna.backends.relational.statements import Executor
from contextdna.backends.relational.states import States
from contextdna.backends.relational.tasks import Tasks
from contextdna.backends.relational.work import Grants, Projects, Sessions


@dataclass(frozen=True, slots=True)
class RelationalTransaction:
    """Fulfils ``ports.database.Transaction``. Holds no state of a transaction, so one serves a connection for life."""

    records: Records
    embeddings: Embeddings
    loops: Loops
    tasks: Tasks
    projects: Projects
    agents: Agents
    sessions: Sessions
    states: States
    leases: Leases
    grants: Grants
    signals: Signals
    audit: Audit
    events: Events
    keys: Keys
    access_tokens: AccessTokens
    requests: Requests


def tables_over(executor: Executor) -> RelationalTransaction:
    """Make the tables that run their statements through an executor."""
    return RelationalTransaction(
        records=Records(executor),
        embeddings=Embeddings(executor),
        loops=Loops(executor),
        tasks=Tasks(executor),
        projects=Projects(executor),
        agents=Agents(executor),
        sessions=Sessions(executor),
        states=States(executor),
        leases=Leases(executor),
        grants=Grants(executor),
        signals=Signals(executor),
        audit=Audit(executor),
        events=Events(executor),
        keys=Keys(executor),
        access_tokens=AccessTokens(executor),
        requests=Requests(executor),
    )
