"""Each benchmark still runs. Its figures are looked at by people, never by a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import NAMES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_a_small_table(name: str, tmp_path: Path) -> None:
    document = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", name, "--rounds", "1", "--scale", "0.001"]
    done = subprocess.run(
        [*command, "--no-peers", "--folder", str(tmp_path), "--json", str(document)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "limits are judged at 1 only" in done.stdout
    assert "HELD" not in done.stdout and "held:" not in done.stdout
    limits = json.loads(document.read_text())["benchmarks"][name]["limits"]
    assert limits and all(limit["figure"] > 0 or limit.get("most") == 0 for limit in limits)
    assert list(tmp_path.iterdir()) == [document]
