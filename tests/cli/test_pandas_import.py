"""A command imports pandas only for a pipeline whose transforms may use it."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.place import Place

_RUN = """
import sys
from rowtrail.cli.app import execute
code = execute(["run", "--json"])
import pyarrow
print(code, "pandas" in sys.modules, file=sys.stderr)
"""

_SUITE = """[streams.orders]
expectations = "s.json"
"""
_TRANSFORM = """
import pandas as pd
import pyarrow as pa

# Already here, before any row is at hand.
assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1, "a Series is a list"

def picky(orders):
    return orders
"""


def run(place: Place, code: str = _RUN) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_run_without_transforms_imports_no_pandas(place: Place) -> None:
    place.put((1, 1, "a"))
    assert run(place) == "0 False"
    place.sql("DELETE FROM orders")
    place.put((2, 1, "a"))
    assert run(place) == "0 False"


def test_a_transform_meets_a_pyarrow_that_knows_pandas(place: Place) -> None:
    place.put((1, 1, "a"))
    assert run(place) == "0 False"
    place.use_transform(_TRANSFORM)
    place.put((2, 1, "a"))
    assert run(place) == "0 True"


def test_what_imports_pandas_afterwards_gets_it(place: Place) -> None:
    place.put((1, 1, "a"))
    code = _RUN + "import pandas; print(pyarrow.array([1]).to_pandas().sum(), file=sys.stderr)\n"
    assert run(place, code) == "1"


def test_a_run_without_suites_imports_no_great_expectations(place: Place) -> None:
    place.put((1, 1, "a"))
    place.use_transform("def picky(orders):\n    return orders\n")
    checks = "\n[streams.orders.checks]\nnote = { pattern = '[a-z]' }\n"
    place.file.write_text(place.file.read_text() + checks)
    code = _RUN.replace('"pandas" in', '"great_expectations" in')
    assert run(place, code) == "0 False"
    (place.folder / "s.json").write_text(
        '{"expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "id"}}]}'
    )
    place.file.write_text(place.file.read_text().replace("[streams.orders]\n", _SUITE))
    place.put((2, 1, "b"))
    assert run(place, code) == "0 True"
