"""The reference in docs/client.md, made from the code: `uv run python -m tests.client.reference` writes it anew."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "core" / "contextdna" / "client"
PAGE = ROOT / "docs" / "client.md"
START = "<!-- made from the code by tests/client/reference.py -->\n"

SECTIONS = {
    "Connecting": [("memory", "connect"), ("retry", "Retry")],
    "A run": [("run", "AgentRun"), ("execution", "RunLimits")],
    "The tools as methods": [("memory", "Memory")],
    "Arguments by name": [
        ("requests", "MemoryFields"),
        ("requests", "MemoryItem"),
        ("requests", "ChangeFields"),
        ("requests", "QueryFields"),
        ("requests", "ShareFields"),
        ("requests", "BeginFields"),
        ("requests", "DelegationFields"),
        ("requests", "ArtifactFields"),
        ("requests", "LoopFields"),
        ("requests", "Role"),
    ],
    "Answers": [
        ("answers", name)
        for name in (
            "Found",
            "Hit",
            "Stored",
            "Begun",
            "Ended",
            "Logged",
            "Delegated",
            "Shared",
            "Attached",
            "Recorded",
        )
    ],
    "Report": [("report", name) for name in ("RunReport", "RunOutcome", "Kept", "Unstored")],
    "Errors": [("errors", name) for name in ("ClientError", "ServerAway", "Refused", "AnswerInvalid")],
}


def reference() -> str:
    """Give the reference as Markdown."""
    parts = [START]
    for title, things in SECTIONS.items():
        shown = "\n\n".join("\n".join(lines_of(module, name)) for module, name in things)
        parts.append(f"### {title}\n\n```python\n{shown}\n```\n")
    return "\n".join(parts)


def lines_of(module: str, name: str) -> Iterator[str]:
    tree = ast.parse((CLIENT / f"{module}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield from class_lines(node)
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            yield from function_lines(node, "")
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            yield ast.unparse(node)


def class_lines(node: ast.ClassDef) -> Iterator[str]:
    bases = ", ".join([*map(ast.unparse, node.bases), *map(ast.unparse, node.keywords)])
    yield f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    yield from said(node, "    ")
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            yield f"    {ast.unparse(item.target)}: {ast.unparse(item.annotation)}{default_of(item)}"
        elif isinstance(item, ast.Assign):
            yield f"    {ast.unparse(item)}"
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_"):
            yield from function_lines(item, "    ")


def default_of(item: ast.AnnAssign) -> str:
    """Give a default; how a dataclass makes one is nobody's business."""
    made = isinstance(item.value, ast.Call) and ast.unparse(item.value.func) == "field"
    return f" = {ast.unparse(item.value)}" if item.value is not None and not made else ""


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"{indent}@{ast.unparse(decorator)}"
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{indent}{word} {node.name}({ast.unparse(node.args)}){returns}:"
    yield from wrapped_at_commas(line, indent + " " * 8)
    yield from list(said(node, indent + "    ")) or [f"{indent}    ..."]


def wrapped_at_commas(line: str, further: str) -> Iterator[str]:
    """Break a line between arguments, not within the brackets of a type."""
    shown = ""
    for part in re.split(r", (?![^\[]*\])", line):
        if shown and len(shown) + len(part) > 108:
            yield f"{shown},"
            shown = further + part
        else:
            shown = f"{shown}, {part}" if shown else part
    yield shown


def said(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, indent: str) -> Iterator[str]:
    """Give what a docstring says first."""
    text = ast.get_docstring(node) or ""
    if text:
        first = " ".join(text.split("\n\n")[0].split())
        yield from textwrap.wrap(f'"""{first}"""', 110, initial_indent=indent, subsequent_indent=indent)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.partition(START)[0] + reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
