"""JSON schemas small enough for a model's context: no titles, no empty defaults, definitions inlined."""

from typing import Any

from pydantic import BaseModel


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Give a tool's input schema; the root is a plain object without anyOf, as strict clients ask."""
    return _slim(model.model_json_schema(), {})


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Give a tool's output schema; of inner objects only what is always there."""
    full = model.model_json_schema()
    schema = _slim(full, full.get("$defs", {}))
    schema["properties"] = {name: _essential(inner) for name, inner in schema["properties"].items()}
    return schema


def _essential(node: dict[str, Any]) -> dict[str, Any]:
    if "items" in node:
        return {**node, "items": _essential(node["items"])}
    always = node.get("required", [])
    rest = {key: value for key, value in node.items() if key not in ("properties", "required", "default")}
    properties = {name: _essential(inner) for name, inner in node.get("properties", {}).items() if name in always}
    return {**rest, "properties": properties} if properties else rest


def _slim(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Slim one schema node; only the keywords that carry schemas are walked, so a property may have any name."""
    if "$ref" in node:
        return _slim(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:  # an optional field: it is left out, never null
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        return _slim({**options[0], **rest}, definitions)
    slim = {key: value for key, value in node.items() if not _is_noise(key, value, node)}
    for key in ("items", "additionalProperties"):
        if isinstance(slim.get(key), dict):
            slim[key] = _slim(slim[key], definitions)
    if "properties" in slim:
        slim["properties"] = {name: _slim(schema, definitions) for name, schema in slim["properties"].items()}
    return slim


def _is_noise(key: str, value: Any, node: dict[str, Any]) -> bool:
    match key:
        case "title" | "$defs":
            return True
        case "default":
            return value in (None, "", [], {}, False)
        case "additionalProperties":
            return isinstance(value, bool)  # unknown arguments are refused by the boundary, with a near miss
        case "description":
            return "properties" in node  # a model's docstring, written for people
        case _:
            return False
