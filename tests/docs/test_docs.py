"""The documents name all that the product has, and what they show works."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

import contextdna.client  # noqa: F401 - its errors are a part of the tree
from contextdna import Scope
from contextdna.errors import ContextDnaError
from contextdna.values.level import LEVELS_BY_LABEL
from contextdna.values.memory import MEMORY_TYPES
from contextdna_resources import RESOURCES, TEMPLATES
from contextdna_server.cli import main
from contextdna_server.prompts import PROMPTS
from contextdna_server.settings import Settings
from contextdna_tools import FULL_TOOLS, TOOLS, AnyTool
from tests.hub.methods import METHODS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([README, *DOCS.rglob("*.md")])
PRODUCT = [ROOT / folder for folder in ("core", "tools", "resources", "server")]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def section(path: Path, heading: str) -> str:
    """Give what stands under a heading of level 2."""
    match = re.search(rf"^## {re.escape(heading)}$\n(.*?)(?=^## |\Z)", text_of(path), re.MULTILINE | re.DOTALL)
    assert match, f"{path.name} has no section {heading}"
    return match[1]


def first_cells(text: str) -> list[list[str]]:
    """Give the code spans in the first cell of each row of the tables in a text."""
    return [re.findall(r"`([^`]+)`", row[1]) for row in re.finditer(r"^\| ([^|]*) \|", text, re.MULTILINE)]


def named(text: str) -> set[str]:
    return {name for names in first_cells(text) for name in names}


# --- tools ---


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
def test_a_tool_is_documented_with_exactly_its_arguments(tool: AnyTool) -> None:
    common = named(text_of(DOCS / "tools.md").partition("\n## ")[0])
    assert named(section(DOCS / "tools.md", f"`{tool.name}`")) | common == set(tool.arguments.model_fields)


@pytest.mark.parametrize("tool", FULL_TOOLS, ids=lambda tool: tool.name)
def test_the_example_of_a_tool_is_a_call_and_an_answer_of_it(tool: AnyTool) -> None:
    call, answer = re.findall(r"```json\n(.*?)\n```", section(DOCS / "tools.md", f"`{tool.name}`"), re.DOTALL)
    shown = json.loads(call)
    assert shown["tool"] == tool.name
    tool.arguments.model_validate(shown["arguments"])
    result = tool.result.model_validate(json.loads(answer), extra="forbid")
    assert result.model_dump(mode="json", exclude_none=True) == json.loads(answer)


def test_no_tool_is_documented_that_is_not_there() -> None:
    headings = re.findall(r"^## `(\w+)`$", text_of(DOCS / "tools.md"), re.MULTILINE)
    assert sorted(headings) == sorted(tool.name for tool in FULL_TOOLS)


def test_the_readme_names_every_tool() -> None:
    assert named(section(README, "What agents can do")) == {tool.name for tool in TOOLS}
    assert named(section(README, "For orchestrators")) == {tool.name for tool in FULL_TOOLS} - {t.name for t in TOOLS}


def test_the_scopes_of_every_tool_are_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|", section(DOCS / "security.md", "Scopes"), re.MULTILINE)
    shown = {scope: set(re.findall(r"`(\w+)`", tools)) for scope, tools in rows}
    assert shown == {scope.value: {tool.name for tool in FULL_TOOLS if scope in tool.scopes} for scope in Scope}


# --- resources, prompts, words ---


def test_every_resource_is_documented() -> None:
    served = {str(resource.uri) for resource in RESOURCES} | {template.uri_template for template in TEMPLATES}
    assert named(section(DOCS / "resources.md", "Resources")) == served


def test_every_prompt_is_documented_with_its_arguments() -> None:
    rows = [line for line in section(DOCS / "resources.md", "Prompts").splitlines() if line.startswith("| `")]
    shown = {}
    for row in rows:
        _, name, arguments, _ = row.split("|", maxsplit=3)
        shown[name.strip(" `")] = set(re.findall(r"`(\w+)`", arguments))
    served = {p.definition.name: {a.name for a in p.definition.arguments or []} for p in PROMPTS}
    assert shown == served


def test_every_level_and_memory_type_is_documented() -> None:
    assert named(section(DOCS / "domain.md", "Levels")) == set(LEVELS_BY_LABEL)
    assert named(section(README, "Who may read")) == set(LEVELS_BY_LABEL)
    assert set(re.findall(r"`(\w+)`", section(DOCS / "domain.md", "Memory types"))) == set(MEMORY_TYPES)


# --- settings ---


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", None if field.default_factory else field.default


def shown_default(value: Any) -> str:
    match value:
        case None | "":
            return "none" if value is None else "empty"
        case bool():
            return json.dumps(value)
        case Enum():
            return str(value.value)
        case tuple():
            return json.dumps(list(value))
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def documented_settings() -> Mapping[str, str]:
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| ([^|]*) \|", text_of(DOCS / "settings.md"), re.MULTILINE)
    return {name: default.strip() for name, default in rows}


def test_exactly_the_settings_that_there_are_are_documented() -> None:
    assert sorted(documented_settings()) == sorted(name for name, _ in settings_of(Settings))


def test_the_documented_defaults_are_the_defaults() -> None:
    shown = documented_settings()
    said_in_words = {"data", "master_key", "search.token_file", "storage.database", "storage.cache"}
    said_in_words |= {"search.embedding_model", "search.embedding_url", "search.embedding_key"}
    different = {
        name: (shown[name], shown_default(default))
        for name, default in settings_of(Settings)
        if name not in said_in_words and shown[name].strip("`") != shown_default(default)
    }
    assert different == {}


def test_the_settings_in_the_readme_exist_under_their_variables() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| `([A-Z_]+)` \|", section(README, "Settings"), re.MULTILINE)
    known = {name for name, _ in settings_of(Settings)}
    assert rows
    for name, variable in rows:
        assert name in known
        assert variable == "CONTEXTDNA_" + name.replace(".", "__").upper()


# --- commands ---


def commands_of(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        assert found is not None
        yield from commands_of(found, f"{name} {inner}")


COMMANDS = dict(commands_of(main, "contextdna"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_exactly_its_options(name: str) -> None:
    page = text_of(DOCS / "commands.md")
    shared = {"--data", "--config", "--json"}
    assert shared <= {word.split()[0] for word in named(page.partition("\n## ")[0])}
    text = section(DOCS / "commands.md", name)
    shown = {word.split()[0] for word in named(text)}
    options = {
        spelling for p in COMMANDS[name].params if isinstance(p, click.Option) and not p.hidden for spelling in p.opts
    }
    assert shown | shared == options | shared
    for argument in (p for p in COMMANDS[name].params if isinstance(p, click.Argument)):
        assert f"`{name} {argument.human_readable_name.upper()}`" in text


def test_no_command_is_documented_that_is_not_there() -> None:
    headings = re.findall(r"^## (contextdna .*)$", text_of(DOCS / "commands.md"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


def test_commands_that_documents_show_can_be_parsed() -> None:
    shown = {
        line for page in PAGES for line in re.findall(r"(?:uv run )?(?<!from )contextdna ([a-z][^`\n]*)", code_in(page))
    }
    assert shown
    for line in sorted(shown):
        words = shlex.split(line)
        name = next((n for n in COMMANDS if f"contextdna {line} ".startswith(f"{n} ")), None)
        if name is None:
            assert words[0] in {n.split()[1] for n in COMMANDS}, line  # a command without its options
            continue
        rest = words[len(name.split()) - 1 :]
        known = {spelling for p in COMMANDS[name].params for spelling in p.opts} | {"--help", "-h"}
        assert {word for word in rest if word.startswith("-")} <= known, line


def code_in(page: Path) -> str:
    """Give the code spans and blocks of a page, one after the other."""
    found = re.findall(r"```[^\n]*\n(.*?)```|`([^`\n]+)`", text_of(page), re.DOTALL)
    return "\n".join(block or span for block, span in found)


# --- errors ---

_SUFFIXES = {
    "check_text": ("empty", "too_large"),
    "check_json": ("invalid", "too_large"),
    "check_name": ("invalid",),
    "check_agent_id": ("invalid",),
    "check_score": ("out_of_range",),
    "check_count": ("out_of_range",),
    "check_days": ("out_of_range",),
    "check_seconds": ("out_of_range",),
    "deadline": ("out_of_range",),
    "parse_choice": ("unknown",),
    "time_of": ("invalid",),
}
"""Functions that make a code of the name they are given."""


def called_name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def constant(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def codes_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: constant(keyword.value) for keyword in node.keywords}
            yield keywords.get("code", "")
            for suffix in _SUFFIXES.get(called_name(node), ()):
                yield f"{keywords['name']}_{suffix}" if keywords.get("name") else ""
            if called_name(node) in ("failure", "_unavailable"):
                yield constant(node.args[0])
        elif isinstance(node, ast.Dict):
            yield from (constant(v) for k, v in zip(node.keys, node.values, strict=True) if constant(k) == "code")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "_HINTS":
            assert isinstance(node.value, ast.Dict)
            yield from (constant(key) for key in node.value.keys)


def classes_below(root: type[ContextDnaError]) -> Iterator[type[ContextDnaError]]:
    yield root
    for inner in root.__subclasses__():
        yield from classes_below(inner)


def product_codes() -> set[str]:
    sources = [path for root in PRODUCT for path in root.rglob("*.py")]
    codes = {code for path in sources for code in codes_in(ast.parse(text_of(path)))}
    return (codes | {error.code for error in classes_below(ContextDnaError)}) - {""}


def documented_codes() -> list[str]:
    page = text_of(DOCS / "errors.md").replace("| `…_", "| _")
    rows = [line for line in page.splitlines() if line.startswith("| `") or line.startswith("| _")]
    return [
        code
        for row in rows
        for code in re.findall(r"`([a-z0-9_]+)`", row.split("|")[3] if row.startswith("| _") else row.split("|")[1])
    ]


def test_the_codes_of_the_product_are_found() -> None:
    codes = product_codes()
    assert {"version_conflict", "tool_unknown", "storage_io_error", "since_invalid", "internal_error"} <= codes
    assert len(codes) > 120


def test_every_error_code_is_documented_and_no_other() -> None:
    documented = documented_codes()
    assert sorted(set(documented)) == sorted(product_codes())
    assert len(documented) == len(set(documented)), "a code is documented twice"


def messages_in(tree: ast.AST) -> Iterator[str]:
    """Give the messages that errors of ours are made with, as far as they are literal."""
    places = {error.__name__: 0 for error in classes_below(ContextDnaError)} | {
        "failure": 1,
        "_unavailable": 1,
        "unavailable": 1,
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) > places.get(called_name(node), len(node.args)):
            message = node.args[places[called_name(node)]]
            parts = message.values if isinstance(message, ast.JoinedStr) else [message]
            yield "".join(constant(part) or "{}" for part in parts)


def test_messages_of_errors_start_small_and_have_no_full_stop() -> None:
    """A hint follows them after a full stop and a space."""
    messages = {m for root in PRODUCT for path in root.rglob("*.py") for m in messages_in(ast.parse(text_of(path)))}
    assert len(messages) > 100
    names = ("SQLite ", "PostgreSQL ", "Redis ", "S3 ", "PROCEED ")
    loud = {m for m in messages if m[:1].isupper() and not m.startswith(names)}
    assert loud | {m for m in messages if m.endswith(".")} == set()


# --- links, paths, blocks ---


def links_of(page: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            yield target


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors_of(path), f"{link}: no such heading"


def test_every_page_is_named_in_the_readme() -> None:
    linked = {README.parent / link for link in re.findall(r"\]\(([^)#\s]+)\)", section(README, "Documents"))}
    assert {*DOCS.glob("*.md"), DOCS / "decisions"} == linked


def test_to_change_something_the_file_to_open_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]*`[^|]*) \|$", section(README, "For developers"), re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`([^`]+)`", row)]
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_files_that_the_decisions_and_words_name_in_code_exist() -> None:
    named_files = {
        path for page in PAGES for path in re.findall(r"`((?:core|tools|resources|server|tests)/[^`]+)`", text_of(page))
    }
    assert [path for path in sorted(named_files) if not (ROOT / path).exists()] == []


def test_decisions_are_numbered_without_gaps_and_bear_their_numbers() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [page.name[:5] for page in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    for number, page in enumerate(pages, start=1):
        assert text_of(page).startswith(f"# {number}. ")


def blocks_of(language: str) -> list[tuple[str, str]]:
    return [
        (info, body)
        for page in PAGES
        for info, body in re.findall(rf"^```{language}([^\n]*)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    ]


def test_json_blocks_are_json() -> None:
    blocks = blocks_of("json")
    assert blocks
    for _, body in blocks:
        json.loads(body)


def test_the_settings_file_in_the_documents_is_one() -> None:
    blocks = blocks_of("toml")
    assert blocks
    for _, body in blocks:
        Settings(command_line={}, file=tomllib.loads(body))  # type: ignore[call-arg]  # its own sources take them


def test_files_for_deployment_are_shown_as_they_are() -> None:
    """A block whose first line names a file of deploy/ is that file, and each is shown but those of compose.yaml."""
    shown = {
        name: body
        for page in PAGES
        for name, body in re.findall(r"^```[a-z]+ (deploy/\S+)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    }
    assert shown == {f"deploy/{path.name}": text_of(path) for path in (ROOT / "deploy").iterdir() if path.is_file()}


def test_python_blocks_are_python() -> None:
    for _, body in blocks_of("python"):
        ast.parse(body)


def programs() -> list[tuple[str, str, str]]:
    """Give the programs in documents with what they print: each is followed by a block of text."""
    pattern = r"^```python runnable\n(.*?)^```\n\n```text\n(.*?)^```"
    return [
        (f"{page.stem}-{number}", program, printed)
        for page in PAGES
        for number, (program, printed) in enumerate(re.findall(pattern, text_of(page), re.MULTILINE | re.DOTALL), 1)
    ]


def test_every_runnable_program_tells_what_it_prints() -> None:
    assert len(programs()) == sum(info.strip() == "runnable" for info, _ in blocks_of("python")) >= 2


@pytest.mark.parametrize(("program", "printed"), [p[1:] for p in programs()], ids=[p[0] for p in programs()])
def test_a_runnable_program_prints_what_its_page_says(program: str, printed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", printed)


def test_the_parts_of_a_workspace_are_documented_with_their_methods() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", section(DOCS / "embedding.md", "The parts of a workspace"), re.MULTILINE
    )
    shown = {part: set(re.findall(r"`(\w+)`", methods)) for part, methods in rows}
    there: dict[str, set[str]] = {}
    for name in METHODS:
        part, _, method = name.rpartition(".")
        there.setdefault(part, set()).add(method)
    assert shown == {part: methods for part, methods in there.items() if part}


def test_runnable_lines_name_what_is_there() -> None:
    lines = [line for info, body in blocks_of("bash") if info.strip() == "runnable" for line in body.splitlines()]
    assert lines[:2] == ["uv run contextdna demo", "uv run pytest"]
    for line in lines:
        words = shlex.split(line)
        if words[:3] == ["uv", "run", "contextdna"]:
            assert words[3] in main.list_commands(click.Context(main))
        elif words[:3] == ["uv", "run", "python"]:
            ast.parse(text_of(ROOT / words[3]))
        elif words[0] != "uv":
            assert (ROOT / words[0]).exists(), line


# --- what is in no file ---

_ABSENT = {  # in two parts each, so that this file does not name them either
    "machine-path": re.compile(r"(?<![\w./-])/" + r"work/"),
    "package-index": re.compile(r"(?:pypi|pythonhosted|npmjs)" + r"\.(?:org|com)"),
}


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = done.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and name != "uv.lock" and (ROOT / name).is_file()]


@pytest.mark.parametrize("pattern", _ABSENT.values(), ids=_ABSENT)
def test_no_tracked_file_names_a_machine_or_a_package_index(pattern: re.Pattern[str]) -> None:
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
