"""What a user gets from the built wheel. Runs where only the wheel and pytest are installed: see .ci/run."""

import importlib
import json
import os
import re
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

PACKAGES = ("contextdna", "contextdna_tools", "contextdna_resources", "contextdna_server")
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
COMMAND = Path(sysconfig.get_path("scripts")) / ("contextdna.exe" if os.name == "nt" else "contextdna")
COMMAND_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def distribution() -> metadata.Distribution:
    return metadata.distribution("contextdna")


@pytest.fixture(scope="module")
def shipped(distribution: metadata.Distribution) -> list[PurePosixPath]:
    """Every installed file, relative to site-packages."""
    return [PurePosixPath(file) for file in distribution.files or ()]


def run(*arguments: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a new user would: an empty home, no settings, no checkout in sight."""
    kept = {
        name: value for name, value in os.environ.items() if name in {"PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR"}
    }
    places = {"HOME": str(home), "USERPROFILE": str(home), "APPDATA": str(home), "LOCALAPPDATA": str(home)}
    return subprocess.run(
        [str(COMMAND), *arguments],
        cwd=home,
        env=kept | places | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_is_imported_from_the_installation(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).is_relative_to(SITE_PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_says_that_it_is_typed(name: str, shipped: list[PurePosixPath]) -> None:
    assert PurePosixPath(name, "py.typed") in shipped


def test_the_sql_files_are_shipped(shipped: list[PurePosixPath]) -> None:
    statements = [file for file in shipped if file.parts[0] == "contextdna" and file.suffix == ".sql"]
    assert statements
    assert all((SITE_PACKAGES / file).stat().st_size for file in statements)


def test_nothing_but_the_packages_is_shipped(distribution: metadata.Distribution, shipped: list[PurePosixPath]) -> None:
    inside = {file.parts[0] for file in shipped if ".." not in file.parts}
    assert inside == {*PACKAGES, f"contextdna-{distribution.version}.dist-info"}
    assert {file.stem for file in shipped if ".." in file.parts} == {"contextdna"}
    assert not [file for file in shipped if {"tests", "benchmarks"} & set(file.parts)]


def test_the_licence_is_named_and_shipped(distribution: metadata.Distribution) -> None:
    assert distribution.metadata["License-Expression"] == "Apache-2.0"
    assert distribution.metadata.get_all("License-File") == ["LICENSE"]
    licence = distribution.read_text("licenses/LICENSE") or ""
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_metadata_says_which_python_and_which_command(distribution: metadata.Distribution) -> None:
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    commands = {entry.name: entry.value for entry in distribution.entry_points if entry.group == "console_scripts"}
    assert commands == {"contextdna": "contextdna_server.__main__:run"}


def test_no_optional_package_is_installed(distribution: metadata.Distribution) -> None:
    """The environment is the plain install, so the tests of the command show what works without extras."""
    optional = {re.split(r"[^\w.-]", line)[0].lower() for line in distribution.requires or () if "extra ==" in line}
    assert optional
    assert not optional & {found.metadata["Name"].lower() for found in metadata.distributions()}


def test_the_command_tells_its_version(distribution: metadata.Distribution, tmp_path: Path) -> None:
    result = run("--version", home=tmp_path)
    assert result.returncode == 0, result.stderr
    assert distribution.version in result.stdout


def test_the_demo_runs_for_a_new_user(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = run("demo", "--json", "--data", str(data), home=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)
    assert any(data.iterdir())


def test_doctor_names_the_extra_that_a_plain_install_does_not_have(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = run("doctor", "--data", str(data), home=tmp_path, CONTEXTDNA_STORAGE__DATABASE="postgresql://none/none")
    assert result.returncode == 1, result.stderr
    assert "contextdna[postgres]" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
