"""One agent's working session, every tool once: from begin_session to end_session, and the audit trail afterwards.

Run it with `uv run python examples/tool_call_session.py`; `--data DIR` keeps the folder to look around in.
"""

from __future__ import annotations

from pathlib import Path

from _support import Memory, clipped, expect, open_memory, run_example, say, title, verify_audit

WAL_BUG = (
    "SQLite 3.7.0 to 3.51.2 can damage a database in WAL mode when two connections reset the write-ahead log at the "
    "same moment. 3.51.3 and newer are safe."
)
FSYNC = (
    "With synchronous=NORMAL a power failure can roll back the last transactions of a database in WAL mode; with "
    "synchronous=FULL a committed transaction stays."
)
STALE = "The nightly report reads from the primary database."
REPORT = """# Durability review

1. Move every service to SQLite 3.53 before two processes share a file.
2. Set synchronous=FULL where an answer promises that a write is durable.
3. Measure again: group commit made the difference in throughput small.
"""


async def story(data: Path) -> None:
    """Go through a task with all tools."""
    async with open_memory(data) as memory:
        session_id = await begin(memory)
        wal_id, stale_id = await remember(memory, session_id)
        await look_up(memory, session_id, wal_id)
        await correct_and_share(memory, session_id, wal_id, stale_id)
        artifact_id = await keep_the_course(memory, session_id)
        await hand_on_and_finish(memory, session_id, artifact_id)

        title("Every tool was called")
        listed = {tool.name for tool in (await memory.client.list_tools()).tools}
        expect(set(memory.called) == listed, f"{len(listed)} tools are listed, and each of them was used")
    await verify_audit(data)


async def begin(memory: Memory) -> str:
    """begin_session."""
    title("begin_session: work starts, and the calls that follow belong together")
    begun = await memory.call("begin_session", agent_id="reviewer", task="Review how durable our writes are")
    say(f"conversation {begun['conversation']}, until {begun['expires_at']}")
    session_id = str(begun["session_id"])
    expect(session_id.startswith(begun["conversation"] + "."), "the handle is the public id and a secret")
    return session_id


async def remember(memory: Memory, session_id: str) -> tuple[str, str]:
    """store_memory."""
    title("store_memory: three memories, all or none")
    answer = await memory.call(
        "store_memory",
        session_id=session_id,
        memories=[
            {"content": WAL_BUG, "memory_type": "constraint", "importance": 0.9, "tags": ["sqlite", "wal"]},
            {"content": FSYNC, "memory_type": "fact", "tags": ["sqlite"]},
            {"content": STALE, "memory_type": "fact", "tier": "working"},
        ],
    )
    for item in answer["stored"]:
        say(f"{item['id']} version {item['version']} {item['status']}")
    expect(len(answer["stored"]) == 3, "each has an id and a version")
    return answer["stored"][0]["id"], answer["stored"][2]["id"]


async def look_up(memory: Memory, session_id: str, wal_id: str) -> None:
    """retrieve_context, get_memory."""
    title("retrieve_context: a question in plain words")
    question = "Which SQLite versions damage databases?"
    answer = await memory.call("retrieve_context", session_id=session_id, query=question, limit=3)
    for hit in answer["hits"]:
        say(f"{hit['score']:.2f} {clipped(hit['content'])} [{'; '.join(hit['why'])}]")
    expect(answer["hits"][0]["id"] == wal_id, "the constraint about SQLite comes first")

    title("get_memory: the whole of it")
    whole = (await memory.call("get_memory", session_id=session_id, ids=[wal_id]))["memories"][0]
    say(f"{whole['memory_type']} of {whole['owner']}, level {whole['level']}, tags {', '.join(whole['tags'])}")
    expect(whole["content"] == WAL_BUG, "the content is what was stored")


async def correct_and_share(memory: Memory, session_id: str, wal_id: str, stale_id: str) -> None:
    """update_memory, share_memories, forget_memory."""
    title("update_memory: at the version that was read")
    updated = await memory.call("update_memory", session_id=session_id, id=wal_id, expected_version=1, importance=1.0)
    expect(updated["version"] == 2, "the memory has version 2")
    code = await memory.refusal("update_memory", session_id=session_id, id=wal_id, expected_version=1, importance=0.1)
    expect(code == "version_conflict", "a second writer with version 1 is told so")

    title("share_memories: a grant, not a copy")
    shared = await memory.call(
        "share_memories", session_id=session_id, target_agent_ids=["auditor"], memory_ids=[wal_id], expires_in_s=3600
    )
    say(f"auditor may read {shared['shared']['auditor']} memory until {shared['expires_at']}")

    title("forget_memory: what is no longer true")
    forgotten = await memory.call("forget_memory", session_id=session_id, ids=[stale_id])
    say(f"can be restored until {forgotten['restorable_until']}")
    code = await memory.refusal("get_memory", session_id=session_id, ids=[stale_id])
    expect(code == "not_found", "it answers like a memory that never was")


async def keep_the_course(memory: Memory, session_id: str) -> str:
    """log_turn, attach_artifact, record_loop_decision."""
    title("log_turn: what was said")
    turns = [
        {"role": "user", "content": "Are our writes durable when the power fails?"},
        {"role": "assistant", "content": "They are with synchronous=FULL. I will write the review down."},
    ]
    logged = await memory.call("log_turn", session_id=session_id, turns=turns)
    expect(len(logged["ids"]) == 2, f"two turns in conversation {logged['conversation']}")

    title("attach_artifact: the report itself")
    artifact = await memory.call("attach_artifact", session_id=session_id, name="durability-review.md", text=REPORT)
    say(f"{artifact['uri']} ({artifact['size_bytes']} bytes, {artifact['media_type']})")

    title("record_loop_decision: how sure the agent is, and what the gate still wants")
    recorded = await memory.call(
        "record_loop_decision",
        session_id=session_id,
        loop=3,
        phase="durability",
        score=0.85,
        reasoning="Both facts are from the project's documentation, and the tests agree.",
    )
    say(f"missing: {'; '.join(recorded['gate']['missing'])}")
    expect(not recorded["gate"]["open"], "the gate stays closed without a consensus")
    return str(artifact["id"])


async def hand_on_and_finish(memory: Memory, session_id: str, artifact_id: str) -> None:
    """delegate_with_context, end_session."""
    title("delegate_with_context: a child agent gets the task and what it needs to know")
    given = await memory.call(
        "delegate_with_context",
        session_id=session_id,
        child_agent_id="upgrader",
        task="Upgrade SQLite in the report service",
        query="SQLite versions that damage databases",
    )
    for line in given["briefing"].splitlines():
        say(line)
    expect(given["chain"][-2:] == ["reviewer", "upgrader"], "the chain tells who handed to whom")

    title("end_session: the result and the lesson stay")
    ended = await memory.call(
        "end_session",
        session_id=session_id,
        success=True,
        output="The review is written; SQLite must be upgraded first.",
        learnings=["Check the engine's version before tuning its settings."],
        artifacts=[artifact_id],
    )
    say(f"{ended['status']}, {len(ended['stored'])} memories stored, {ended['children_ended']} delegation ended")
    expect(ended["status"] == "succeeded", "the session succeeded")


if __name__ == "__main__":
    run_example(story)
