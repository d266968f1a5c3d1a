"""What a tool is: arguments, result, hints and the function that serves it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from mcp_types import ToolAnnotations
from pydantic import BaseModel

from contextdna import ContextDnaError, Hub, Notices, Principal, Scope, Workspace
from contextdna_tools.arguments import Arguments

A = TypeVar("A", bound=Arguments)

Progress = Callable[[float, float, str], Awaitable[None]]
"""Tells the client (progress, total, message) while it waits."""

NoteRefused = Callable[[ContextDnaError, str], Awaitable[None]]
"""Logs to the client that a tool, by its name, was refused or failed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call's surroundings: who calls, and what this server allows."""

    hub: Hub
    principal: Principal
    request_id: str = ""
    trace_id: str = ""
    allowed_roots: tuple[Path, ...] = ()
    """Folders that attach_artifact may read local files from; empty on remote transports."""
    progress: Progress | None = None
    """How a call that waits tells its client so."""
    note_refused: NoteRefused | None = None
    """How a refused call comes into the client's log."""
    notices: Notices = field(default_factory=Notices)
    """What the answer says beside itself of degraded modes."""

    def workspace(self, args: Arguments, *, session_id: str | None = None) -> Workspace:
        """Bind the workspace that a call's session_id and project_id name."""
        return self.hub.bind(
            self.principal,
            session_id=args.session_id if session_id is None else session_id,
            project_id=args.project_id,
            request_id=self.request_id,
            trace_id=self.trace_id,
            notices=self.notices,
        )


@dataclass(frozen=True, slots=True)
class Tool(Generic[A]):
    """A tool as the server lists and calls it. Its description is the docstring of its arguments model."""

    name: str
    arguments: type[A]
    result: type[BaseModel]
    serve: Callable[[Call, A], Awaitable[BaseModel]]
    annotations: ToolAnnotations
    scopes: frozenset[Scope]
    """What a credential needs for any call of it; the door judges the same for what the call asks."""

    @property
    def description(self) -> str:
        """When to use it, in an agent's words."""
        return " ".join((self.arguments.__doc__ or "").split())


AnyTool = Tool[Any]

READS: Final = frozenset({Scope.READ})
WRITES: Final = frozenset({Scope.WRITE})


def hints(*, read_only: bool = False, destructive: bool = False, idempotent: bool = False) -> ToolAnnotations:
    """Make the annotations of a tool; none of ours reaches beyond the store. What a default says is left out."""
    return ToolAnnotations(
        read_only_hint=True if read_only else None,
        destructive_hint=None if read_only or destructive else False,
        idempotent_hint=True if idempotent else None,
        open_world_hint=False,
    )
