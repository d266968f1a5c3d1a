"""A queen hands a task to a princess, who hands ten parts of it to ten drones at once: what goes down, and comes back.

Run it with `uv run python examples/delegation_chain.py`; `--data DIR` keeps the folder to look around in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from _support import expect, refusal_of, run_example, say, server_on, title, verify_audit
from contextdna.client import AgentRun, Delegated, Memory, RunReport, connect

TASK = "Import the customer addresses of the old shop without broken characters"
PART = "Find out in which encoding {} is"
RULE = "Decide the encoding of a file as a whole. Line by line, two encodings were once mixed in one address."
HANDOVER = "The export of the old shop lies on the archive server; Priya opens it for whoever asks by name."
DIARY = "I doubt that we keep the date. I will tell the owner on Monday."
LESSON = "A file that starts with the bytes FF FE is in UTF-16; try that before UTF-8 and CP1252."

FILES = {
    **{f"customers-{year}.csv": "name;city\nGrün;Köln\n".encode("cp1252") for year in range(2006, 2010)},
    "customers-2010.csv": "name;city\nGrün;Köln\n".encode("utf-16"),
    **{f"customers-{year}.csv": "name;city\nGrün;Köln\n".encode() for year in range(2011, 2016)},
}


async def story(data: Path) -> None:
    """Go down three levels and up again."""
    async with connect(server_on(data)) as memory:
        async with memory.run("queen", task=TASK, role="coordinator") as queen:
            task, diary_id = await the_queen_delegates(queen)
            reports = await the_princess_works(memory, task, diary_id)
            await what_came_up(queen)
            left = await queen.delegate("scout", "Look for more files of the old shop")
            queen.result = "The addresses of the old shop are imported."
        await the_end(memory, [*reports, queen.report], left)
    await verify_audit(data)


# --- the queen ---


async def the_queen_delegates(queen: AgentRun) -> tuple[Delegated, str]:
    """Relevance hands down what others may see, private memories go only when named."""
    title("The queen stores what she knows")
    await queen.store(RULE, memory_type="failure_pattern", importance=0.9)
    handover = await queen.store(HANDOVER, memory_type="note", level="private")
    diary = await queen.store(DIARY, memory_type="note", level="private")
    say("one memory for the whole project, two private ones, encrypted")

    title("She hands the task to a princess, and names one private memory")
    task = await queen.delegate("princess", TASK, memory_ids=[handover.id])
    show(task)
    expect(HANDOVER in task.briefing, "the private memory that was named is in the briefing")
    expect(DIARY not in task.briefing, "the other private memory is not")
    return task, diary.id


async def what_came_up(queen: AgentRun) -> None:
    """The queen reads what the princess brought, and not what was between the princess and the drones."""
    title("The queen finds the result, and what was learned on the way")
    results = await queen.retrieve("customer addresses", types=["result"])
    say(f"{results.hits[0].owner}: {results.hits[0].content}")
    expect([hit.owner for hit in results.hits] == ["queen/princess"], "she sees the princess's result alone")
    lessons = await queen.retrieve("encoding of a file", types=["success_pattern"])
    say(f"{lessons.hits[0].owner}: {lessons.hits[0].content}")
    expect(lessons.hits[0].content == LESSON, "the drone's lesson is the project's")


# --- the princess ---


async def the_princess_works(memory: Memory, task: Delegated, diary_id: str) -> list[RunReport]:
    """Hand ten parts to ten drones, take care of the one that fails, and sum up."""
    async with memory.run(delegation=task) as princess:
        title("The princess begins")
        code = await refusal_of(memory.get([diary_id], session_id=princess.session_id))
        expect(code == "not_found", "for her, the queen's diary does not exist")
        parts = [await princess.delegate(f"drone-{number}", PART.format(name)) for number, name in enumerate(FILES, 1)]
        title("She hands ten parts to ten drones")
        show(parts[0])
        say(f"... and {len(parts) - 1} more like it")
        expect(all(part.chain[-3:-1] == ("queen", "princess") for part in parts), "queen -> princess -> ten drones")
        expect(HANDOVER not in parts[0].briefing, "the queen's note stays with the princess, who names it to nobody")
        await nobody_reaches_up(memory, parts[0])

        title("The ten drones work at once")
        reports = await ten_at_once(memory, parts)
        reports.append(await once_more(memory, princess))
        await what_the_drones_brought(princess)
        princess.result = "All ten files of customer addresses are imported, each in its own encoding."
    title("The princess finishes")
    say(str(princess.report))
    over = await refusal_of(memory.retrieve("anything", session_id=princess.session_id))
    expect(over == "session_ended", "her session_id opens nothing any more")
    return [*reports, princess.report]


async def ten_at_once(memory: Memory, parts: Sequence[Delegated]) -> list[RunReport]:
    """Run the drones in tasks of their own, over one connection."""
    reports: list[RunReport] = []

    async def work(part: Delegated, name: str) -> None:
        run = memory.run(delegation=part, level="private")
        try:
            async with run:
                run.result = f"{name} is in {encoding_of(FILES[name])}."
        except UnicodeDecodeError:
            say(f"{run.agent_id} failed")
        reports.append(run.report)

    async with anyio.create_task_group() as tasks:
        for part, name in zip(parts, FILES, strict=True):
            tasks.start_soon(work, part, name)
    expect(len(reports) == 10, "all ten have finished")
    expect(sum(report.outcome == "failed" for report in reports) == 1, "one of them has met what it did not know")
    return reports


async def once_more(memory: Memory, princess: AgentRun) -> RunReport:
    """The failure is a memory too: whoever tries next is told of it."""
    title("The princess reads of the failure, and hands the file to another drone")
    failures = await princess.retrieve(types=["failure_pattern"], kinds=["memory"], agent="queen/princess/drone-5")
    failure = failures.hits[0]
    say(f"{failure.owner}: {failure.content}")
    again = await princess.delegate("drone-11", f"{PART.format('customers-2010.csv')}; UTF-8 and CP1252 both failed")
    async with memory.run(delegation=again, level="private") as drone:
        drone.result = f"customers-2010.csv is in {encoding_of(FILES['customers-2010.csv'], first='utf-16')}."
        await drone.store(LESSON, memory_type="success_pattern", level="project")
    expect(drone.report.complete, "this one finds out, and leaves a lesson for all")
    return drone.report


async def what_the_drones_brought(princess: AgentRun) -> None:
    """Results of a delegation are readable for the parent, even private ones."""
    title("What the drones found out is private, and their princess reads it")
    found = await princess.retrieve(types=["result"], max_tokens=4000)
    for hit in sorted(found.hits, key=lambda hit: hit.content):
        say(f"{hit.content} ({hit.owner}, {hit.level})")
    expect(len(found.hits) == 10, "ten results, one for each file")
    expect({hit.shared_by for hit in found.hits} == {hit.owner for hit in found.hits}, "each shared by its drone")


async def nobody_reaches_up(memory: Memory, part: Delegated) -> None:
    """A child has less than its parent, never more."""
    handle = part.session_id
    code = await refusal_of(memory.delegate("queen", "Do it for me", session_id=handle))
    expect(code == "delegation_cycle", "a drone cannot hand its part back to the queen")
    code = await refusal_of(memory.begin("queen", parent=handle, role="system"))
    expect(code == "session_not_allowed", "nor begin a session with more rights than it has")


# --- the drones ---


def encoding_of(data: bytes, *, first: str = "utf-8") -> str:
    """Find out an encoding, knowing no more than a drone does: whatever is not UTF-8 must be CP1252, and say Köln."""
    for encoding in (first, "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "Köln" in text:
            return encoding.upper()
    raise UnicodeDecodeError("cp1252", data[:2], 0, 2, "neither UTF-8 nor CP1252")


# --- the end ---


async def the_end(memory: Memory, reports: Sequence[RunReport], left: Delegated) -> None:
    """Count, look from outside, and try what ended with its parent."""
    title("All have finished")
    expect(len(reports) == 13 and all(report.complete for report in reports), "13 runs, and all of each is stored")
    async with memory.run("auditor") as auditor:
        seen = await memory.retrieve(types=["result"], session_id=auditor.session_id)
    owners = sorted({hit.owner for hit in seen.hits})
    expect(owners == ["queen", "queen/princess"], "an outsider sees the results for the project, none of the drones'")
    code = await refusal_of(memory.retrieve("anything", session_id=left.session_id))
    expect(code == "session_ended", "a scout whom the queen had sent out at last has ended with her")


def show(task: Delegated) -> None:
    """Print a delegation."""
    say(f"{' -> '.join(task.chain)} (depth {task.depth}), until {task.expires_at}")
    for line in task.briefing.splitlines():
        say(f"| {line}")


if __name__ == "__main__":
    run_example(story)
