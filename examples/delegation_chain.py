"""A queen hands a task to a princess, who hands a part of it to a drone: what goes down, what comes back, what ends.

Run it with `uv run python examples/delegation_chain.py`; `--data DIR` keeps the folder to look around in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _support import Memory, expect, open_memory, run_example, say, title, verify_audit

KNOWN = [
    {
        "content": "The import of customer addresses reads CSV files in UTF-8; files from the old shop are in CP1252.",
        "memory_type": "fact",
        "importance": 0.8,
    },
    {
        "content": "Guessing the encoding of a file line by line mixed two encodings in one address. Decide per file.",
        "memory_type": "failure_pattern",
        "importance": 0.9,
    },
    {
        "content": "The press kit is due on the first of June.",
        "memory_type": "event",
        "importance": 0.3,
    },
]
CREDENTIAL_NOTE = "The export of the old shop lies on the archive server; Priya opens it for whoever asks by name."
DIARY = "I doubt that we keep the date. I will tell the owner on Monday."
TASK = "Import the customer addresses of the old shop without broken characters"
PART = "Find out which of the CSV files are not in UTF-8"
LEARNING = "A byte between 0x80 and 0x9F that is not part of a UTF-8 sequence tells CP1252 from Latin-1."


async def story(data: Path) -> None:
    """Delegate twice, work, and end from the bottom up."""
    async with open_memory(data) as memory:
        queen, note_id, diary_id = await a_queen_who_knows(memory)
        princess = await down_to_the_princess(memory, queen, note_id, diary_id)
        drone = await down_to_the_drone(memory, princess, note_id)
        await back_up(memory, drone, princess, note_id)
        await the_lesson_stays(memory, queen)
        await an_end_from_above(memory, queen)
    await verify_audit(data)


async def a_queen_who_knows(memory: Memory) -> tuple[str, str, str]:
    """Begin as the queen and store what she knows."""
    title("The queen begins, and stores what the project knows")
    begun = await memory.call("begin_session", agent_id="queen", role="coordinator")
    queen = str(begun["session_id"])
    await memory.call("store_memory", session_id=queen, memories=KNOWN)
    say(f"{len(KNOWN)} memories for the whole project")
    private = [{"content": text, "memory_type": "note", "level": "private"} for text in (CREDENTIAL_NOTE, DIARY)]
    stored = (await memory.call("store_memory", session_id=queen, memories=private))["stored"]
    say("2 private ones, encrypted")
    return queen, str(stored[0]["id"]), str(stored[1]["id"])


async def down_to_the_princess(memory: Memory, queen: str, note_id: str, diary_id: str) -> str:
    """First delegation: relevance hands down what others may see, private memories go only when named."""
    title("She hands the task to a princess, and names one private memory")
    given = await memory.call(
        "delegate_with_context", session_id=queen, child_agent_id="princess", task=TASK, memory_ids=[note_id]
    )
    show(given)
    princess = str(given["session_id"])
    expect(CREDENTIAL_NOTE in given["briefing"], "the named private memory is in the briefing")
    expect(DIARY not in given["briefing"], "the other private memory is not")
    expect(KNOWN[1]["content"] in given["briefing"], "the failure that bears on the task is")
    code = await memory.refusal("get_memory", session_id=princess, ids=[diary_id])
    expect(code == "not_found", "for the princess, the queen's diary does not exist")
    return princess


async def down_to_the_drone(memory: Memory, princess: str, note_id: str) -> str:
    """Second delegation: what was inherited may be handed on; the chain grows and cannot bite its tail."""
    title("The princess hands a part of it to a drone")
    given = await memory.call(
        "delegate_with_context",
        session_id=princess,
        child_agent_id="drone",
        task=PART,
        memory_ids=[note_id],
        min_importance=0.5,
    )
    show(given)
    drone = str(given["session_id"])
    expect(given["chain"][-3:] == ["queen", "princess", "drone"], "the chain is queen -> princess -> drone")
    code = await memory.refusal("delegate_with_context", session_id=drone, child_agent_id="queen", task="Do it for me")
    expect(code == "delegation_cycle", "the drone cannot hand it back to the queen")
    code = await memory.refusal("begin_session", parent=drone, agent_id="queen", role="system")
    expect(code == "session_not_allowed", "nor begin a session with more rights than it has")
    return drone


async def back_up(memory: Memory, drone: str, princess: str, note_id: str) -> None:
    """The drone and the princess finish: delegations complete, grants end."""
    title("The drone finishes")
    ended = await memory.call(
        "end_session",
        session_id=drone,
        success=True,
        output="customers-2009.csv and customers-2011.csv are in CP1252.",
        learnings=[LEARNING],
    )
    say(f"{ended['status']}; {len(ended['stored'])} memories stored; {ended['grants_ended']} grant ended")
    expect(ended["delegation_completed"], "its delegation is completed")
    code = await memory.refusal("get_memory", session_id=drone, ids=[note_id])
    expect(code == "session_ended", "its session_id opens nothing any more")

    title("The princess finds the drone's result, and finishes too")
    found = await memory.call(
        "retrieve_context", session_id=princess, query="Which customer files are in CP1252?", types=["result"]
    )
    say(f"{found['hits'][0]['owner']}: {found['hits'][0]['content']}")
    expect(found["hits"][0]["owner"] == "queen/princess/drone", "the first hit is the drone's result")
    ended = await memory.call("end_session", session_id=princess, success=True, output="All addresses are imported.")
    expect(ended["delegation_completed"], "the delegation of the queen is completed")


async def the_lesson_stays(memory: Memory, queen: str) -> None:
    """What the chain learned is there for whoever comes next."""
    title("The queen asks what was learned")
    found = await memory.call(
        "retrieve_context", session_id=queen, query="How to tell CP1252 from Latin-1", types=["success_pattern"]
    )
    say(found["hits"][0]["content"])
    expect(found["hits"][0]["content"] == LEARNING, "the drone's lesson is a success_pattern of the project")


async def an_end_from_above(memory: Memory, queen: str) -> None:
    """When a parent ends, what it delegated ends with it."""
    title("The queen ends while another drone still works")
    given = await memory.call("delegate_with_context", session_id=queen, child_agent_id="drone-2", task="Tidy up")
    ended = await memory.call("end_session", session_id=queen, success=True)
    say(f"{ended['children_ended']} delegation revoked")
    code = await memory.refusal("retrieve_context", session_id=given["session_id"], query="anything")
    expect(code == "session_ended", "the drone's session ended with hers")


def show(given: dict[str, Any]) -> None:
    """Print a delegation."""
    say(f"{' -> '.join(given['chain'])} (depth {given['depth']}), until {given['expires_at']}")
    for line in given["briefing"].splitlines():
        say(f"| {line}")


if __name__ == "__main__":
    run_example(story)
