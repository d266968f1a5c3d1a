"""The tools that the conformance suite calls by name. What each does is told in the suite's own scenarios."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio
from mcp import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    ContentBlock,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequest,
    ListRootsResult,
    SamplingCapability,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from contextdna import InvalidInput, Scope
from contextdna_server.logging_level import log
from contextdna_tools import AnyTool, Call, Tool
from contextdna_tools.arguments import Arguments
from contextdna_tools.spec import hints
from tests.conformance import asking, choices
from tests.conformance.asking import ROOTS, answers, asked, form, request, said, sampled
from tests.conformance.pictures import PNG, WAV

STEP_S: Final = 0.01

Answer = str | BaseModel | list[ContentBlock]


class Prompted(Arguments):
    """What a model is asked."""

    prompt: str = Field(description="The prompt")


class Messaged(Arguments):
    """What a user is asked."""

    message: str = Field(description="The message")


class Placed(Arguments):
    """A text that stands in a header too."""

    region: str = Field(
        "", description="Mirrored into a header by its client", json_schema_extra={"x-mcp-header": "Region"}
    )


def fixture(
    name: str,
    description: str,
    answer: Callable[[Any], Awaitable[Answer]],
    arguments: type[Arguments] = Arguments,
) -> AnyTool:
    """Make a tool that answers in the protocol's own results."""
    described = cast("type[Arguments]", type(name, (arguments,), {"__doc__": description, "__module__": __name__}))

    async def serve(_call: Call, args: Arguments) -> BaseModel:
        given = await answer(args)
        if isinstance(given, BaseModel):
            return given
        content = [TextContent(type="text", text=given)] if isinstance(given, str) else given
        return CallToolResult(content=content)

    return Tool(name, described, CallToolResult, serve, hints(read_only=True), frozenset({Scope.READ}))


# --- results --------------------------------------------------------------------------------------


async def _text(_args: Arguments) -> Answer:
    return "This is a simple text response for testing."


async def _image(_args: Arguments) -> Answer:
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


async def _audio(_args: Arguments) -> Answer:
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


async def _embedded(_args: Arguments) -> Answer:
    return [_resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


async def _mixed(_args: Arguments) -> Answer:
    return [
        TextContent(type="text", text="Multiple content types test:"),
        ImageContent(type="image", data=PNG, mime_type="image/png"),
        _resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


async def _error(_args: Arguments) -> Answer:
    raise InvalidInput("this tool intentionally returns an error for testing", code="intended")


async def _mirrored(args: Placed) -> Answer:
    return f"region: {args.region}"


def _resource(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


# --- while a call runs ----------------------------------------------------------------------------


async def _logging(_args: Arguments) -> Answer:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(request(), "info", {"message": message})
        await anyio.sleep(STEP_S)
    return "logged"


async def _progress(_args: Arguments) -> Answer:
    for done in (0, 50, 100):
        await request().session.report_progress(done, 100, f"Completed {done} of 100")
        await anyio.sleep(STEP_S)
    return "done"


# --- questions to the client, until 2025-11-25: requests of the server's own ----------------------


async def _sampling(args: Prompted) -> Answer:
    answer = await request().session.send_request(
        sampled(args.prompt, max_tokens=100), CreateMessageResult, metadata=_of_this_request()
    )
    return f"LLM response: {_text_of(answer)}"


async def _elicitation(args: Messaged) -> Answer:
    return await _ask(form(args.message, username="string", email="string"))


async def _defaults(_args: Arguments) -> Answer:
    return await _ask(_choice("Please provide user information", choices.WITH_DEFAULTS))


async def _enums(_args: Arguments) -> Answer:
    return await _ask(_choice("Please select", choices.ENUMS))


async def _ask(question: ElicitRequest) -> str:
    answer = await request().session.send_request(question, ElicitResult, metadata=_of_this_request())
    return f"User response: action={answer.action}, content={answer.content}"


def _choice(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _of_this_request() -> ServerMessageMetadata:
    return ServerMessageMetadata(related_request_id=request().request_id)


def _text_of(answer: CreateMessageResult) -> str:
    return answer.content.text if isinstance(answer.content, TextContent) else ""


# --- questions to the client, from 2026-07-28: results that ask for input -------------------------


async def _name(_args: Arguments) -> Answer:
    name = said("user_name", "name")
    return f"Hello, {name}!" if name else asked({"user_name": form("What is your name?", name="string")})


async def _capital(_args: Arguments) -> Answer:
    answer = answers().get("capital_question")
    if isinstance(answer, CreateMessageResult):
        return _text_of(answer)
    return asked({"capital_question": sampled("What is the capital of France?", max_tokens=100)})


async def _roots(_args: Arguments) -> Answer:
    answer = answers().get("client_roots")
    if isinstance(answer, ListRootsResult):
        return f"Roots: {', '.join(str(root.uri) for root in answer.roots)}"
    return asked({"client_roots": ROOTS})


async def _state(_args: Arguments) -> Answer:
    if asking.state() == "confirming" and said("confirm", "ok"):
        return "state-ok"
    return asked({"confirm": form("Please confirm", ok="boolean")}, state="confirming")


async def _several(_args: Arguments) -> Answer:
    if answers().keys() >= {"user_name", "greeting", "client_roots"}:
        return f"Hello, {said('user_name', 'name')}!"
    questions: dict[str, InputRequest] = {
        "user_name": form("What is your name?", name="string"),
        "greeting": sampled("Generate a greeting", max_tokens=50),
        "client_roots": ROOTS,
    }
    return asked(questions, state="several")


async def _rounds(_args: Arguments) -> Answer:
    if asking.state() == "" or (asking.state() == "1" and said("step1", "name") is None):
        return asked({"step1": form("Step 1: What is your name?", name="string")}, state="1")
    color = said("step2", "color")
    if color is None:
        return asked({"step2": form("Step 2: What is your favorite color?", color="string")}, state="2")
    return f"Your color is {color}."


async def _declared(_args: Arguments) -> Answer:
    """Ask only what the client said that it can answer."""
    able = request().session.client_capabilities
    questions: dict[str, InputRequest] = {}
    if able and able.elicitation:
        questions["user_name"] = form("What is your name?", name="string")
    if able and able.sampling:
        questions["greeting"] = sampled("Generate a greeting", max_tokens=50)
    return asked(questions, state="declared") if not answers() else "asked"


async def _undeclared(_args: Arguments) -> Answer:
    able = request().session.client_capabilities
    if able and able.sampling:
        return "the client can sample"
    required = {"sampling": SamplingCapability().model_dump(mode="json", exclude_none=True)}
    raise MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY, "the client must be able to sample", {"requiredCapabilities": required}
    )


TOOLS: Final[tuple[AnyTool, ...]] = (
    fixture("test_simple_text", "Gives text", _text),
    fixture("test_image_content", "Gives an image", _image),
    fixture("test_audio_content", "Gives a sound", _audio),
    fixture("test_embedded_resource", "Gives a resource", _embedded),
    fixture("test_multiple_content_types", "Gives text, an image and a resource", _mixed),
    fixture("test_error_handling", "Fails", _error),
    fixture("test_header_parameter", "Takes a text that stands in a header too", _mirrored, Placed),
    fixture("test_tool_with_logging", "Logs while it runs", _logging),
    fixture("test_logging_tool", "Logs while it runs", _logging),
    fixture("test_tool_with_progress", "Reports progress", _progress),
    fixture("test_sampling", "Asks the client's model", _sampling, Prompted),
    fixture("test_elicitation", "Asks the user", _elicitation, Messaged),
    fixture("test_elicitation_sep1034_defaults", "Asks the user, with defaults", _defaults),
    fixture("test_elicitation_sep1330_enums", "Asks the user to choose", _enums),
    fixture("test_missing_capability", "Needs a client that can sample", _undeclared),
    fixture("test_streaming_elicitation", "Asks the user in its result", _name),
    fixture("test_input_required_result_elicitation", "Asks the user in its result", _name),
    fixture("test_input_required_result_sampling", "Asks the client's model in its result", _capital),
    fixture("test_input_required_result_list_roots", "Asks for the client's roots in its result", _roots),
    fixture("test_input_required_result_request_state", "Keeps state between rounds", _state),
    fixture("test_input_required_result_tampered_state", "Keeps state between rounds", _state),
    fixture("test_input_required_result_multiple_inputs", "Asks three things at once", _several),
    fixture("test_input_required_result_multi_round", "Asks twice", _rounds),
    fixture("test_input_required_result_capabilities", "Asks what the client can answer", _declared),
)
