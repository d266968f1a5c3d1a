"""JSON schemas small enough for a model's context: no titles, no empty defaults, definitions inlined."""

from typing import Any

from pydantic import BaseModel


def input_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Give a tool's input schema; the root is a plain object without anyOf, as strict clients ask."""
    schema = _slim(model.model_json_schema(), {})
    schema.pop("description", None)
    return schema


def output_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Give a tool's output schema: types and required names, without prose."""
    full = model.model_json_schema(mode="serialization")
    schema = _slim(full, full.get("$defs", {}), prose=False)
    schema.pop("additionalProperties", None)
    return schema


def _slim(node: Any, definitions: dict[str, Any], *, prose: bool = True) -> Any:
    if isinstance(node, list):
        return [_slim(item, definitions, prose=prose) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _slim(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions, prose=prose)
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if len(options) == 1:
        return _slim({**options[0], **{k: v for k, v in node.items() if k != "anyOf"}}, definitions, prose=prose)
    return {
        key: _slim_properties(value, definitions, prose=prose) if key == "properties" else value_slim
        for key, value in node.items()
        if not _is_noise(key, value, prose=prose)
        for value_slim in (_slim(value, definitions, prose=prose),)
    }


def _slim_properties(properties: dict[str, Any], definitions: dict[str, Any], *, prose: bool) -> dict[str, Any]:
    return {name: _slim(schema, definitions, prose=prose) for name, schema in properties.items()}


def _is_noise(key: str, value: Any, *, prose: bool) -> bool:
    if key in ("title", "$defs"):
        return not isinstance(value, dict) or key == "$defs"
    if key == "default":
        return not prose or value in ("", None, [], {}, False)
    if key == "additionalProperties":
        return value is True
    return key == "description" and not prose
