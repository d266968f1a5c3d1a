"""Records as text that a model reads."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from contextdna.domain.tool_calls import told_call
from contextdna.values.record import Kind


def one_line(text: str) -> str:
    """Fold a text into one line without control characters, so that it cannot pose as the text around it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def readable(kind: Kind, body: Mapping[str, object]) -> str:
    """Give the text of a record's body that a model reads."""
    match kind:
        case Kind.ARTIFACT:
            excerpt = str(body.get("excerpt", ""))
            head = f"{body['name']} ({body['media_type']}, {body['size_bytes']} bytes)"
            return f"{head}\n{excerpt}" if excerpt else head
        case Kind.LOOP:
            verdict = body.get("decision") or body.get("score")
            return f"{body['loop']} {verdict}: {body.get('reasoning', '')}".strip()
        case Kind.TASK:
            result = f"Result: {body['result']}" if body["result"] else ""
            return "\n".join(str(part) for part in (body["title"], body["description"], result) if part)
        case Kind.TURN:
            calls = cast("Sequence[Mapping[str, Any]]", body.get("tool_calls", ()))
            return "\n".join(filter(None, (str(body["content"]), *map(told_call, calls))))
        case _:
            return str(body["content"])
