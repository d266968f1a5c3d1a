"""The files of deploy/ fit together, as far as that can be seen without the programs that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from contextdna_server.commands.init import server_command
from contextdna_server.settings import Settings
from tests.deploy.rig import DEPLOY

UNIT = (DEPLOY / "contextdna.service").read_text()
SETTINGS = tomllib.loads((DEPLOY / "contextdna.toml").read_text())
IMAGE = (DEPLOY / "Containerfile").read_text()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze IS NOT INSTALLED: deploy/contextdna.service is not verified")
    unit = tmp_path / "contextdna.service"
    there, _ = server_command()
    unit.write_text(UNIT.replace("/opt/contextdna/bin/contextdna", there))
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_waits_for_longer_than_the_server_needs_to_end() -> None:
    waits = re.search(r"^TimeoutStopSec=(\d+)s$", UNIT, re.MULTILINE)
    assert waits
    drain_s = Settings(command_line={}, file=SETTINGS).http.drain_s  # type: ignore[call-arg]  # its own sources take them
    assert int(waits[1]) > drain_s + 5  # what a supervisor gives its workers


def test_unit_and_settings_mean_the_same_folder_and_key() -> None:
    assert f"StateDirectory={Path(SETTINGS['data']).name}\n" in UNIT
    assert f"LoadCredential=master-key:{SETTINGS['master_key_file']}\n" in UNIT


def test_what_goes_into_the_image_is_there() -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", IMAGE, re.MULTILINE)
    assert {"core", "tools", "resources", "server"} < {name for names in copied for name in names.split()}
    assert all((DEPLOY.parent / name).exists() for names in copied for name in names.split())
    assert "USER 10001" in IMAGE
