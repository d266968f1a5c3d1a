"""``contextdna://`` URIs: read strictly, written canonically."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote

from contextdna import InvalidInput, NotFound, holds_token

SCHEME: Final = "contextdna://"
URI_CHARS_MAX: Final = 1024
"""Room for the longest names and a cursor."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_PLAIN: Final = re.compile(r"[!-~]+")  # printable ASCII without the space
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Noun(StrEnum):
    """What a URI names."""

    GUIDE = "guide"
    HEALTH = "health"
    PROJECTS = "projects"
    PROJECT = "project"
    CONVERSATIONS = "conversations"
    CONVERSATION = "conversation"
    ARTIFACTS = "artifacts"
    ARTIFACT = "artifact"
    MEMORY = "memory"
    LOOPS = "loops"
    TASK = "task"
    AGENTS = "agents"
    AGENT = "agent"


PATHS: Final[Mapping[Noun, tuple[str, ...]]] = {
    Noun.GUIDE: ("guide",),
    Noun.HEALTH: ("health",),
    Noun.PROJECTS: ("projects",),
    Noun.PROJECT: ("projects", "{project_id}"),
    Noun.CONVERSATIONS: ("projects", "{project_id}", "conversations"),
    Noun.CONVERSATION: ("projects", "{project_id}", "conversations", "{session_id}"),
    Noun.ARTIFACTS: ("projects", "{project_id}", "artifacts"),
    Noun.ARTIFACT: ("projects", "{project_id}", "artifacts", "{artifact_id}"),
    Noun.MEMORY: ("projects", "{project_id}", "memories", "{memory_id}"),
    Noun.LOOPS: ("projects", "{project_id}", "loops", "{phase}"),
    Noun.TASK: ("projects", "{project_id}", "tasks", "{task_id}"),
    Noun.AGENTS: ("projects", "{project_id}", "agents"),
    Noun.AGENT: ("projects", "{project_id}", "agents", "{agent_id}"),
}
PAGED: Final = frozenset({Noun.CONVERSATIONS, Noun.CONVERSATION, Noun.ARTIFACTS, Noun.ARTIFACT, Noun.LOOPS})
"""What takes ``?cursor=``."""


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """A parsed URI; ``str()`` gives its canonical form."""

    noun: Noun
    project_id: str = ""
    item_id: str = ""
    """The session, artifact, memory, phase, task or agent; empty for lists and projects."""
    cursor: str = ""

    def __str__(self) -> str:
        """Write the URI."""
        values = {1: self.project_id, 3: self.item_id}
        path = "/".join(
            quote(values[index], safe=":@") if is_variable(part) else part
            for index, part in enumerate(PATHS[self.noun])
        )
        return f"{SCHEME}{path}?cursor={quote(self.cursor, safe='')}" if self.cursor else f"{SCHEME}{path}"


def is_variable(part: str) -> bool:
    """Tell whether a part of a path stands for a name."""
    return part.startswith("{")


def template(noun: Noun) -> str:
    """Write a noun's RFC 6570 template."""
    return f"{SCHEME}{'/'.join(PATHS[noun])}{'{?cursor}' if noun in PAGED else ''}"


def parse_uri(text: str) -> ResourceUri:
    """Read a URI; percent-encoding is undone once.

    Raises:
        InvalidInput: ``uri_invalid``, ``session_handle_in_uri`` or ``access_token_in_argument``.
        NotFound: ``resource_not_found``: well-formed, but no resource of ours.
    """
    path, query = _split(text)
    parts = tuple(_decoded(part) for part in path.split("/"))
    noun = _noun_of(parts)
    for index, part in enumerate(parts):
        if holds_token(part):
            raise InvalidInput(
                "that holds an access token, which is a secret",
                code="access_token_in_argument",
                hint="A token goes into the Authorization header only. Revoke this one: others may have seen it.",
            )
        if part.startswith("ses_") or (noun is Noun.CONVERSATION and index == 3):
            check_session_id(part)
    names = [*parts[:3], *parts[3].split("/")] if noun is Noun.AGENT else parts  # queen%2Fdrone is one id
    if not all(_NAME.fullmatch(part) for part in names):
        raise _invalid("a name in it is not 1 to 128 letters, digits, or . _ : @ -")
    return ResourceUri(
        noun,
        project_id=parts[1] if len(parts) > 1 else "",
        item_id=parts[3] if len(parts) > 3 else "",
        cursor=_cursor(query, noun),
    )


def check_session_id(text: str) -> None:
    """Refuse a session handle where its public part is meant: a secret has no place in a URI, nor in an answer.

    Raises:
        InvalidInput: ``session_handle_in_uri``.
    """
    if "." in text:
        raise InvalidInput(
            "that is a session handle with its secret",
            code="session_handle_in_uri",
            hint="Use only the part before the dot (ses_...). Keep the whole handle for the session_id of tools.",
        )


def _split(text: str) -> tuple[str, str | None]:
    if len(text) > URI_CHARS_MAX:
        raise _invalid(f"it is longer than {URI_CHARS_MAX} characters")
    if not _PLAIN.fullmatch(text) or "#" in text or _ESCAPE.search(text):
        raise _invalid("it holds a character that must be percent-encoded, a broken escape, or a fragment")
    if not text.startswith(SCHEME):
        raise _unknown()
    path, mark, query = text.removeprefix(SCHEME).partition("?")
    return path, query if mark else None


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise _invalid("an escape in it is not UTF-8") from error


def _noun_of(parts: tuple[str, ...]) -> Noun:
    for noun, path in PATHS.items():
        if len(path) == len(parts) and all(
            is_variable(wanted) or wanted == part for wanted, part in zip(path, parts, strict=True)
        ):
            return noun
    raise _unknown()


def _cursor(query: str | None, noun: Noun) -> str:
    if query is None:
        return ""
    key, mark, value = query.partition("=")
    if noun not in PAGED or key != "cursor" or not mark or "&" in value:
        raise _invalid("it takes no such query" if noun in PAGED else "it takes no query")
    return _decoded(value)


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(
        f"not a valid resource URI: {reason}", code="uri_invalid", hint="See resources/templates/list for the forms."
    )


def _unknown() -> NotFound:
    return NotFound(
        "no such resource",
        code="resource_not_found",
        hint="See resources/list and resources/templates/list; contextdna://guide tells what there is.",
    )
