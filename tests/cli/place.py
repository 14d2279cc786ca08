"""A folder with a small source and a pipeline file, where command lines are typed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rowtrail.cli.app import execute
from tests.duckdb_files import look_into

TABLE = "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount DECIMAL(10,2), note TEXT)"
FILE = """\
[pipeline]
name = "shop"
source = "sqlite:///source.db"
destination = "duckdb:///target.duckdb"
install_capture = true

[defaults]
capture = "trigger"

[streams.orders]
"""
PICKY = """
[streams.orders]
transforms = ["picky:picky"]
"""
TRANSFORM = """
import pandas as pd

class NoRateError(LookupError):
    pass

def picky(orders: pd.DataFrame) -> pd.DataFrame:
    if (orders["note"] == "bad").any():
        raise NoRateError("there is no rate for it")
    return orders[orders["note"].ne("test").fillna(True)]
"""


@dataclass(frozen=True)
class Answer:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


class Place:
    """Command lines are typed in `folder`; each look opens and closes its own connection."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.source = folder / "source.db"
        self.target = folder / "target.duckdb"
        self.ledger = folder / ".rowtrail" / "shop.ledger"
        self.file = folder / "rowtrail.toml"
        self._capsys = capsys
        self.sql(TABLE)
        self.write(FILE)

    def write(self, text: str, **replaced: str) -> None:
        """Writes the pipeline file; keywords replace lines that begin with them."""
        for setting, value in replaced.items():
            lines = [
                f"{setting} = {value}" if line.startswith(f"{setting} =") else line
                for line in text.splitlines()
            ]
            text = "\n".join(lines) + "\n"
        self.file.write_text(text, encoding="utf-8")

    def use_transform(self, code: str = TRANSFORM) -> None:
        """Takes orders through the function `picky` of this code."""
        (self.folder / "picky.py").write_text(code, encoding="utf-8")
        self.write(FILE.replace("\n[streams.orders]\n", PICKY))

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.source)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def put(self, *rows: tuple[int, object, object]) -> None:
        """Inserts or replaces orders (id, amount, note)."""
        with closing(sqlite3.connect(self.source)) as connection, connection:
            connection.executemany(
                "INSERT INTO orders VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "amount = excluded.amount, note = excluded.note",
                rows,
            )

    def type(self, *line: str) -> Answer:
        """One command line in this process."""
        self._capsys.readouterr()
        code = execute(line)
        out, err = self._capsys.readouterr()
        return Answer(code, out, err)

    def spawn(self, *line: str, typed: str = "", **environment: str) -> Answer:
        """One command line in a process of its own, with `typed` as its standard input."""
        done = subprocess.run(
            [sys.executable, "-m", "rowtrail", *line],
            cwd=self.folder,
            env={**os.environ, **environment},
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Asks the target."""
        with look_into(self.target) as connection:
            return connection.execute(statement).fetchall()

    def loaded(self) -> set[int]:
        """The ids of the live orders at the target."""
        with look_into(self.target) as connection:
            rows = connection.execute(
                "SELECT id FROM orders WHERE _rowtrail_deleted_at IS NULL"
            ).fetchall()
        assert len(rows) == len(set(rows)), "a record stands twice at the target"
        return {one for (one,) in rows}

    def expected(self) -> set[int]:
        """The ids of the orders at the source."""
        return {one for (one,) in self.sql("SELECT id FROM orders")}
