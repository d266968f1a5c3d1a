"""Two agents of different teams: what each may see, one shared memory, and how sharing ends.

Run it with `uv run python examples/two_agents_sharing.py`; `--data DIR` keeps the folder to look around in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _support import Memory, clipped, expect, open_memory, run_example, say, title, verify_audit

SUSPICION = (
    "Between 02:00 and 02:20 UTC the certificate of the payment gateway was renewed; all failed checkouts fall into "
    "these minutes. Not confirmed with the provider yet."
)
TEAM_NOTE = "The raw checkout logs of 14 May are kept in the data team's cold storage until 14 June."
DECISION = "Checkout retries a refused TLS handshake twice, with full jitter, and then tells the customer to wait."
QUESTION = "Why did checkouts fail around 02:00?"


async def story(data: Path) -> None:
    """Let an analyst share one memory with a writer, and take it back."""
    async with open_memory(data) as memory:
        title("An analyst of team data and a writer of team web begin their sessions")
        analyst = await begin(memory, "analyst", "data")
        writer = await begin(memory, "writer", "web")

        title("The analyst stores three memories, each for another circle of readers")
        suspicion = await store(memory, analyst, SUSPICION, "private")
        await store(memory, analyst, TEAM_NOTE, "team")
        decision = await store(memory, analyst, DECISION, "project")

        await before_sharing(memory, writer, suspicion, decision)
        await while_shared(memory, analyst, writer, suspicion)
        await after_sharing(memory, analyst, writer, suspicion)
    await verify_audit(data)


async def begin(memory: Memory, agent_id: str, team_id: str) -> str:
    """Begin a session for an agent of a team."""
    begun = await memory.call("begin_session", agent_id=agent_id, team_id=team_id)
    say(f"{agent_id} works in conversation {begun['conversation']}")
    return str(begun["session_id"])


async def store(memory: Memory, session_id: str, content: str, level: str) -> str:
    """Store one memory."""
    answer = await memory.call("store_memory", session_id=session_id, content=content, level=level)
    say(f"{level:<8} {clipped(content)}")
    return str(answer["stored"][0]["id"])


async def find(memory: Memory, session_id: str) -> dict[str, dict[str, Any]]:
    """Ask the question and give the hits by id."""
    answer = await memory.call("retrieve_context", session_id=session_id, query=QUESTION)
    return {hit["id"]: hit for hit in answer["hits"]}


async def before_sharing(memory: Memory, writer: str, suspicion: str, decision: str) -> None:
    """The writer sees the project's memories only."""
    title("The writer looks around")
    newest = await memory.call("retrieve_context", session_id=writer)
    seen = [hit["id"] for hit in newest["hits"]]
    expect(seen == [decision], "of three memories the writer sees the one of the project")
    expect(suspicion not in await find(memory, writer), "its search does not find the analyst's private memory")
    hidden = await memory.refusal("get_memory", session_id=writer, ids=[suspicion])
    unknown = await memory.refusal("get_memory", session_id=writer, ids=["mem_" + "0" * 22])
    expect(hidden == unknown == "not_found", "by id, the private memory answers like one that does not exist")


async def while_shared(memory: Memory, analyst: str, writer: str, suspicion: str) -> None:
    """The writer reads what was shared, and can neither change nor pass it on."""
    title("The analyst shares the private memory for an hour")
    await memory.call(
        "share_memories", session_id=analyst, target_agent_ids=["writer"], memory_ids=[suspicion], expires_in_s=3600
    )
    hit = (await find(memory, writer)).get(suspicion, {})
    say(f"{QUESTION} -> {clipped(hit.get('content', 'nothing'))} [{'; '.join(hit.get('why', []))}]")
    expect(hit.get("shared_by") == "analyst", "the writer finds it, and is told who shared it")

    code = await memory.refusal(
        "share_memories", session_id=writer, target_agent_ids=["intern"], memory_ids=[suspicion]
    )
    expect(code == "not_owner", "the writer cannot pass it on")
    code = await memory.refusal(
        "update_memory", session_id=writer, id=suspicion, expected_version=1, content="Confirmed."
    )
    expect(code == "not_owner", "the writer cannot change it")

    title("The analyst corrects it: a grant follows the memory")
    confirmed = SUSPICION.replace("Not confirmed with the provider yet.", "The provider has confirmed it.")
    await memory.call("update_memory", session_id=analyst, id=suspicion, expected_version=1, content=confirmed)
    read = await memory.call("get_memory", session_id=writer, ids=[suspicion])
    expect(read["memories"][0]["content"] == confirmed, "the writer reads the new version")


async def after_sharing(memory: Memory, analyst: str, writer: str, suspicion: str) -> None:
    """Revoking works for the next call."""
    title("The analyst takes it back")
    ended = await memory.call("share_memories", session_id=analyst, target_agent_ids=["writer"], revoke=True)
    say(f"{ended['revoked']} grant ended")
    expect(suspicion not in await find(memory, writer), "the writer does not find it any more")
    code = await memory.refusal("get_memory", session_id=writer, ids=[suspicion])
    expect(code == "not_found", "and cannot read it by id")


if __name__ == "__main__":
    run_example(story)
