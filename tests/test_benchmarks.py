"""Each benchmark still runs. Its figures are looked at by people, never by a test.

One of them measures in new interpreters, as `make bench` does; the others in forks of one, unless
the tests are to be long.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import NAMES

from tests.soak import SOAK

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_a_small_table(name: str, tmp_path: Path) -> None:
    document = tmp_path / "figures.json"
    module = "benchmarks" if SOAK or name == "memory" else "tests.forked_benchmarks"
    command = [sys.executable, "-m", module, name, "--rounds", "1", "--scale", "0.001"]
    done = subprocess.run(
        [*command, "--no-peers", "--folder", str(tmp_path), "--json", str(document)],
        cwd=ROOT,
        # NumPy's linear algebra would start threads of its own at import, which no fork survives.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
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
