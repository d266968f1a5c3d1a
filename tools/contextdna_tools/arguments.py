"""Argument models: unknown names are refused, lists and objects may come as JSON text, null means left out.

A session handle, a secret, is taken in the arguments made for it and refused in all others; an access token in all.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from contextdna import InvalidInput, Level, holds_handle, holds_token, parse_level

# Unlike the standard library's, this parser refuses lone surrogates and endless nesting, as that of the protocol does.
_JSON = TypeAdapter(Any)

_JSON_VALUES_MAX: Final = 100_000
"""Members and items of a list or an object in JSON text, counted with what looks like more of them: as of a body."""


def _from_json_text(value: object) -> object:
    """Accept a list or an object that a client sends as JSON text."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        if sum(map(value.count, ",[{")) > _JSON_VALUES_MAX:
            raise InvalidInput(
                f"an argument in JSON text holds more than {_JSON_VALUES_MAX} values",
                code="argument_invalid",
                hint="Send less at a time.",
            )
        try:
            return _JSON.validate_json(value)
        except ValueError:
            return value
    return value


def _from_text(value: object) -> object:
    """Accept a list of texts as JSON text, and one text for a list of it alone; an empty one is an empty list."""
    read = _from_json_text(value)
    if not isinstance(read, str) or read.strip()[:1] in ("[", "{"):
        return read
    return [read] if read else []


_FIRST_ONLY: Final[Any] = Field(fail_fast=True)  # what pydantic tells of 100,000 wrong items would hold all others up

Texts = Annotated[list[str], _FIRST_ONLY, BeforeValidator(_from_text)]
Object = Annotated[dict[str, Any], BeforeValidator(_from_json_text)]
Scores = Annotated[dict[str, float], _FIRST_ONLY, BeforeValidator(_from_json_text)]
Objects = Annotated[list[dict[str, Any]], _FIRST_ONLY, BeforeValidator(_from_json_text)]

LEVEL = Field("", description="private, team, swarm, project (default) or system")


_OF_HANDLES: Final = ("session_id", "parent")


class Strict(BaseModel):
    """A model that refuses unknown names and takes null as left out, and a number for a text."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: object) -> object:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _refuse_secrets(self) -> Self:
        given = self.model_fields_set  # a default holds no secret
        for name, field in type(self).model_fields.items():
            texts = tuple(_texts_of(getattr(self, name))) if name in given else ()
            if any(_is_one(holds_token, text) for text in texts):
                raise InvalidInput(
                    f"{name} is an access token, which is a secret",
                    code="access_token_in_argument",
                    hint=f"A token goes into the Authorization header only. {name}: {field.description}.",
                )
            if name not in _OF_HANDLES and any(_is_one(holds_handle, text) for text in texts):
                raise InvalidInput(  # no ValueError: it goes to the boundary as it is
                    f"{name} is a session handle, which is a secret",
                    code="session_handle_in_argument",
                    hint=f"A handle is passed as session_id only. {name}: {field.description}.",
                )
        return self


def _texts_of(value: object) -> Iterator[str]:
    """Give a text, the texts of a list, or the keys of an object."""
    given = (value,) if isinstance(value, str) else value if isinstance(value, list | dict) else ()
    return (item for item in given if isinstance(item, str))


def _is_one(holds: Callable[[str], bool], text: str) -> bool:
    """Tell a secret, alone or as a part of a name, from prose that quotes one."""
    return holds(text) and len(text.split()) == 1


class Arguments(Strict):
    """What every tool takes."""

    session_id: str = Field("", description="Act as its agent")
    project_id: str = Field("", description="Default: yours")


def with_defaults(raw: dict[str, Any], args: Strict, fields: type[Strict]) -> dict[str, Any]:
    """Give an item of a batch what the call says beside the batch; what the item says itself wins."""
    given = args.model_fields_set.intersection(fields.model_fields)
    return {name: getattr(args, name) for name in given} | {k: v for k, v in raw.items() if v is not None}


def level_of(label: str, default: Level) -> Level:
    """Turn a level's name into a level; empty gives the default.

    Raises:
        InvalidInput: ``level_unknown``.
    """
    return parse_level(label) if label else default


def within(args: BaseModel, name: str, maximum: int) -> int:
    """Give a count among the arguments; what the caller left to the default is never over the installation's limit."""
    value: int = getattr(args, name)
    return value if name in args.model_fields_set else min(value, maximum)


def time_of(text: str, *, name: str) -> datetime | None:
    """Turn an ISO 8601 time into an aware one; a time without a zone is UTC, empty gives None.

    Raises:
        InvalidInput: ``<name>_invalid``.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name} is not an ISO 8601 time", code=f"{name}_invalid", hint="For example 2026-05-01T12:00:00Z."
        ) from error


def shown_time(moment: datetime) -> str:
    """Write a time as tools show it: UTC, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
