"""DuckDB as a destination: the suite of all destinations, and what only DuckDB has."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Destination, Fence
from rowtrail.connectors.changes import (
    Operation,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.destinations.duckdb_errors import translate
from rowtrail.connectors.destinations.duckdb_file import DuckdbUrl
from rowtrail.connectors.destinations.duckdb_memory import DEFAULT_LIMIT, Memory
from rowtrail.connectors.destinations.duckdb_merge import FEW
from rowtrail.connectors.destinations.duckdb_types import TYPES, duckdb_type, takes
from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    StopError,
    TargetMissingError,
    TransientError,
)
from tests.duckdb_files import look_into, write_into

from .builders import FENCE, delete, load_of, orders, target_of, upsert
from .destination_conformance import DestinationConformance
from .history_conformance import HistoryConformance
from .rules_conformance import RuledWarehouse, RulesConformance

ROOT = Path(__file__).parents[2]


class DuckdbWarehouse(RuledWarehouse):
    obstacle = ("CREATE INDEX odd ON orders (n)", "DROP INDEX odd", "an index depends on it")
    spellings = ("ORDERS", "main.orders", "Main.Orders", "warehouse.orders")

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"
        self.url = f"duckdb:///{self.path}"

    def open(self, fence: Fence | None = FENCE) -> Destination:
        return DuckdbDestination(self.url, fence)

    def table(self, name: str) -> pa.Table:
        quoted = ".".join(f'"{part}"' for part in name.split("."))
        with look_into(self.path) as connection:
            return connection.sql(f"SELECT * FROM {quoted}").to_arrow_table()

    def run(self, sql: str) -> None:
        with write_into(self.path) as connection:
            connection.execute(sql)

    def add_check(self, table: str, condition: str) -> None:
        with write_into(self.path) as connection:
            find = "SELECT sql FROM duckdb_tables() WHERE table_name = ?"
            (made,) = connection.execute(find, [table]).fetchall()[0]
            connection.execute(f"ALTER TABLE {table} RENAME TO before")
            made = made.removesuffix(";").removesuffix(")")
            connection.execute(f"{made}, CHECK ({condition}))")
            connection.execute(f"INSERT INTO {table} SELECT * FROM before; DROP TABLE before")


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckdbWarehouse:
    return DuckdbWarehouse(tmp_path)


class TestDuckdb(DestinationConformance, RulesConformance):
    pass


class TestDuckdbHistory(HistoryConformance):
    pass


# --- which stream fills a table ------------------------------------------------------------------


def test_a_warehouse_that_does_not_say_who_fills_a_table(warehouse: DuckdbWarehouse) -> None:
    """An older version made it: the first that asks has it, with its rows."""
    warehouse.alter(orders())
    warehouse.load(orders(), upsert(1, id=1, note="a"), delete(9, id=2))
    warehouse.run("DROP TABLE _rowtrail_tables")
    assert warehouse.alter(orders()) == []
    assert warehouse.load(orders(), upsert(5, id=2, note="late")) == [True]
    assert warehouse.notes() == {1: "a"}
    with pytest.raises(ConfigurationError, match="stream orders of pipeline shop"):
        warehouse.alter(replace(orders(), stream="lines"))


def test_the_same_name_in_another_schema_is_another_table(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    assert warehouse.alter(replace(orders(table="sales.orders"), stream="lines"))
    with pytest.raises(ConfigurationError, match="stream lines of pipeline shop"):
        warehouse.alter(orders(table="SALES.orders"))


# --- the URL ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("duckdb:///warehouse.duckdb", "warehouse.duckdb"),
        ("duckdb:///out/a%20b.duckdb", "out/a b.duckdb"),
        ("duckdb:////srv/warehouse.duckdb?threads=4&memory_limit=1.5GB", "/srv/warehouse.duckdb"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert DuckdbUrl.parse(url).path == Path(path)


def test_a_url_may_set_memory_and_threads(tmp_path: Path) -> None:
    url = f"duckdb:///{tmp_path}/w.duckdb?memory_limit=64MB&threads=1"
    assert DuckdbUrl.parse(url) == DuckdbUrl(
        path=tmp_path / "w.duckdb", memory_limit="64MB", threads=1
    )
    DuckdbDestination(url, FENCE).close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("duckdb://warehouse.duckdb", "three slashes"),
        ("duckdb:warehouse.duckdb", "three slashes"),
        ("duckdb:///", "names no file"),
        ("duckdb:///:memory:", "names no file"),
        ("duckdb:///w.duckdb?memory=1GB", "no option memory,"),
        ("duckdb:///w.duckdb?memory_limit=lots", "memory_limit=lots"),
        ("duckdb:///w.duckdb?threads=0", "threads=0"),
        ("duckdb:///w.duckdb?threads=", "threads="),
    ],
)
def test_a_wrong_url_shows_a_right_one(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write it like duckdb:///") as caught:
        DuckdbDestination(url, FENCE)
    assert why in str(caught.value)


# --- the file -----------------------------------------------------------------------------------


def make_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.commit()


@pytest.mark.parametrize("fence", [FENCE, None], ids=["writing", "reading"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_sqlite, "not a DuckDB file but an SQLite database"),
        (lambda path: path.write_text("hello" * 5_000), "not a DuckDB file but something else"),
        (lambda path: path.touch(), "not a DuckDB file but empty"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
    ids=["sqlite", "text", "empty", "folder"],
)
def test_a_file_of_another_kind_is_left_alone(
    tmp_path: Path, fence: Fence | None, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "warehouse.duckdb"
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(ConfigurationError, match=message) as caught:
        DuckdbDestination(f"duckdb:///{path}", fence)
    assert str(path) in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"folder .*/none of .* does not exist"):
        DuckdbDestination(f"duckdb:///{tmp_path}/none/warehouse.duckdb", FENCE)


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(TargetMissingError, match="does not exist yet"):
        DuckdbDestination(f"duckdb:///{tmp_path}/warehouse.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_others_can_be_read(warehouse: DuckdbWarehouse) -> None:
    warehouse.run("CREATE TABLE orders AS SELECT 1::BIGINT AS id, 'a' AS note")
    reader = DuckdbDestination(warehouse.url)
    there = reader.describe("orders")
    assert reader.receipts() == []
    reader.close()
    assert there is not None
    assert (there.schema.names, there.schema.key, there.live_rows) == (("id", "note"), (), 1)


def test_who_holds_the_file_is_named(warehouse: DuckdbWarehouse) -> None:
    DuckdbDestination(warehouse.url, FENCE).close()
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open'); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(warehouse.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        for fence in (FENCE, None):
            with pytest.raises(TransientError, match=f"process {holder.pid} holds the file"):
                DuckdbDestination(warehouse.url, fence)
        holder.stdin.close()


def test_reading_while_this_process_writes(warehouse: DuckdbWarehouse) -> None:
    writer = DuckdbDestination(warehouse.url, FENCE)
    with pytest.raises(TransientError, match=r"\(this one\) holds the file"):
        DuckdbDestination(warehouse.url)
    writer.close()


def test_what_holds_data_is_private(warehouse: DuckdbWarehouse) -> None:
    target = orders()
    destination = DuckdbDestination(warehouse.url, FENCE)
    destination.alter(target)
    destination.write(load_of(target, upsert(1, id=1, note="a")))
    modes = {path.name: path.stat().st_mode & 0o777 for path in warehouse.path.parent.iterdir()}
    assert modes == {
        "warehouse.duckdb": 0o600,
        "warehouse.duckdb.wal": 0o600,
        "warehouse.duckdb.tmp": 0o700,
    }
    destination.close()
    assert [path.name for path in warehouse.path.parent.iterdir()] == ["warehouse.duckdb"]


def test_the_log_stays_private_after_a_checkpoint(warehouse: DuckdbWarehouse) -> None:
    target = orders()
    destination = DuckdbDestination(warehouse.url, FENCE)
    destination.alter(target)
    destination._connection.execute("CHECKPOINT")
    log = Path(f"{warehouse.path}.wal")
    assert not log.exists()
    destination.write(load_of(target, upsert(1, id=1, note="a")))
    assert log.stat().st_size > 0
    assert log.stat().st_mode & 0o777 == 0o600
    destination.close()


def test_what_was_committed_outlives_a_crash(warehouse: DuckdbWarehouse) -> None:
    code = """
import os, sys
from rowtrail.connectors.changes import (
    Operation,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from tests.connectors.builders import FENCE, load_of, orders, upsert
destination = DuckdbDestination(sys.argv[1], FENCE)
destination.alter(orders())
destination.write(load_of(orders(), upsert(1, id=1, note="a")))
destination.write(load_of(orders(), upsert(1, id=2, note="b")), probe=True)
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code, warehouse.url], cwd=ROOT, check=False)
    assert Path(f"{warehouse.path}.wal").stat().st_size > 0
    assert warehouse.keys(orders()) == [(1, True)]


def test_an_older_file_beside_a_newer_log(warehouse: DuckdbWarehouse, tmp_path: Path) -> None:
    """Somebody put the back-up of the file in place and left the log of the newer one there."""
    target = orders()
    warehouse.alter(target)
    backup = warehouse.path.read_bytes()
    warehouse.load(target, upsert(1, id=1, note="a"))
    destination = DuckdbDestination(warehouse.url, FENCE)
    destination.write(load_of(target, upsert(1, id=2, note="b")))
    log = Path(f"{warehouse.path}.wal").read_bytes()
    destination.close()
    warehouse.path.write_bytes(backup)
    Path(f"{warehouse.path}.wal").write_bytes(log)
    with pytest.raises(StopError, match=r"older copy of the file was put back.*Move the log away"):
        DuckdbDestination(warehouse.url, FENCE)


def test_a_full_disk_stops_the_run(warehouse: DuckdbWarehouse) -> None:
    """A limit on the size of files stands in for the disk: DuckDB gets its error from a write."""
    target = orders()
    warehouse.alter(target)
    warehouse.load(target, upsert(1, id=1, note="a"))
    code = """
import resource, signal, sys
from rowtrail.connectors.changes import (
    Operation,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.destinations.duckdb import DuckdbDestination
from rowtrail.connectors.errors import StopError
from tests.connectors.builders import FENCE, load_of, orders, receipt_of, upsert
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
destination = DuckdbDestination(sys.argv[1], FENCE)
rows = [upsert(1, id=i, note=f"{i:>1000}") for i in range(2, 5_000)]
try:
    destination.write(load_of(orders(), *rows, receipt=receipt_of(sequence=2)))
except StopError as error:
    print(error)
destination.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, warehouse.url],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "the disk is full" in ran.stdout
    assert "Traceback" not in ran.stderr
    assert warehouse.notes() == {1: "a"}
    assert warehouse.load(target, upsert(2, id=1, note="b")) == [False]


def test_too_little_memory_names_the_option(warehouse: DuckdbWarehouse) -> None:
    target = orders()
    destination = DuckdbDestination(f"{warehouse.url}?memory_limit=4MB&threads=1", FENCE)
    rows = [upsert(1, id=i, note=f"{i:>1000}") for i in range(20_000)]
    with pytest.raises(StopError, match="memory_limit"):
        destination.alter(target)
        destination.write(load_of(target, *rows))
    destination.close()


# --- what is told of DuckDB's own errors ---------------------------------------------------------


def test_a_table_that_is_gone_is_said_to_be(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.run("DROP TABLE orders")
    with pytest.raises(ConfigurationError, match=r"Table orders .* is gone"):
        warehouse.load(orders(), upsert(1, id=1, note="a"))
    assert len(warehouse.alter(orders())) == 2


def test_a_dropped_table_is_still_fenced_by_its_tombstones(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.load(orders(), delete(5, id=1))
    warehouse.run("DROP TABLE orders")
    warehouse.alter(orders())
    assert warehouse.load(orders(), upsert(4, id=1, note="late")) == [True]


def test_a_view_is_not_taken_for_a_table(warehouse: DuckdbWarehouse) -> None:
    warehouse.run("CREATE VIEW orders AS SELECT 1::BIGINT AS id, 'a' AS note")
    with pytest.raises(ConfigurationError, match="not made by Rowtrail"):
        warehouse.alter(orders())


def test_a_missing_table_is_not_looked_for_among_variables(warehouse: DuckdbWarehouse) -> None:
    destination = DuckdbDestination(warehouse.url, FENCE)
    for name in ("table", "connection", "name", "pa", "duckdb"):
        assert destination.describe(name) is None
    destination.close()


def test_columns_that_differ_only_by_case_are_refused(warehouse: DuckdbWarehouse) -> None:
    both = target_of({"id": pa.int64(), "Note": pa.string(), "nOTE": pa.string()})
    with pytest.raises(ConfigurationError, match="Columns Note and nOTE of stream orders"):
        warehouse.alter(both)
    # Letters beyond ASCII do differ by case.
    other = target_of({"id": pa.int64(), "É": pa.string(), "é": pa.string()})
    warehouse.alter(other)
    warehouse.load(other, upsert(1, id=1, É="upper", é="lower"))
    assert (warehouse.rows()[1]["É"], warehouse.rows()[1]["é"]) == ("upper", "lower")


@pytest.mark.parametrize(
    ("existing", "wanted", "value"),
    [
        (pa.timestamp("s"), pa.timestamp("us"), datetime(2024, 1, 31, 10)),
        (pa.timestamp("ms"), pa.timestamp("us"), datetime(1969, 12, 31, 23, 59, 59, 999_000)),
        (pa.time64("us"), pa.time64("ns"), time(23, 59, 59, 999_999)),
        (pa.uint32(), pa.int64(), 2**32 - 1),
    ],
    ids=str,
)
def test_finer_times_and_numbers_with_a_sign(
    warehouse: DuckdbWarehouse, existing: pa.DataType, wanted: pa.DataType, value: object
) -> None:
    narrow = target_of({"id": pa.int64(), "n": existing})
    wide = target_of({"id": pa.int64(), "n": wanted})
    warehouse.alter(narrow)
    warehouse.load(narrow, upsert(1, id=1, n=value))
    assert len(warehouse.alter(wide)) == 1
    warehouse.load(wide, upsert(1, id=2, n=value))
    rows = warehouse.rows()
    assert rows[1]["n"] == rows[2]["n"] == value


@pytest.mark.parametrize(
    ("existing", "wanted"),
    [(pa.int64(), pa.uint64()), (pa.timestamp("us"), pa.timestamp("ns"))],
    ids=str,
)
def test_a_type_with_another_range_is_not_widened_to(
    warehouse: DuckdbWarehouse, existing: pa.DataType, wanted: pa.DataType
) -> None:
    warehouse.alter(target_of({"id": pa.int64(), "n": existing}))
    with pytest.raises(ConfigurationError, match="Column n of table orders is"):
        warehouse.alter(target_of({"id": pa.int64(), "n": wanted}))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("INTEGER CHECK (n > 0)", "CHECK constraint"),
        ("INTEGER UNIQUE", "UNIQUE"),
        ("INTEGER, m INTEGER GENERATED ALWAYS AS (n + 1)", 'generated column "m"'),
    ],
)
def test_what_duckdb_does_not_widen(warehouse: DuckdbWarehouse, declared: str, words: str) -> None:
    """Of a column that a user of the target has made so."""
    versions = ", ".join(f"_rowtrail_{part} BIGINT NOT NULL" for part in Version._fields)
    warehouse.run(f"CREATE TABLE orders (id BIGINT NOT NULL, n {declared}, {versions})")
    with pytest.raises(ConfigurationError, match=words):
        warehouse.alter(target_of({"id": pa.int64(), "n": pa.int64()}))


def test_a_key_is_widened_where_only_tombstones_are_left(warehouse: DuckdbWarehouse) -> None:
    narrow = target_of({"id": pa.int32(), "note": pa.string()})
    wide = target_of({"id": pa.int64(), "note": pa.string()})
    warehouse.alter(narrow)
    warehouse.load(narrow, upsert(1, id=1, note="a"), delete(5, id=2))
    warehouse.run("DROP TABLE orders")
    warehouse.alter(wide)
    assert warehouse.alter(wide) == []
    assert warehouse.load(wide, upsert(4, id=2, note="late")) == [True]
    warehouse.load(wide, delete(5, id=2**40))


@pytest.mark.parametrize("key", [("id",), ("note",), ("note", "id")])
def test_tombstones_of_another_key_that_a_dropped_table_has_left(
    warehouse: DuckdbWarehouse, key: tuple[str, ...]
) -> None:
    warehouse.alter(target_of({"id": pa.int32(), "note": pa.string()}))
    warehouse.run("DROP TABLE orders")
    other = target_of({"id": pa.string(), "note": pa.string()}, key=key)
    warehouse.alter(other)
    assert warehouse.alter(other) == []
    warehouse.load(other, upsert(1, id="a", note="b"))
    row = {"id": "a", "note": "b"}
    warehouse.load(other, delete(2, **{name: row[name] for name in key}))
    assert warehouse.load(other, upsert(1, **row)) == [True]


def test_a_column_may_change_its_case(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.load(orders(), upsert(1, id=1, note="a"))
    renamed = target_of({"ID": pa.int64(), "NOTE": pa.string()}, key=("ID",))
    assert warehouse.alter(renamed) == []
    warehouse.load(renamed, upsert(2, ID=1, NOTE="b"))
    assert warehouse.notes() == {1: "b"}
    assert warehouse.keys(renamed) == [(1, True)]


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (pa.date32(), [2**31 - 1, -(2**31) + 1, -(2**31)]),
        (pa.timestamp("us"), [2**63 - 1, -(2**63) + 1, -(2**63)]),
        (pa.timestamp("us", tz="UTC"), [2**63 - 1, -(2**63) + 1]),
        (pa.timestamp("s"), [2**62, -(2**62)]),
        (pa.timestamp("ns"), [2**63 - 1, -(2**63)]),
    ],
    ids=str,
)
def test_a_time_that_duckdb_would_change_is_refused(
    warehouse: DuckdbWarehouse, kind: pa.DataType, numbers: list[int]
) -> None:
    """The outermost numbers are DuckDB's infinities, or make it fail for good."""
    target = target_of({"id": pa.int64(), "at": kind})
    warehouse.alter(target)
    for number in numbers:
        load = load_of(target, upsert(1, id=1, at=None), upsert(1, id=2, at=None))
        width = pa.int32() if kind == pa.date32() else pa.int64()
        column = pa.array([0, number], width).view(kind)
        rows = pa.RecordBatch.from_arrays([load.rows["id"], column], schema=load.rows.schema)
        with pytest.raises(RecordError, match="Column at of table orders") as caught:
            warehouse.write(replace(load, rows=rows))
        assert caught.value.column == "at"
    assert warehouse.rows() == {}


def test_text_that_is_no_text_is_the_records_fault(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    load = load_of(orders(), upsert(1, id=1, note="ab"))
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    rows = pa.RecordBatch.from_arrays([load.rows["id"], broken], schema=load.rows.schema)
    with pytest.raises(RecordError, match="does not fit its column"):
        warehouse.write(replace(load, rows=rows))
    assert warehouse.rows() == {}


def test_a_value_that_does_not_fit_a_column_changed_by_hand(warehouse: DuckdbWarehouse) -> None:
    warehouse.alter(orders())
    warehouse.run("ALTER TABLE orders ALTER COLUMN note TYPE INTEGER")
    with pytest.raises(RecordError) as caught:
        warehouse.load(orders(), upsert(1, id=1, note="secret word"))
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "family", "column"),
    [
        (duckdb.ConstraintException("Constraint Error: NOT NULL constraint failed: t.a"), 1, "a"),
        (duckdb.ConstraintException('Constraint Error: Duplicate key "e: s@x" violates'), 1, "e"),
        (duckdb.OutOfRangeException("Out of Range Error: value 7 too big"), 1, None),
        (duckdb.OutOfMemoryException("Out of Memory Error: could not"), 2, None),
        (duckdb.IOException("IO Error: write: No space left on device"), 2, None),
        (duckdb.InternalException("INTERNAL Error: oh"), 2, None),
        (duckdb.FatalException("FATAL Error: database has been invalidated"), 2, None),
        (duckdb.TransactionException("TransactionContext Error: Conflict on update!"), 3, None),
    ],
)
def test_families(error: duckdb.Error, family: int, column: str | None) -> None:
    families = {1: RecordError, 2: StopError, 3: TransientError}
    found = translate(error, "write", record=True)
    assert type(found) is families[family]
    assert "s@x" not in str(found)
    if isinstance(found, RecordError):
        assert found.column == column
        # Where no record is at hand, a value at fault is Rowtrail's own.
        assert type(translate(error, "open", record=False)) is StopError


# --- memory and keys -----------------------------------------------------------------------------


def test_room_is_made_for_scattered_deletes(warehouse: DuckdbWarehouse) -> None:
    with duckdb.connect(warehouse.path) as connection:
        memory = Memory(connection, automatic=True)

        def limit() -> int:
            return memory._limit

        memory.reserve(np.array([0, 1, 2_047], dtype=np.int64))
        one = limit() - DEFAULT_LIMIT
        assert one > 0
        memory.reserve(np.arange(10, dtype=np.int64) * 5_000 + 100_000)
        assert limit() - DEFAULT_LIMIT == 11 * one
        ((setting,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
        assert setting.endswith("MiB")
        memory.rolled_back()
        assert limit() == DEFAULT_LIMIT
        memory.reserve(np.array([5], dtype=np.int64))
        memory.committed()
        assert limit() == DEFAULT_LIMIT + one
        memory.reserve(np.arange(100_000_000 // one, dtype=np.int64) * 2_048)
        memory.committed()  # so much is pinned that a checkpoint follows
        assert limit() == DEFAULT_LIMIT
        memory.fit(100)
        wide = limit()
        assert wide > DEFAULT_LIMIT
        memory.fit(10)
        memory.rolled_back()
        assert limit() == wide


def test_a_table_of_many_columns(warehouse: DuckdbWarehouse) -> None:
    """Each takes some memory of its own while rows are appended, beyond what small tables need."""
    names = [f"column_{i}" for i in range(300)]
    target = target_of({"id": pa.int64()} | dict.fromkeys(names, pa.float64()))
    rows = 20_000
    load = load_of(target)
    columns = [pa.array(range(rows), pa.int64()), *[pa.array(np.arange(rows) * 0.1)] * len(names)]
    batch = replace(
        load,
        rows=pa.RecordBatch.from_arrays(columns, schema=load.rows.schema),
        operations=constant_operations(Operation.INSERT, rows),
        filtered=pa.repeat(pa.scalar(False), rows),
        versions=constant_versions(Version(1, 1, 0, 0), rows),
    )
    warehouse.alter(target)
    assert not any(warehouse.write(batch))
    assert warehouse.table("orders").num_rows == rows


def test_a_limit_set_by_a_person_is_kept(warehouse: DuckdbWarehouse) -> None:
    with duckdb.connect(warehouse.path, config={"memory_limit": "100MB"}) as connection:
        ask = "SELECT current_setting('memory_limit')"
        before = connection.execute(ask).fetchall()
        memory = Memory(connection, automatic=False)
        memory.fit(1_000)
        memory.reserve(np.arange(10_000, dtype=np.int64) * 2_048)
        memory.committed()
        assert connection.execute(ask).fetchall() == before


def test_a_hash_is_kept_where_the_key_is_text(warehouse: DuckdbWarehouse) -> None:
    target = target_of({"id": pa.string()})
    warehouse.alter(target)
    many = [upsert(1, id=f"order {i}") for i in range(FEW + 1)]
    assert warehouse.load(target, *many) == [False] * len(many)
    assert warehouse.load(target, *many[:FEW]) == [True] * FEW
    assert warehouse.load(target, *many) == [True] * len(many)
    hashes = warehouse.table("orders")["_rowtrail_key_hash"]
    assert hashes.type == pa.uint64()
    assert len(set(hashes.to_pylist())) == len(many)
    warehouse.alter(orders(table="numbers"))
    assert "_rowtrail_key_hash" not in warehouse.table("numbers").schema.names


def test_tables_of_a_newer_rowtrail_are_refused(warehouse: DuckdbWarehouse) -> None:
    DuckdbDestination(warehouse.url, FENCE).close()
    warehouse.run("UPDATE _rowtrail_owner SET format = 99")
    with pytest.raises(ConfigurationError, match="pip install --upgrade rowtrail"):
        DuckdbDestination(warehouse.url, FENCE)


@pytest.mark.parametrize(
    ("arrow", "name"), [*TYPES, (pa.decimal128(38, 5), "DECIMAL(38,5)")], ids=str
)
def test_the_tables_of_types_are_true(arrow: pa.DataType, name: str) -> None:
    """DuckDB itself calls each type as the table does."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t (a {name})")
        assert str(connection.sql("SELECT * FROM t").types[0]) == name
    assert takes(name, name)
    assert duckdb_type(arrow) == name
