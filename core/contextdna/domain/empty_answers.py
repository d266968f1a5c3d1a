"""Answers without a hit: what was searched, what is visible there, and what to try."""

import difflib
from collections.abc import Mapping

from contextdna.domain import stretches
from contextdna.domain.names import near_agents
from contextdna.domain.operation import Operation
from contextdna.values.ids import as_named
from contextdna.values.record import Kind
from contextdna.values.search import ContextQuery, EmptyReason, RecordFilter, ScopeCount


async def explain(op: Operation, query: ContextQuery, *, has_text: bool, beyond: bool = False) -> EmptyReason:
    """Explain an answer without hits.

    Args:
        op: The call at work.
        query: The question.
        has_text: It has words to look for.
        beyond: Only a stretch of what is there was searched, and its cursor goes on.
    """
    newest, counts = await _counts(op)
    visible = sum(counts.values())
    levels: dict[str, int] = {}
    types: dict[str, int] = {}
    for (_, level, type_), records in counts.items():
        levels[level] = levels.get(level, 0) + records
        types[type_] = types.get(type_, 0) + records
    suggestions = _suggestions(query, types, newest, has_text=has_text)
    if beyond:
        suggestions = ("send the cursor to search what is older, or give since and until", *suggestions)
    if query.owner_id and (near := await near_agents(op, query.owner_id)):
        suggestions = (f"no agent of that name is known; near: {', '.join(near)}", *suggestions)
    return EmptyReason(
        message=_message(op, query, visible, newest, beyond=beyond, has_text=has_text),
        visible=visible,
        by_level=tuple(ScopeCount(name, records) for name, records in sorted(levels.items())),
        by_type=tuple(ScopeCount(name, records) for name, records in sorted(types.items())),
        suggestions=suggestions,
        newest=newest,
    )


async def _counts(op: Operation) -> tuple[int, Mapping[tuple[Kind, str, str], int]]:
    """Count what is visible among the newest records: how many these are (0 for all there are), and the counts."""
    where, older = await stretches.of_records(op, RecordFilter())
    counts = await op.tx.records.count_visible(op.actor.reader, now=op.now, since=where.since)
    return stretches.RECORDS_MAX if older else 0, counts


def _message(op: Operation, query: ContextQuery, visible: int, newest: int, *, beyond: bool, has_text: bool) -> str:
    """Say what was searched. Whether a word occurs in records the reader may not see must not show here."""
    scope = f"project {op.project_id}, as agent {op.actor.agent_id}"
    if visible == 0 and not newest:
        return f"Nothing is visible in {scope} yet."
    if query.cursor and not beyond:
        return "There are no further hits."
    there = "1 record is" if visible == 1 else f"{visible} records are"
    visible_there = f"of its newest {newest} or so, {there} visible" if newest else f"{there} visible there"
    if not beyond:
        return f"No record matches query and filters in {scope}; {visible_there}."
    most = f"{stretches.MATCHES_MAX} that match" if has_text else str(stretches.RECORDS_MAX)
    which = "the next older" if query.cursor else "the newest"
    return f"Searched {which} {most} in {scope}: none is visible and passes the filters; {visible_there}."


def _suggestions(query: ContextQuery, types: Mapping[str, int], newest: int, *, has_text: bool) -> tuple[str, ...]:
    suggestions = []
    for wanted in map(as_named, query.types):
        if wanted not in types:
            near = difflib.get_close_matches(wanted, types, n=2, cutoff=0.5)
            among = f" among the newest {newest}" if newest else ""
            said = f"type {wanted} has no visible records{among}"
            suggestions.append(said + (f"; near: {', '.join(near)}" if near else ""))
    if any((query.types, query.tiers, query.levels, query.tags, query.owner_id, query.since, query.until)):
        suggestions.append("retry with fewer filters")
    if has_text:
        suggestions.append("retry with other words, or an empty query for recent records")
    return tuple(suggestions)
