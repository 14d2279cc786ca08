"""Destination and source with the older line of the connector, 4.8, whose protocol is its own.

It is installed where the server that stands in for Snowflake is, and is put before the newer one in
a process of its own. Not every test, but in the long form: each part of the connector that Rowtrail
uses once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.snowflake_server import ENVIRONMENT
from tests.soak import SOAK

TESTS = (
    "every_type_with_null or soft_delete_keeps or probe_leaves or gaps_open or second_ledger "
    "or rows_by_composite or null_key or takes_its_place or reads_the_table_and_then "
    "or fetches_by_key or every_type_and_null or an_empty_table or nanoseconds_hold "
    "or session_that_is_gone or (keys_of_every_type and (hour or moment or data)) "
    "or (several_columns_and_texts and snowflake)"
)
FILES = (
    "test_snowflake_destination.py",
    "test_snowflake_source.py",
    "test_snowflake_reading.py",
    "test_conditions.py",
)
RUN = """
import sys
packages, shadow = sys.argv[1:3]
sys.path.insert(0, shadow)
sys.path.append(packages)
import snowflake.connector
assert snowflake.connector.__version__.startswith("4.8."), snowflake.connector.__version__
import pytest
sys.exit(pytest.main(sys.argv[3:]))
"""


def test_with_connector_4(tmp_path: Path) -> None:
    (packages,) = ENVIRONMENT.glob("lib/python*/site-packages")
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "snowflake").symlink_to(packages / "snowflake")
    tests = [Path(__file__).with_name(name) for name in FILES]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            packages,
            shadow,
            "-q",
            *([] if SOAK else ["-k", TESTS]),
            *tests,
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ROWTRAIL_SOAK": "0"},  # each of them, in its short form
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
