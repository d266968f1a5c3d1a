"""Answers without a hit: what was searched, what is visible there, and what to try."""

import difflib
from collections.abc import Mapping

from contextdna.domain.names import near_agents
from contextdna.domain.operation import Operation
from contextdna.values.ids import as_named
from contextdna.values.search import ContextQuery, EmptyReason, ScopeCount


async def explain(op: Operation, query: ContextQuery, *, has_text: bool) -> EmptyReason:
    """Explain an answer without hits.

    Args:
        op: The call at work.
        query: The question.
        has_text: It has words to look for.
    """
    counts = await op.tx.records.count_visible(op.actor.reader, now=op.now)
    visible = sum(counts.values())
    levels: dict[str, int] = {}
    types: dict[str, int] = {}
    for (_, level, type_), records in counts.items():
        levels[level] = levels.get(level, 0) + records
        types[type_] = types.get(type_, 0) + records
    suggestions = _suggestions(query, types, has_text=has_text)
    if query.owner_id and (near := await near_agents(op, query.owner_id)):
        suggestions = (f"no agent of that name is known; near: {', '.join(near)}", *suggestions)
    return EmptyReason(
        message=_message(op, query, visible),
        visible=visible,
        by_level=tuple(ScopeCount(name, records) for name, records in sorted(levels.items())),
        by_type=tuple(ScopeCount(name, records) for name, records in sorted(types.items())),
        suggestions=suggestions,
    )


def _message(op: Operation, query: ContextQuery, visible: int) -> str:
    """Say what was searched. Whether a word occurs in records the reader may not see must not show here."""
    scope = f"project {op.project_id}, as agent {op.actor.agent_id}"
    if visible == 0:
        return f"Nothing is visible in {scope} yet."
    if query.cursor:
        return "There are no further hits."
    there = "1 record is" if visible == 1 else f"{visible} records are"
    return f"No record matches query and filters in {scope}; {there} visible there."


def _suggestions(query: ContextQuery, types: Mapping[str, int], *, has_text: bool) -> tuple[str, ...]:
    suggestions = []
    for wanted in map(as_named, query.types):
        if wanted not in types:
            near = difflib.get_close_matches(wanted, types, n=2, cutoff=0.5)
            suggestions.append(f"type {wanted} has no visible records" + (f"; near: {', '.join(near)}" if near else ""))
    if any((query.types, query.tiers, query.levels, query.tags, query.owner_id, query.since, query.until)):
        suggestions.append("retry with fewer filters")
    if has_text:
        suggestions.append("retry with other words, or an empty query for recent records")
    return tuple(suggestions)
