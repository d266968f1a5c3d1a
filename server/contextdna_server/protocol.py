"""Resources, prompts and completions on the low-level server, behind one error boundary."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypedDict, TypeVar

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from contextdna import AccessDenied, ContextDnaError, InvalidInput, NotFound, SessionInvalid, Workspace
from contextdna_resources import WorkspaceFor, complete_name
from contextdna_server.logging_level import log_refusal
from contextdna_server.prompts import ServedPrompt, find_prompt, get_prompt
from contextdna_server.served_resources import ServedResources
from contextdna_tools import unforeseen

Request = ServerRequestContext[Any, Any]
BindWorkspace = Callable[[Request, str], Workspace]
"""Binds the verified caller of a request in a project; the empty id means the caller's own."""

P = TypeVar("P")
R = TypeVar("R")
Handler = Callable[[Request, P], Awaitable[R]]
_PageHandler = Handler[PaginatedRequestParams | None, R]

_CALLERS_FAULT: Final = (InvalidInput, NotFound, AccessDenied, SessionInvalid)


class ResourceHandlers(TypedDict):
    """What the low-level server takes for resources."""

    on_list_resources: _PageHandler[ListResourcesResult]
    on_list_resource_templates: _PageHandler[ListResourceTemplatesResult]
    on_read_resource: Handler[ReadResourceRequestParams, ReadResourceResult]


class PromptHandlers(TypedDict):
    """What the low-level server takes for prompts, and for the completions of prompts and resources."""

    on_list_prompts: _PageHandler[ListPromptsResult]
    on_get_prompt: Handler[GetPromptRequestParams, GetPromptResult | InputRequiredResult]
    on_completion: Handler[CompleteRequestParams, CompleteResult]


def resource_handlers(resources: ServedResources, workspace_for: BindWorkspace) -> ResourceHandlers:
    """Build the handlers for resources/list, resources/templates/list and resources/read."""

    async def list_resources(_ctx: Request, params: PaginatedRequestParams | None) -> ListResourcesResult:
        _refuse_cursor(params)
        return ListResourcesResult(resources=list(resources.fixed))

    async def list_templates(_ctx: Request, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        _refuse_cursor(params)
        return ListResourceTemplatesResult(resource_templates=list(resources.templates))

    async def read(ctx: Request, params: ReadResourceRequestParams) -> ReadResourceResult:
        uri = str(params.uri)
        try:
            return ReadResourceResult(contents=await resources.read(uri, _bound(workspace_for, ctx)))
        except NotFound as error:
            raise await _refused(ctx, error, uri=uri) from None

    return {
        "on_list_resources": guarded(list_resources),
        "on_list_resource_templates": guarded(list_templates),
        "on_read_resource": guarded(read),
    }


def prompt_handlers(
    prompts: Sequence[ServedPrompt], resources: ServedResources, workspace_for: BindWorkspace
) -> PromptHandlers:
    """Build the handlers for prompts/list, prompts/get and completion/complete."""

    async def list_prompts(_ctx: Request, params: PaginatedRequestParams | None) -> ListPromptsResult:
        _refuse_cursor(params)
        return ListPromptsResult(prompts=[served.definition for served in prompts])

    async def get(ctx: Request, params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult:
        return await get_prompt(params.name, params.arguments or {}, _bound(workspace_for, ctx), prompts=prompts)

    async def completion(ctx: Request, params: CompleteRequestParams) -> CompleteResult:
        workspace = _bound(workspace_for, ctx)
        return CompleteResult(completion=await _complete(params, prompts, resources, workspace))

    return {
        "on_list_prompts": guarded(list_prompts),
        "on_get_prompt": guarded(get),
        "on_completion": guarded(completion),
    }


def guarded(handler: Handler[P, R]) -> Handler[P, R]:
    """Put a request handler behind the boundary: our errors with code and hint, any other as an opaque reference."""

    async def serve(ctx: Request, params: P) -> R:
        try:
            return await handler(ctx, params)
        except MCPError:
            raise
        except ContextDnaError as error:
            raise await _refused(ctx, error) from None
        except Exception as error:  # noqa: BLE001 - here the unforeseen becomes an answer
            raise await _refused(ctx, unforeseen(ctx.method, error)) from None

    return serve


async def _refused(ctx: Request, error: ContextDnaError, **about: str) -> MCPError:
    await log_refusal(ctx, error)
    return protocol_error(error, **about)


def protocol_error(error: ContextDnaError, **about: str) -> MCPError:
    """Turn one of our errors into a JSON-RPC error: -32602 where the request is at fault, else -32603."""
    code = INVALID_PARAMS if isinstance(error, _CALLERS_FAULT) else INTERNAL_ERROR
    data = {"code": error.code, "hint": error.hint, "retryable": error.retryable, **about}
    return MCPError(code, f"{error.message}. {error.hint}" if error.hint else error.message, data)


def _bound(workspace_for: BindWorkspace, ctx: Request) -> WorkspaceFor:
    return lambda project_id: workspace_for(ctx, project_id)


async def _complete(
    params: CompleteRequestParams,
    prompts: Sequence[ServedPrompt],
    resources: ServedResources,
    workspace: WorkspaceFor,
) -> Completion:
    name, value = params.argument.name, params.argument.value
    chosen = (params.context and params.context.arguments) or {}
    if not isinstance(params.ref, PromptReference):
        return await resources.complete(params.ref.uri, name, value, chosen, workspace)
    known = [argument.name for argument in find_prompt(params.ref.name, prompts).definition.arguments or []]
    if name not in known:
        raise InvalidInput(
            "the prompt has no such argument", code="argument_unknown", hint=f"It takes: {', '.join(known)}."
        )
    return await complete_name(name, value, chosen.get("project_id", ""), workspace)


def _refuse_cursor(params: PaginatedRequestParams | None) -> None:
    """Refuse a cursor: these lists are one short page, so no cursor was ever given out."""
    if params is not None and params.cursor:
        raise InvalidInput("no such cursor", code="cursor_invalid", hint="The list is one page: ask without a cursor.")
