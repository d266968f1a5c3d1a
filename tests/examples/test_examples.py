"""Each example runs as a person would run it, and says that all went as expected."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[!_]*.py"))


def run(name: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith("CONTEXTDNA_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *args],
        cwd=folder,
        env={**kept, "HOME": str(folder), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_there_are_examples_to_run() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_ends_as_it_expects(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path, "--data", str(tmp_path / "data"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "audit trail intact" in done.stdout
    assert done.stdout.endswith("All as expected.\n")
    assert done.stderr == ""
    assert (tmp_path / "data" / "contextdna.db").exists()


def test_an_example_whose_expectation_fails_says_so_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'examples')!r})\n"
        "import anyio\n"
        "from _support import expect, run_example\n"
        "async def story(data):\n"
        "    async with anyio.create_task_group():\n"
        "        expect(False, 'water runs uphill')\n"
        "run_example(story)\n",
        encoding="utf-8",
    )
    done = run(str(tmp_path / "wrong.py"), tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "FAILED: water runs uphill"
