"""The import rules of the product, and a checker that reads them off the source without running it.

`RULES` is the layer diagram as data. Everything works on `Module` values, so that a test can feed it a made-up source.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE_ROOTS: Mapping[str, str] = {
    "core": "contextdna",
    "tools": "contextdna_tools",
    "resources": "contextdna_resources",
    "server": "contextdna_server",
}
OWN_PACKAGES = frozenset(SOURCE_ROOTS.values())
SETTINGS_MODULE = "contextdna_server.settings"
"""The only module that may read the process environment."""

DRIVERS: Mapping[str, frozenset[str]] = {
    "sqlite": frozenset({"aiosqlite", "pysqlite3"}),
    "postgres": frozenset({"asyncpg"}),
    "redis": frozenset({"redis"}),
    "s3": frozenset({"boto3", "botocore"}),
    "keyring": frozenset({"keyring"}),
    "wordllama": frozenset({"wordllama"}),
    "openai": frozenset({"httpx2"}),
    "fastembed": frozenset({"fastembed"}),
    "tiktoken": frozenset({"tiktoken"}),
    "write-ahead log": frozenset({"google_crc32c"}),
}
"""Product -> the packages that talk to it. A backend module knows one product."""

OPTIONAL = frozenset(
    {"keyring", "asyncpg", "redis", "boto3", "botocore", "wordllama", "fastembed", "tiktoken", "numpy"}
)
"""Packages that a plain install does not have: imported inside the function that needs them."""

WAITING: Mapping[str, frozenset[str]] = {
    "contextdna.backends.postgres": DRIVERS["postgres"],
    "contextdna.backends.redis": DRIVERS["redis"],
    "contextdna.backends.s3": DRIVERS["s3"],
}
"""Our own packages that are imported like that, too: within them their driver is no option any more."""

ENVIRONMENT_NAMES = frozenset({"environ", "environb", "getenv", "getenvb"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What the modules of one zone may import, besides their own zone and the standard library."""

    zones: frozenset[str]
    third_party: frozenset[str] | None = frozenset()
    """Distributions' import names; None allows any."""


_DRIVERS_OF_ALL_PRODUCTS = frozenset[str]().union(*DRIVERS.values())
_MCP_EDGE = frozenset({"mcp", "mcp_types", "pydantic"})

RULES: Mapping[str, Rule] = {
    "values": Rule(frozenset()),
    "errors": Rule(frozenset({"values"})),
    "ports": Rule(frozenset({"values", "errors"})),
    "domain": Rule(
        frozenset({"ports", "values", "errors"}),
        frozenset({"Stemmer", "cryptography", "backports.zstd", "compression.zstd", "numpy"}),
    ),
    "backends": Rule(frozenset({"ports", "values", "errors"}), _DRIVERS_OF_ALL_PRODUCTS | {"anyio", "cryptography"}),
    "hub": Rule(frozenset({"domain", "backends", "ports", "values", "errors"}), frozenset({"anyio"})),
    "client": Rule(frozenset({"values", "errors"}), _MCP_EDGE - {"pydantic"} | {"anyio", "httpx2"}),
    "public": Rule(frozenset({"hub", "domain", "backends", "ports", "values", "errors"})),
    "tools": Rule(frozenset({"public"}), _MCP_EDGE | {"anyio"}),
    "resources": Rule(frozenset({"public"}), _MCP_EDGE),
    "server": Rule(
        frozenset({"tools", "resources", "public", "hub", "domain", "backends", "ports", "values", "errors"}), None
    ),
}
"""Zone -> rule. `public` is contextdna/__init__.py, where core's public names are exported; none imports `client`."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported thing, as written: `from module import name`, or `import module` when name is empty."""

    module: str
    name: str
    line: int
    in_function: bool
    type_checking: bool

    @property
    def dotted(self) -> str:
        """The longest dotted path that the statement names."""
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True)
class Module:
    """One parsed source file of the product."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @classmethod
    def from_source(cls, name: str, source: str, *, is_package: bool = False) -> "Module":
        """Parse a source text under the given dotted name."""
        return cls(name, ast.parse(source, filename=name), is_package)

    @property
    def zone(self) -> str | None:
        """The key of the rule that applies, or None when the module stands outside every layer."""
        return zone_of(self.name)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, wherever it stands, with relative ones resolved."""
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        return tuple(_imports(self.tree, package, in_function=False, type_checking=False))


def zone_of(dotted: str) -> str | None:
    """Return the zone that a dotted name of our packages belongs to; None if there is none."""
    top, _, rest = dotted.partition(".")
    if top in OWN_PACKAGES and top != "contextdna":
        return top.removeprefix("contextdna_")
    if top != "contextdna":
        return None
    first = rest.partition(".")[0]
    if not first:
        return "public"
    return first if first in {"values", "errors", "ports", "domain", "backends", "hub", "client"} else None


def load(root: Path) -> list[Module]:
    """Parse every Python file of the product below a checkout's root; a missing source root holds no files."""
    return [
        _load_file(path, root / folder) for folder in SOURCE_ROOTS for path in sorted((root / folder).rglob("*.py"))
    ]


def layer_violations(modules: Iterable[Module]) -> list[str]:
    """Name every import that its module's layer does not allow, lazy and type-checking imports included."""
    modules = list(modules)
    exported = {name for module in modules if module.name == "contextdna" for name in exported_names(module) or ()}
    return [violation for module in modules for violation in _violations_in(module, exported)]


def product_violations(modules: Iterable[Module]) -> list[str]:
    """Name every backend module that imports the drivers of more than one product."""
    found = []
    for module in modules:
        tops = {imported.module.partition(".")[0] for imported in module.imports}
        products = sorted(product for product, packages in DRIVERS.items() if packages & tops)
        if module.zone == "backends" and len(products) > 1:
            found.append(f"{module.name}: knows several products: {', '.join(products)}")
    return found


def eager_optional_imports(modules: Iterable[Module]) -> list[str]:
    """Name every import of an optional package that runs when its module is imported."""
    return [
        f"{module.name}:{imported.line}: imports the optional {imported.module} at module level"
        for module in modules
        for imported in module.imports
        if _is_optional(imported.module, module.name) and not imported.in_function and not imported.type_checking
    ]


def _is_optional(imported: str, importer: str) -> bool:
    own = next((package for package in WAITING if _within(importer, package)), "")
    if own:
        return imported.partition(".")[0] in OPTIONAL - WAITING[own]
    return imported.partition(".")[0] in OPTIONAL or any(_within(imported, package) for package in WAITING)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def import_cycle(modules: Iterable[Module]) -> list[str]:
    """Return one import cycle as module names, first and last equal; empty if there is none.

    Imports inside functions count, those for type checkers only do not.
    """
    modules = list(modules)
    known = {module.name for module in modules}
    graph = {
        module.name: {
            target
            for imported in module.imports
            if not imported.type_checking and (target := _target(imported, known)) and target != module.name
        }
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def environment_reads(modules: Iterable[Module]) -> list[str]:
    """Name every use of the process environment outside the settings module."""
    return [
        f"{module.name}:{line}: reads the environment"
        for module in modules
        if module.name != SETTINGS_MODULE
        for line in _environment_lines(module.tree)
    ]


def print_calls(modules: Iterable[Module]) -> list[str]:
    """Name every call of the built-in print: on stdio it would write into the protocol stream."""
    return [
        f"{module.name}:{node.lineno}: calls print"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def exported_names(module: Module) -> list[str] | None:
    """Return the names in a module's literal `__all__`; None if it has none."""
    for node in module.tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names_all = any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
        if names_all and isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.List | ast.Tuple):
            return [str(element.value) for element in node.value.elts if isinstance(element, ast.Constant)]
    return None


def _load_file(path: Path, source_root: Path) -> Module:
    parts = path.relative_to(source_root).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module.from_source(name, path.read_text(encoding="utf-8"), is_package=is_package)


def _imports(node: ast.AST, package: str, *, in_function: bool, type_checking: bool) -> Iterator[Import]:
    """Walk a tree and yield its imports, remembering where they stand."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, "", node.lineno, in_function, type_checking)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node, package)
        for alias in node.names:
            yield Import(module, alias.name, node.lineno, in_function, type_checking)
    elif isinstance(node, ast.Call) and _imports_by_name(node):
        argument = node.args[0] if node.args else None
        literal = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        name = argument.value if literal and isinstance(argument, ast.Constant) else "<computed>"
        yield Import(str(name), "", node.lineno, in_function, type_checking)

    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for field, value in ast.iter_fields(node):
        # Only the body of `if TYPE_CHECKING:` is for type checkers: its else branch runs.
        for_checkers = type_checking or (isinstance(node, ast.If) and field == "body" and _tests_type_checking(node))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _imports(child, package, in_function=inside, type_checking=for_checkers)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - (node.level - 1)]
    return ".".join([*base, node.module] if node.module else base)


def _environment_lines(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that name the environment, under whatever name `os` was imported."""
    os_names = {
        alias.asname or "os"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os" or (alias.name.startswith("os.") and not alias.asname)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT_NAMES:
            if isinstance(node.value, ast.Name) and node.value.id in os_names:
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in ENVIRONMENT_NAMES)


def _imports_by_name(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"import_module", "__import__"}


def _tests_type_checking(node: ast.If) -> bool:
    test = node.test
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def _target(imported: Import, known: set[str]) -> str | None:
    """Return the module of ours that an import loads, the submodule rather than its package."""
    return next((name for name in (imported.dotted, imported.module) if name in known), None)


def _violations_in(module: Module, exported: set[str]) -> Iterator[str]:
    zone = module.zone
    if zone is None:
        yield f"{module.name}: stands outside the layers"
        return
    for imported in module.imports:
        reason = _objection(zone, imported, exported)
        if reason:
            yield f"{module.name}:{imported.line}: {zone} may not import {imported.dotted}: {reason}"


def _objection(zone: str, imported: Import, exported: set[str]) -> str:
    """Say why a zone may not make an import; empty if it may."""
    top = imported.module.partition(".")[0]
    if top in OWN_PACKAGES:
        return _objection_to_own(zone, imported, exported)
    if top in sys.stdlib_module_names or top == "__future__":
        return ""
    allowed = RULES[zone].third_party
    dotted = f"{imported.dotted}."
    if allowed is None or any(dotted.startswith(f"{name}.") for name in allowed):
        return ""
    return "not a package of that layer"


def _objection_to_own(zone: str, imported: Import, exported: set[str]) -> str:
    target = _zone_imported(imported)
    if target == zone:
        return ""
    if target not in RULES[zone].zones:
        return f"that is {target or 'outside the layers'}"
    if zone in {"tools", "resources"} and not imported.name:
        return "take its public names: from contextdna import ..."
    if zone in {"tools", "resources"} and imported.name not in exported:
        return "not in contextdna.__all__"
    return ""


def _zone_imported(imported: Import) -> str | None:
    """Return the zone of what is imported: `from contextdna import values` is the folder, any other name is public."""
    if imported.module == "contextdna":
        return zone_of(imported.dotted) or "public"
    return zone_of(imported.module)
