"""The tools: parse, call one Workspace method, shape the result."""

from contextdna_tools.agents import AGENT_HISTORY, REGISTER_AGENT, RETIRE_AGENT
from contextdna_tools.artifact_list import LIST_ARTIFACTS
from contextdna_tools.artifact_parts import GET_ARTIFACT
from contextdna_tools.artifacts import ATTACH_ARTIFACT
from contextdna_tools.boundary import failure, run_tool, unforeseen
from contextdna_tools.context import RETRIEVE_CONTEXT
from contextdna_tools.conversations import READ_CONVERSATION
from contextdna_tools.documents import FETCH, LINK_MEMORIES, SEARCH
from contextdna_tools.loops import LOOP_STATUS, RECORD_LOOP_DECISION
from contextdna_tools.memories import FORGET_MEMORY, GET_MEMORY, STORE_MEMORY, UPDATE_MEMORY
from contextdna_tools.operators import LIST_PROJECTS, QUERY_AUDIT
from contextdna_tools.schema import input_schema, output_schema
from contextdna_tools.session_parts import GET_STATE, SET_STATE, UPDATE_DELEGATION, UPDATE_SESSION
from contextdna_tools.sessions import BEGIN_SESSION, DELEGATE, END_SESSION, LOG_TURN
from contextdna_tools.sharing import SHARE_MEMORIES
from contextdna_tools.signals import ACKNOWLEDGE_SIGNAL, AWAIT_SIGNAL, SEND_SIGNAL
from contextdna_tools.spec import AnyTool, Call, Tool
from contextdna_tools.tasks import ADD_TASK, LIST_TASKS, UPDATE_TASK

TOOLS: tuple[AnyTool, ...] = (
    STORE_MEMORY,
    RETRIEVE_CONTEXT,
    DELEGATE,
    SHARE_MEMORIES,
    RECORD_LOOP_DECISION,
    GET_MEMORY,
    UPDATE_MEMORY,
    FORGET_MEMORY,
    BEGIN_SESSION,
    END_SESSION,
    LOG_TURN,
    ATTACH_ARTIFACT,
)
"""The default profile: what most agents need, in a list that a model's context bears."""

FULL_TOOLS: tuple[AnyTool, ...] = (
    *TOOLS,
    GET_ARTIFACT,
    LIST_ARTIFACTS,
    READ_CONVERSATION,
    UPDATE_SESSION,
    SET_STATE,
    GET_STATE,
    UPDATE_DELEGATION,
    LOOP_STATUS,
    REGISTER_AGENT,
    RETIRE_AGENT,
    AGENT_HISTORY,
    SEND_SIGNAL,
    ACKNOWLEDGE_SIGNAL,
    AWAIT_SIGNAL,
    ADD_TASK,
    UPDATE_TASK,
    LIST_TASKS,
    LINK_MEMORIES,
    SEARCH,
    FETCH,
    LIST_PROJECTS,
    QUERY_AUDIT,
)
"""The full profile: the default one, and what orchestrators and operators ask for."""

__all__ = [
    "FULL_TOOLS",
    "TOOLS",
    "AnyTool",
    "Call",
    "Tool",
    "failure",
    "input_schema",
    "output_schema",
    "run_tool",
    "unforeseen",
]
