"""What is wrong with the settings, said so that it names the setting and its source, and never a value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from contextdna.errors import SettingsInvalid

ENV_PREFIX: Final = "CONTEXTDNA_"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values came from, the strongest first."""

    command_line: Mapping[str, Any]
    environ: Mapping[str, str]
    document: Mapping[str, Any]
    path: Path | None

    def origin(self, keys: list[str]) -> str:
        """Tell which source holds a setting; empty when none does."""
        if _holds(self.command_line, keys):
            return " (from the command line)"
        present = {name.upper(): name for name in self.environ}
        for end in range(len(keys), 0, -1):
            if name := present.get(ENV_PREFIX + "__".join(keys[:end]).upper()):
                return f" (from the environment variable {name})"
        return f" (from {self.path})" if self.path and _holds(self.document, keys) else ""


def explained(error: ValidationError, model: type[BaseModel], sources: Sources) -> SettingsInvalid:
    """Turn a validation error into one that names settings and sources."""
    problems, hints = [], []
    unknown = True
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        keys = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            problems.append(f"{'.'.join(keys)} is not a setting{sources.origin(keys)}")
            hints.append(near_misses(keys[-1], _fields_beside(model, keys)))
        else:
            unknown = False
            problems.append(f"{'.'.join(keys)}: {item['msg'].removeprefix('Value error, ')}{sources.origin(keys)}")
    hint = " ".join(dict.fromkeys(filter(None, hints)))
    return SettingsInvalid(
        "; ".join(problems), code="setting_unknown" if unknown else "setting_invalid", hint=hint or "Correct it there."
    )


def near_misses(name: str, known: Iterable[str]) -> str:
    """Suggest known names that look like one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _holds(document: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(document, Mapping):
            return True  # the value itself is at fault, somewhere inside
        if key not in document:
            return False
        document = document[key]
    return True


def _fields_beside(model: type[BaseModel], keys: list[str]) -> Iterable[str]:
    for key in keys[:-1]:
        field = model.model_fields.get(key)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return ()
        model = field.annotation
    return model.model_fields
