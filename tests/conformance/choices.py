"""The forms of the elicitation scenarios."""

from typing import Any, Final

_THREE: Final = ["option1", "option2", "option3"]


def _titled(kind: str, titles: dict[str, str]) -> dict[str, Any]:
    return {kind: [{"const": value, "title": title} for value, title in titles.items()]}


WITH_DEFAULTS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
"""A default of every primitive type. Source: SEP-1034."""

ENUMS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": _THREE},
        "titledSingle": {
            "type": "string",
            **_titled("oneOf", {"value1": "First Option", "value2": "Second Option", "value3": "Third Option"}),
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _THREE}},
        "titledMulti": {
            "type": "array",
            "items": _titled("anyOf", {"value1": "First Choice", "value2": "Second Choice", "value3": "Third Choice"}),
        },
    },
    "required": [],
}
"""Every way to offer a choice. Source: SEP-1330."""
