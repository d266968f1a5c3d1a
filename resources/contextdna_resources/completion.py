"""Completions for the arguments of templates: only what the caller may see."""

from collections.abc import Mapping
from typing import Final

from mcp_types import Completion

from contextdna import InvalidInput, NotFound
from contextdna_resources.reading import WorkspaceFor
from contextdna_resources.uris import PAGED, PATHS, Noun, is_variable, template

_VALUES_MAX: Final = 100  # Source: MCP, completion/complete: at most 100 values
_VALUE_CHARS_MAX: Final = 256


async def complete(
    ref_uri: str, argument_name: str, value: str, context_arguments: Mapping[str, str], workspace: WorkspaceFor
) -> Completion:
    """Complete an argument of a resource template.

    Args:
        ref_uri: The template; its ``{?cursor}`` may be left out.
        argument_name: The argument at the cursor.
        value: What is typed so far.
        context_arguments: Arguments already chosen: the project that the others belong to.
        workspace: Binds the caller's workspace.

    Raises:
        InvalidInput: ``argument_unknown`` or ``argument_too_large``.
        NotFound: ``resource_not_found`` for an unknown template, ``project_not_found``.
    """
    known = _arguments_of(ref_uri)
    if argument_name not in known:
        raise InvalidInput(
            "the template has no such argument",
            code="argument_unknown",
            hint=f"Its arguments: {', '.join(known) or 'none'}.",
        )
    return await complete_name(argument_name, value, context_arguments.get("project_id", ""), workspace)


async def complete_name(argument_name: str, value: str, project_id: str, workspace: WorkspaceFor) -> Completion:
    """Complete a project, session, artifact, memory, task or agent id, or a phase; anything else has no values.

    Raises:
        InvalidInput: ``argument_too_large``.
        NotFound: ``project_not_found``.
    """
    if len(value) > _VALUE_CHARS_MAX:
        raise InvalidInput("the value is too long", code="argument_too_large", hint="Complete a name, not a text.")
    if argument_name == "project_id":
        names = sorted(name for name in await workspace("").list_projects() if name.startswith(value))
        return Completion(values=[*names[:_VALUES_MAX]], total=len(names), has_more=len(names) > _VALUES_MAX)
    if argument_name not in COMPLETED:
        return Completion(values=[], total=0, has_more=False)
    found = await workspace(project_id).complete(argument_name, value)
    full = len(found) >= _VALUES_MAX  # the core stops there and does not tell whether there are more
    return Completion(values=found[:_VALUES_MAX], total=None if full else len(found), has_more=full)


COMPLETED: Final = frozenset({"session_id", "artifact_id", "memory_id", "phase", "task_id", "agent_id"})


def _arguments_of(ref_uri: str) -> tuple[str, ...]:
    for noun in Noun:
        if ref_uri in (template(noun), template(noun).removesuffix("{?cursor}")):
            names = tuple(part.strip("{}") for part in PATHS[noun] if is_variable(part))
            return (*names, "cursor") if noun in PAGED else names
    raise NotFound(
        "no such resource template", code="resource_not_found", hint="See resources/templates/list for the templates."
    )
