"""The layer diagram holds for every import of the product, and the checker that says so is able to fail."""

from pathlib import Path

import pytest

from tests.architecture import layers
from tests.architecture.layers import Module

ROOT = Path(__file__).parents[2]
CORE_FRONT = Module.from_source("contextdna", "__all__ = ['Memory', 'open_hub']", is_package=True)


@pytest.fixture(scope="module")
def product() -> list[Module]:
    return layers.load(ROOT)


# The product


def test_the_core_package_has_modules(product: list[Module]) -> None:
    assert [module.name for module in product if module.zone == "values"], "nothing was found to check"


def test_every_import_points_along_the_layers(product: list[Module]) -> None:
    assert layers.layer_violations(product) == []


def test_every_backend_module_knows_one_product(product: list[Module]) -> None:
    assert layers.product_violations(product) == []


def test_optional_packages_are_imported_where_they_are_used(product: list[Module]) -> None:
    assert layers.eager_optional_imports(product) == []


def test_modules_import_each_other_without_a_cycle(product: list[Module]) -> None:
    assert layers.import_cycle(product) == []


def test_only_the_settings_read_the_environment(product: list[Module]) -> None:
    assert layers.environment_reads(product) == []


def test_nothing_prints(product: list[Module]) -> None:
    assert layers.print_calls(product) == []


def test_core_lists_its_public_names(product: list[Module]) -> None:
    fronts = [module for module in product if module.name == "contextdna"]
    assert [bool(layers.exported_names(front)) for front in fronts] == [True]


# The checker


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        pytest.param("contextdna.values.memory", "import pydantic", id="third-party-in-values"),
        pytest.param("contextdna.values.memory", "from contextdna.errors import NotFound", id="values-to-errors"),
        pytest.param("contextdna.errors", "from contextdna.ports import Cache", id="errors-to-ports"),
        pytest.param("contextdna.ports.cache", "from contextdna.domain import access", id="ports-to-domain"),
        pytest.param("contextdna.ports.cache", "from ..domain import access", id="relative-import"),
        pytest.param("contextdna.ports.cache", "from .. import domain", id="relative-import-of-a-folder"),
        pytest.param("contextdna.domain.access", "import contextdna.backends.sqlite", id="domain-to-backends"),
        pytest.param("contextdna.domain.access", "import aiosqlite", id="driver-in-domain"),
        pytest.param("contextdna.domain.access", "from backports import tarfile", id="neighbour-of-an-allowed-package"),
        pytest.param(
            "contextdna.backends.sqlite", "from contextdna.domain.access import may_read", id="backends-to-domain"
        ),
        pytest.param("contextdna.backends.sqlite", "def f():\n    import contextdna.hub", id="lazy-import"),
        pytest.param("contextdna.backends.sqlite", "import mcp", id="not-a-driver"),
        pytest.param("contextdna.hub", "import contextdna_tools", id="core-to-tools"),
        pytest.param("contextdna.hub", "from contextdna import Memory", id="core-to-its-own-front"),
        pytest.param(
            "contextdna.values.x", "import typing\nif typing.TYPE_CHECKING:\n    import mcp", id="type-checking"
        ),
        pytest.param("contextdna.values.x", "import importlib\nimportlib.import_module('mcp')", id="import-by-name"),
        pytest.param("contextdna.values.x", "def f(name):\n    return __import__(name)", id="import-by-computed-name"),
        pytest.param("contextdna.client.memory", "from contextdna.domain import access", id="client-to-domain"),
        pytest.param("contextdna.client.memory", "from contextdna import Memory", id="client-to-the-front-of-core"),
        pytest.param("contextdna.hub.x", "from contextdna.client import connect", id="hub-to-client"),
        pytest.param("contextdna", "from contextdna.client import connect", id="front-of-core-to-client"),
        pytest.param("contextdna_tools.memory", "from contextdna.client import connect", id="tools-to-client"),
        pytest.param("contextdna.misplaced", "", id="module-outside-the-layers"),
        pytest.param("loose", "", id="module-outside-the-packages"),
        pytest.param("contextdna_tools.memory", "import contextdna_resources", id="tools-to-resources"),
        pytest.param("contextdna_resources.memory", "import contextdna_tools.x", id="resources-to-tools"),
        pytest.param("contextdna_tools.memory", "from contextdna_server import app", id="tools-to-server"),
        pytest.param("contextdna_tools.memory", "from contextdna.values import Memory", id="tools-to-a-core-module"),
        pytest.param("contextdna_tools.memory", "from contextdna import values", id="tools-to-a-core-folder"),
        pytest.param("contextdna_tools.memory", "import contextdna", id="tools-to-the-whole-of-core"),
        pytest.param("contextdna_tools.memory", "from contextdna import Hidden", id="tools-to-a-name-not-exported"),
        pytest.param("contextdna_tools.memory", "from contextdna import *", id="tools-to-a-star"),
        pytest.param("contextdna_tools.memory", "import cryptography", id="tools-to-a-package-of-core"),
    ],
)
def test_a_forbidden_import_is_named(importer: str, source: str) -> None:
    found = layers.layer_violations([CORE_FRONT, Module.from_source(importer, source)])
    assert len(found) == 1
    assert found[0].startswith(importer)


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("contextdna.values.memory", "from contextdna.values.ids import MemoryId"),
        ("contextdna.values.memory", "from .ids import MemoryId"),
        ("contextdna.errors", "from contextdna.values import MemoryId"),
        (
            "contextdna.domain.analysis",
            "import Stemmer\nfrom backports import zstd\nfrom compression.zstd import compress",
        ),
        ("contextdna.domain.encryption", "from cryptography.hazmat.primitives.ciphers.aead import AESGCM"),
        ("contextdna.backends.sqlite", "import aiosqlite, anyio\nfrom pysqlite3 import dbapi2"),
        ("contextdna.hub.open", "from contextdna.backends.sqlite import open_database\nfrom contextdna import domain"),
        (
            "contextdna_tools.memory",
            "import mcp_types\nfrom contextdna import Memory\nfrom mcp.server import MCPServer",
        ),
        (
            "contextdna.client.link",
            "import anyio, httpx2\nfrom mcp import Client\nfrom contextdna.errors import Conflict",
        ),
        ("contextdna_server.app", "from contextdna_tools import TOOLS\nfrom contextdna import open_hub\nimport click"),
    ],
)
def test_an_allowed_import_is_not_named(importer: str, source: str) -> None:
    assert layers.layer_violations([CORE_FRONT, Module.from_source(importer, source)]) == []


def test_a_backend_that_knows_two_products_is_named() -> None:
    both = Module.from_source("contextdna.backends.mixed", "import aiosqlite\ndef f():\n    import redis.asyncio")
    assert layers.product_violations([both]) == ["contextdna.backends.mixed: knows several products: redis, sqlite"]


@pytest.mark.parametrize("source", ["import keyring", "try:\n    from redis import asyncio\nexcept ImportError: pass"])
def test_an_optional_package_at_module_level_is_named(source: str) -> None:
    assert len(layers.eager_optional_imports([Module.from_source("contextdna.backends.x", source)])) == 1


@pytest.mark.parametrize(
    "source", ["def f():\n    import keyring", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import redis"]
)
def test_an_optional_package_that_waits_is_not_named(source: str) -> None:
    assert layers.eager_optional_imports([Module.from_source("contextdna.backends.x", source)]) == []


@pytest.mark.parametrize(
    ("importer", "source", "named"),
    [
        ("contextdna.backends.postgres.driver", "import asyncpg", 0),
        ("contextdna.backends.postgres.driver", "import redis", 1),
        ("contextdna.backends.postgres.units", "from contextdna.backends.postgres.driver import Link", 0),
        ("contextdna.hub.opening", "from contextdna.backends.postgres import open_postgres", 1),
        ("contextdna.hub.opening", "def f():\n    from contextdna.backends.postgres import open_postgres", 0),
    ],
)
def test_a_package_that_waits_itself_may_import_its_driver(importer: str, source: str, named: int) -> None:
    assert len(layers.eager_optional_imports([Module.from_source(importer, source)])) == named


def test_the_branch_for_no_type_checker_counts_as_run() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import redis"
    assert len(layers.eager_optional_imports([Module.from_source("contextdna.backends.x", source)])) == 1


@pytest.mark.parametrize(
    "way_back", ["from contextdna.domain import a", "from . import a", "def f():\n    import contextdna.domain.a"]
)
def test_a_cycle_is_named(way_back: str) -> None:
    modules = [
        Module.from_source("contextdna.domain", "", is_package=True),
        Module.from_source("contextdna.domain.a", "from contextdna.domain.b import x"),
        Module.from_source("contextdna.domain.b", way_back),
    ]
    assert set(layers.import_cycle(modules)) == {"contextdna.domain.a", "contextdna.domain.b"}


def test_a_cycle_through_a_package_front_is_named() -> None:
    modules = [
        Module.from_source("contextdna.values", "from .ids import MemoryId", is_package=True),
        Module.from_source("contextdna.values.ids", "from contextdna.values import Level"),
    ]
    assert set(layers.import_cycle(modules)) == {"contextdna.values", "contextdna.values.ids"}


def test_an_import_for_type_checkers_closes_no_cycle() -> None:
    modules = [
        Module.from_source("contextdna.domain.a", "import contextdna.domain.b"),
        Module.from_source(
            "contextdna.domain.b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import contextdna.domain.a"
        ),
    ]
    assert layers.import_cycle(modules) == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['X']",
        "import os\nos.getenv('X')",
        "import os as system\nsystem.environ.get('X')",
        "from os import environ",
        "def f():\n    from os import getenv as g",
        "import os.path\nos.environ['X']",
    ],
)
def test_reading_the_environment_is_named(source: str) -> None:
    assert len(layers.environment_reads([Module.from_source("contextdna.hub", source)])) == 1
    assert layers.environment_reads([Module.from_source(layers.SETTINGS_MODULE, source)]) == []


def test_printing_is_named() -> None:
    modules = [Module.from_source("contextdna_server.cli", "print('x')\nlog.print('x')\nprinter = print")]
    assert layers.print_calls(modules) == ["contextdna_server.cli:1: calls print"]


def test_an_empty_checkout_has_nothing_to_object_to(tmp_path: Path) -> None:
    assert layers.load(tmp_path) == []
    assert layers.layer_violations([]) == layers.import_cycle([]) == []


def test_a_checkout_is_read_with_its_module_names(tmp_path: Path) -> None:
    package = tmp_path / "core" / "contextdna" / "values"
    package.mkdir(parents=True)
    for name in ("__init__.py", "ids.py"):
        (package / name).write_text("", encoding="utf-8")
    found = {(module.name, module.is_package) for module in layers.load(tmp_path)}
    assert found == {("contextdna.values", True), ("contextdna.values.ids", False)}
