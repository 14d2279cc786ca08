"""The world that is killed: a table by trigger and one by cursor, and what happens to them."""

from __future__ import annotations

# Imported here, so that children of a fork need not: the engine itself imports them when used.
import adbc_driver_sqlite.dbapi  # noqa: F401
import duckdb  # noqa: F401
import pandas  # noqa: F401
import tenacity  # noqa: F401

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import rowtrail.checkpoints.manifest
import rowtrail.checkpoints.outcomes
import rowtrail.checkpoints.trail
import rowtrail.connectors.destinations.duckdb
import rowtrail.connectors.sources.sqlite  # noqa: F401
from rowtrail import Breakers, Pipeline, Stream

TABLES = {"orders": "trigger", "payments": "cursor"}
