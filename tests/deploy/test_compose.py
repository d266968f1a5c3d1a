"""compose.yaml holds together: its settings are ones that the server takes, its files are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # stubs are not worth a dependency

from contextdna_server.settings import load_settings
from tests.deploy.rig import DEPLOY

FILE: Final = DEPLOY.parent / "compose.yaml"
TEXT: Final = FILE.read_text()
GIVEN: Final = {"CONTEXTDNA_MASTER_KEY": "ab" * 32, "DATABASE_PASSWORD": "one", "S3_SECRET_KEY": "two"}


def services() -> dict[str, Any]:
    """Read the services with their variables, as Compose would put them in."""

    def value(found: re.Match[str]) -> str:
        return GIVEN.get(found["name"], found["default"] or "")

    text = re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}", value, TEXT)
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.mark.parametrize("name", ["memory-1", "memory-2"])
def test_the_servers_take_their_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = services()[name]
    for variable in os.environ:
        if variable.startswith("CONTEXTDNA_"):
            monkeypatch.delenv(variable)
    for variable, value in server["environment"].items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("CONTEXTDNA_DATA", str(tmp_path))
    settings = load_settings({})
    proxy = services()["proxy"]
    assert settings.to_hub_settings().database == "postgresql://contextdna:one@database:5432/contextdna"
    assert settings.http.peer_url == f"http://{name}:8000"
    assert settings.http.public_url == proxy["environment"]["PUBLIC_URL"]
    assert list(settings.http.trusted_proxies) == [proxy["networks"]["default"]["ipv4_address"]]


def test_all_that_must_be_chosen_is_made_by_the_command_at_the_top() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert needed == set(re.findall(r"(?:'|\\n)(\w+)=%s", TEXT)) == set(GIVEN)


def test_services_and_files_that_are_named_are_there() -> None:
    document = yaml.safe_load(TEXT)
    for service in document["services"].values():
        for name in service.get("depends_on", ()):
            assert "healthcheck" in document["services"][name] or name.startswith("memory-"), "the image has its own"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (FILE.parent / source).is_file() if source.startswith(".") else source in document["volumes"]
    proxied = re.search(r"reverse_proxy (.+) \{", (DEPLOY / "compose" / "Caddyfile").read_text())
    assert proxied
    assert {upstream.split(":")[0] for upstream in proxied[1].split()} <= set(document["services"])


def test_the_image_has_what_the_stack_needs() -> None:
    installs = re.findall(r"^RUN uv sync (.+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert installs
    assert all(f"--extra {extra}" in line for line in installs for extra in ("postgres", "redis", "s3"))


def test_the_script_that_makes_the_database_is_one_for_sh() -> None:
    shell = shutil.which("sh")
    assert shell
    subprocess.run([shell, "-n", DEPLOY / "compose" / "database.sh"], check=True, timeout=10)
