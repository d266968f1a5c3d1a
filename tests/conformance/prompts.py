"""The prompts that the conformance suite gets by name."""

from typing import Final

from mcp_types import (
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextContent,
    TextResourceContents,
)

from contextdna import Workspace
from contextdna_server.prompts import Arguments, ServedPrompt, Written
from tests.conformance.asking import asked, form, said
from tests.conformance.pictures import PNG


async def _simple(_args: Arguments, _workspace: Workspace) -> Written:
    return "This is a simple prompt for testing."


async def _with_arguments(args: Arguments, _workspace: Workspace) -> Written:
    return f"Prompt with arguments: arg1='{args['arg1']}', arg2='{args['arg2']}'"


async def _with_resource(args: Arguments, _workspace: Workspace) -> Written:
    contents = TextResourceContents(
        uri=args["resourceUri"], mime_type="text/plain", text="Embedded resource content for testing."
    )
    return _said(EmbeddedResource(type="resource", resource=contents), "Please process the embedded resource above.")


async def _with_image(_args: Arguments, _workspace: Workspace) -> Written:
    return _said(ImageContent(type="image", data=PNG, mime_type="image/png"), "Please analyze the image above.")


async def _asking(_args: Arguments, _workspace: Workspace) -> Written:
    context = said("user_context", "context")
    question = form("What context should the prompt use?", context="string")
    return asked({"user_context": question}) if context is None else f"Use this context: {context}"


def _said(content: ContentBlock, text: str) -> GetPromptResult:
    blocks: list[ContentBlock] = [content, TextContent(type="text", text=text)]
    return GetPromptResult(messages=[PromptMessage(role="user", content=block) for block in blocks])


def _listed(name: str, description: str, **arguments: str) -> Prompt:
    listed = [PromptArgument(name=name, description=about, required=True) for name, about in arguments.items()]
    return Prompt(name=name, description=description, arguments=listed)


PROMPTS: Final[tuple[ServedPrompt, ...]] = (
    ServedPrompt(_listed("test_simple_prompt", "A text"), _simple),
    ServedPrompt(
        _listed("test_prompt_with_arguments", "A text with arguments", arg1="The first", arg2="The second"),
        _with_arguments,
    ),
    ServedPrompt(
        _listed("test_prompt_with_embedded_resource", "A resource and a text", resourceUri="Of the resource"),
        _with_resource,
    ),
    ServedPrompt(_listed("test_prompt_with_image", "An image and a text"), _with_image),
    ServedPrompt(_listed("test_input_required_result_prompt", "Asks the user first"), _asking),
)
