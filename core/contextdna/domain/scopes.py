"""What a credential must allow for each action, whatever the role of its agent.

What gives stored text needs ``read``, what changes something ``write``. What lets others read needs ``share``, and what
records where a loop stands ``decide``. What is for operators needs ``admin``.
"""

from collections.abc import Mapping
from typing import Final

from contextdna.domain.access import Action
from contextdna.errors import AccessDenied
from contextdna.values.principal import Principal, Scope

_ACTIONS: Final[Mapping[frozenset[Scope], tuple[Action, ...]]] = {
    frozenset(): (Action.AUTHENTICATE, Action.REQUEST),
    frozenset({Scope.READ}): (
        Action.RETRIEVE_CONTEXT,
        Action.GET_MEMORY,
        Action.READ_SESSIONS,
        Action.GET_STATE,
        Action.READ_CONVERSATION,
        Action.LIST_CONVERSATIONS,
        Action.READ_ARTIFACT,
        Action.LIST_ARTIFACTS,
        Action.LIST_DELEGATIONS,
        Action.READ_LOOPS,
        Action.OPEN_RECORD,
        Action.READ_TASK,
        Action.LIST_TASKS,
        Action.LIST_PROJECTS,
        Action.READ_PROJECT,
        Action.COMPLETE_NAME,
        Action.READ_HEALTH,
        Action.READ_EVENTS,
        Action.READ_SIGNALS,
        Action.AWAIT_SIGNAL,
        Action.READ_AGENTS,
        Action.READ_AGENT_HISTORY,
    ),
    frozenset({Scope.WRITE}): (
        Action.STORE_MEMORY,
        Action.UPDATE_MEMORY,
        Action.FORGET_MEMORY,
        Action.PURGE_MEMORY,
        Action.RESTORE_MEMORY,
        Action.LINK_MEMORY,
        Action.END_SESSION,
        Action.SET_STATE,
        Action.DELETE_STATE,
        Action.LOG_TURN,
        Action.ATTACH_ARTIFACT,
        Action.ADD_TASK,
        Action.UPDATE_TASK,
        Action.SEND_SIGNAL,
        Action.ACKNOWLEDGE_SIGNAL,
        Action.WITHDRAW_SIGNAL,
        Action.REGISTER_AGENT,
        Action.BEAT_AGENT,
        Action.RATE_AGENT,
    ),
    frozenset({Scope.READ, Scope.WRITE}): (
        Action.BEGIN_SESSION,
        Action.RESUME_SESSION,
        Action.PROGRESS_SESSION,
        Action.ACCEPT_DELEGATION,
        Action.DECLINE_DELEGATION,
        Action.REVOKE_DELEGATION,
    ),
    frozenset({Scope.SHARE}): (Action.SHARE_MEMORY, Action.REVOKE_SHARE),
    frozenset({Scope.READ, Scope.SHARE}): (Action.DELEGATE,),
    frozenset({Scope.DECIDE}): (Action.RECORD_LOOP,),
    frozenset({Scope.ADMIN}): (
        Action.READ_STATS,
        Action.QUERY_AUDIT,
        Action.VERIFY_AUDIT,
        Action.EXPORT_AUDIT,
        Action.ROTATE_KEYS,
        Action.SWEEP,
        Action.REINDEX,
        Action.REVIEW_SPOOL,
        Action.CLOSE_SESSIONS,
        Action.RETIRE_AGENT,
        Action.CREATE_TOKEN,
        Action.LIST_TOKENS,
        Action.REVOKE_TOKEN,
    ),
}

SCOPES: Final[Mapping[Action, frozenset[Scope]]] = {
    action: scopes for scopes, actions in _ACTIONS.items() for action in actions
}
"""The scopes that each action needs, all of them."""


def require_scopes(principal: Principal, action: Action) -> None:
    """Refuse what the caller's credential is not for; a session handle changes nothing about it.

    Raises:
        AccessDenied: ``scope_missing``, with the ``scopes`` that the action needs.
    """
    needed = SCOPES[action]
    if not needed <= principal.scopes:
        missing = ", ".join(sorted(needed - principal.scopes))
        raise AccessDenied(
            f"{action} needs a credential with the scope {missing}",
            code="scope_missing",
            hint="Ask the operator for a token with more scopes.",
            scopes=needed,
        )
