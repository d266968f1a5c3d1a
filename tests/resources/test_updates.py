"""Updates: each event names the resources that it changes, and what is listened to for a resource covers them all."""

from datetime import UTC, datetime

import pytest

from contextdna import AgentId, Event, EventId, EventName, ProjectId
from contextdna_resources import UPDATES, Noun, ResourceUri, updated_uris
from contextdna_resources.updates import watched

BASE = "contextdna://projects/default"
RECORDS = ("mem_1", "art_1", "turn_1", "loop_1", "task_1")

OF_RECORDS = {
    f"{BASE}/memories/mem_1",
    f"{BASE}/artifacts/art_1",
    f"{BASE}/artifacts",
    f"{BASE}/conversations",
    f"{BASE}/conversations/subj",
    f"{BASE}/tasks/task_1",
    BASE,
}
NOTHING: set[str] = set()
OF_PHASE = {f"{BASE}/loops/subj", BASE}
AGENTS = f"{BASE}/agents"
AGENT = f"{BASE}/agents/subj"

TABLE = {
    EventName.MEMORY_STORED: OF_RECORDS,
    EventName.MEMORY_MERGED: OF_RECORDS - {BASE},
    EventName.MEMORY_UPDATED: OF_RECORDS,
    EventName.MEMORY_FORGOTTEN: OF_RECORDS,
    EventName.MEMORY_PURGED: OF_RECORDS,
    EventName.MEMORY_RESTORED: OF_RECORDS,
    EventName.MEMORY_SHARED: OF_RECORDS,
    EventName.MEMORY_UNSHARED: OF_RECORDS,
    EventName.MEMORY_LINKED: OF_RECORDS - {BASE},
    EventName.SESSION_BEGUN: NOTHING,
    EventName.SESSION_PROGRESSED: NOTHING,
    EventName.SESSION_ENDED: NOTHING,
    EventName.SESSION_EXPIRED: NOTHING,
    EventName.TURN_LOGGED: {f"{BASE}/conversations/subj", f"{BASE}/conversations", BASE},
    EventName.DELEGATION_CREATED: NOTHING,
    EventName.DELEGATION_ACCEPTED: NOTHING,
    EventName.DELEGATION_DECLINED: NOTHING,
    EventName.DELEGATION_COMPLETED: NOTHING,
    EventName.DELEGATION_FAILED: NOTHING,
    EventName.DELEGATION_REVOKED: NOTHING,
    EventName.DELEGATION_EXPIRED: NOTHING,
    EventName.ARTIFACT_ATTACHED: OF_RECORDS,
    EventName.CONFIDENCE_RECORDED: OF_PHASE,
    EventName.CONSENSUS_RECORDED: OF_PHASE,
    EventName.DECISION_RECORDED: OF_PHASE,
    EventName.TASK_ADDED: OF_RECORDS,
    EventName.TASK_UPDATED: OF_RECORDS,
    EventName.SIGNAL_SENT: NOTHING,
    EventName.SIGNAL_ACKNOWLEDGED: NOTHING,
    EventName.SIGNAL_WITHDRAWN: NOTHING,
    EventName.AGENT_REGISTERED: {AGENT, AGENTS, BASE},
    EventName.AGENT_UPDATED: {AGENT, AGENTS},
    EventName.AGENT_RETIRED: {AGENT, AGENTS},
    EventName.AGENT_APPEARED: {AGENT, AGENTS, BASE},
    EventName.AGENT_SEEN: {AGENT, AGENTS},
    EventName.GATE_CHANGED: {f"{BASE}/loops/subj"},
}


def event(name: EventName, *record_ids: str, subject: str = "subj") -> Event:
    return Event(
        EventId("evt_1"),
        ProjectId("default"),
        name,
        AgentId("a"),
        record_ids,
        datetime.now(UTC),
        subject=subject,
        audience=("queen", "queen/drone"),
    )


def texts(of: Event) -> set[str]:
    return {str(uri) for uri in updated_uris(of)}


@pytest.mark.parametrize("name", EventName)
def test_every_event_has_a_row(name: EventName) -> None:
    assert name in UPDATES


@pytest.mark.parametrize("name", TABLE)
def test_an_event_changes_its_resources(name: EventName) -> None:
    assert texts(event(name, *RECORDS)) == TABLE[name]


@pytest.mark.parametrize("name", [name for name in UPDATES if name.startswith("memory.")])
def test_records_that_the_reader_may_not_know_of_are_not_named(name: EventName) -> None:
    assert texts(event(name, subject="")) <= {BASE}


def test_an_agent_below_others_has_its_path_in_one_part_of_the_uri() -> None:
    assert f"{BASE}/agents/queen%2Fdrone" in texts(event(EventName.AGENT_UPDATED, subject="queen/drone"))


@pytest.mark.parametrize("name", EventName)
def test_who_watches_a_resource_listens_to_every_event_that_changes_it(name: EventName) -> None:
    told = event(name, *RECORDS)
    for uri in updated_uris(told):
        wanted = watched(uri)
        assert wanted.uri == uri
        assert name in wanted.names
        assert not wanted.about or wanted.about & {told.subject, *told.record_ids}


@pytest.mark.parametrize("noun", [Noun.GUIDE, Noun.HEALTH, Noun.PROJECTS])
def test_what_is_fixed_listens_to_nothing(noun: Noun) -> None:
    assert not watched(ResourceUri(noun)).names


def test_a_page_changes_with_its_list() -> None:
    page = ResourceUri(Noun.ARTIFACTS, "default", cursor="abc")
    assert watched(page) == watched(ResourceUri(Noun.ARTIFACTS, "default"))
