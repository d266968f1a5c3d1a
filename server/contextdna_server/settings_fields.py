"""What fields of the settings have in common: kinds of values with their bounds, and what a section is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

from contextdna.values.ids import is_name
from contextdna_server.endpoints import is_protected


def listed(value: object) -> object:
    """Read a list as an environment variable gives it: JSON, or names between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            raise ValueError("not a JSON list") from None
    return [part.strip() for part in value.split(",") if part.strip()]


def _named(value: str) -> str:
    if not is_name(value):
        raise ValueError("use 1 to 128 letters, digits, or . _ : @ -")
    return value


def _protected(value: str) -> str:
    if value and not is_protected(value):
        raise ValueError("use https://…, or http:// on this machine, without user, password and fragment")
    return value


def _rooted(value: Path) -> Path:
    return value.expanduser().absolute()


Name = Annotated[str, AfterValidator(_named)]
Rooted = Annotated[Path, AfterValidator(_rooted)]
Names = Annotated[tuple[Name, ...], NoDecode, BeforeValidator(listed)]
Roots = Annotated[tuple[Rooted, ...], NoDecode, BeforeValidator(listed)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)]
Endpoint = Annotated[str, AfterValidator(_protected)]
Bytes = Annotated[int, Field(ge=1, le=1024**3)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Few = Annotated[int, Field(ge=1, le=1000)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3650 * 86_400, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Section(BaseModel):
    """A group of settings; what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)
