"""Back-ups of a ledger and a target that are taken in the midst of runs, and put back later."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.pipelines.commit import Point
from tests.pipelines.copied_table import CopiedTable

EVERY = 3
"""At each third point a back-up is taken: within a batch it is another point each time."""

_FILE_AND_LOG = ("target.duckdb", "target.duckdb.wal")


@dataclass
class BackUps:
    """A `Faults` that crashes nothing: it takes back-ups, and lets changes happen meanwhile."""

    table: CopiedTable
    wanted: int
    points: list[Point] = field(default_factory=list)  # where each was taken
    reached: int = 0

    def __call__(self, point: Point) -> None:
        self.reached += 1
        if self.reached % EVERY or len(self.points) == self.wanted:
            return
        self._take(len(self.points))
        self.points.append(point)
        self.table.happen()

    def put_back_ledger(self, number: int) -> None:
        for file in self.table.folder.glob("ledger.db*"):
            file.unlink()
        shutil.copy(self._folder(number) / "ledger", self.table.folder / "ledger.db")

    def put_back_target(self, number: int) -> None:
        if self._is_server:
            self._put_back_tables(number)
            return
        for name in _FILE_AND_LOG:
            (self.table.folder / name).unlink(missing_ok=True)
            if (self._folder(number) / name).exists():
                shutil.copy(self._folder(number) / name, self.table.folder)

    def _take(self, number: int) -> None:
        folder = self._folder(number)
        folder.mkdir()
        with closing(open_ledger(self.table.folder / "ledger.db", "test")) as ledger:
            ledger.backup(folder / "ledger")
        if self._is_server:
            self._copy_tables(number)
            return
        # The file and its write-ahead log, while nobody writes: what a file system's snapshot has.
        for name in _FILE_AND_LOG:
            if (self.table.folder / name).exists():
                shutil.copy(self.table.folder / name, folder)

    def _copy_tables(self, number: int) -> None:
        with psycopg.connect(self.table.target) as connection:
            connection.execute(f"CREATE SCHEMA {_schema(number)}".encode())
            for name in _tables(connection, "public"):
                connection.execute(
                    f"CREATE TABLE {_schema(number)}.{name} AS TABLE public.{name}".encode()
                )

    def _put_back_tables(self, number: int) -> None:
        with psycopg.connect(self.table.target) as connection:
            for name in _tables(connection, "public"):
                connection.execute(f"DELETE FROM public.{name}".encode())
            for name in _tables(connection, _schema(number)):
                connection.execute(
                    f"INSERT INTO public.{name} TABLE {_schema(number)}.{name}".encode()
                )

    def _folder(self, number: int) -> Path:
        return self.table.folder / f"moment-{number}"

    @property
    def _is_server(self) -> bool:
        return self.table.target.startswith("postgresql:")


def _schema(number: int) -> str:
    return f"moment_{number}"


def _tables(connection: psycopg.Connection[tuple[str]], schema: str) -> list[str]:
    found = connection.execute(
        "SELECT format('%%I', tablename) FROM pg_tables WHERE schemaname = %s", [schema]
    )
    return [name for (name,) in found]
