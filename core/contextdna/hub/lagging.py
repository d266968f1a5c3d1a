"""Which calls may be answered from a copy of the database that lags a little behind."""

from typing import Final

from contextdna.domain.access import Action

MAY_LAG: Final = frozenset(
    {
        Action.RETRIEVE_CONTEXT,
        Action.GET_MEMORY,
        Action.OPEN_RECORD,
        Action.READ_CONVERSATION,
        Action.LIST_CONVERSATIONS,
        Action.READ_ARTIFACT,
        Action.LIST_ARTIFACTS,
        Action.READ_PROJECT,
        Action.READ_STATS,
        Action.READ_AGENT_HISTORY,
        Action.COMPLETE_NAME,
    }
)
"""What agents know, and what operators look at.

What agents go by when they work together (sessions, delegations, tasks, loops, signals, working state, who is there),
audit chains and credentials are read from the database itself.
"""
