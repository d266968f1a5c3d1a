"""The request at hand, for fixtures that need what no tool of the product does: to ask the client something."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    InputResponseRequestParams,
    ListRootsRequest,
    SamplingMessage,
    TextContent,
)

Request = ServerRequestContext[Any, Any]

_AT_HAND: ContextVar[Request] = ContextVar("request")
ROOTS: Final = ListRootsRequest()


async def remember_request(ctx: Request, call_next: CallNext) -> HandlerResult:
    """Keep a request for what serves it: a middleware of the server."""
    _AT_HAND.set(ctx)
    return await call_next(ctx)


def request() -> Request:
    """Give the request that is being served."""
    return _AT_HAND.get()


def answers() -> dict[str, InputResponse]:
    """Give what the client answered to the questions of the round before."""
    return _params().input_responses or {}


def state() -> str:
    """Give the state that the client brought back, verified; empty in the first round."""
    return _params().request_state or ""


def said(key: str, field: str) -> str | None:
    """Give a field of the form that answers a question; None where the question is still open."""
    answer = answers().get(key)
    if not isinstance(answer, ElicitResult) or answer.action != "accept" or field not in (answer.content or {}):
        return None
    return str((answer.content or {})[field])


def asked(questions: Mapping[str, InputRequest], *, state: str | None = None) -> InputRequiredResult:
    """Answer a request with questions, in the era without requests of the server's own."""
    return InputRequiredResult(input_requests=dict(questions), request_state=state)


def form(message: str, **fields: str) -> ElicitRequest:
    """Ask for fields, each of a JSON type."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": list(fields),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampled(text: str, *, max_tokens: int) -> CreateMessageRequest:
    """Ask for an answer of the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def _params() -> InputResponseRequestParams:
    return InputResponseRequestParams.model_validate(request().params or {})
