"""What doctor tells where the package for a database, a bucket or Redis is not installed."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from contextdna.hub import blob_stores, commons, storages
from contextdna_server.cli import main

# Extra -> the setting that needs it, and the module that looks for its driver.
NEEDED = {
    "postgres": ("DATABASE", "postgresql://nowhere/none", storages),
    "s3": ("ARTIFACTS", "s3://bucket/prefix", blob_stores),
    "redis": ("CACHE", "redis://nowhere:6379/0", commons),
}


@pytest.mark.parametrize("extra", NEEDED)
def test_doctor_names_the_extra_that_is_missing(extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, url, requiring = NEEDED[extra]
    monkeypatch.setenv(f"CONTEXTDNA_STORAGE__{setting}", url)
    monkeypatch.setattr(requiring, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, f"contextdna.backends.{extra}", None)  # as it is without the driver
    result = CliRunner().invoke(main, ["doctor", "--data", str(tmp_path / "data"), "--json"])
    found = {one["name"]: one for one in json.loads(result.stdout)["checks"]}[extra]
    assert (found["status"], "[driver_missing]" in found["detail"]) == ("fail", True)
    assert f"contextdna[{extra}]" in found["remedy"]
