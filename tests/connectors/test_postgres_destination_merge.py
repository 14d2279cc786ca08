"""What a merge into PostgreSQL does beside other people's rules, columns and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Deletes, Load
from rowtrail.connectors.destinations import postgres_merge
from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    RowtrailError,
    StopError,
)

from .builders import NOW, delete, dropped, load_of, orders, receipt_of, target_of, upsert
from .destination_conformance import BOTH
from .postgres_warehouse import PostgresWarehouse


@pytest.fixture
def warehouse(postgres_url: str) -> PostgresWarehouse:
    return PostgresWarehouse(postgres_url)


# --- straight into the table, or through the staging table ---------------------------------------


@pytest.fixture
def appended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the loads that went straight into their table."""
    lengths: list[int] = []
    append = postgres_merge.append

    def watched(work: object, table: object, load: Load) -> None:
        lengths.append(len(load.rows))
        append(work, table, load)  # type: ignore[arg-type]

    monkeypatch.setattr(postgres_merge, "append", watched)
    return lengths


def test_new_keys_beyond_the_old_ones_go_straight_in(
    warehouse: PostgresWarehouse, appended: list[int]
) -> None:
    target = target_of({"a": pa.int64(), "b": pa.string(), "n": pa.int32()}, key=("a", "b"))
    warehouse.alter(target)
    parts = [[(1, "x"), (1, "y")], [(1, "z"), (2, "")], [(0, "z")], [(2, "a"), (1, "zz")]]
    for part in parts:
        warehouse.load(target, *(upsert(1, a=a, b=b, n=1) for a, b in part))
    assert appended == [2, 2, 1]
    keys = [(a, b, True) for part in parts for a, b in part]
    assert warehouse.keys(target) == sorted(keys)
    assert warehouse.load(target, *(upsert(1, a=a, b=b, n=2) for a, b, _ in keys)) == [True] * 7


@BOTH
def test_a_tombstone_or_a_row_in_between_is_looked_at(
    warehouse: PostgresWarehouse, appended: list[int], deletes: Deletes
) -> None:
    target = orders(deletes)
    warehouse.alter(target)
    warehouse.load(target, delete(9, id=5))
    assert warehouse.load(target, upsert(1, id=4), upsert(1, id=5), upsert(1, id=6)) == [
        False,
        True,
        False,
    ]
    assert warehouse.load(target, upsert(1, id=7), upsert(1, id=8)) == [False, False]
    assert appended == [2]
    assert warehouse.load(target, upsert(1, id=3), upsert(1, id=9)) == [False, False]
    assert appended == [2]


def test_a_wider_column_takes_no_bytes_of_a_narrower_one(
    warehouse: PostgresWarehouse, appended: list[int]
) -> None:
    warehouse.alter(target_of({"id": pa.int64(), "n": pa.decimal128(20, 4)}))
    narrow = target_of({"id": pa.int16(), "n": pa.int32()})
    for at in (1, 2):
        warehouse.load(narrow, upsert(at, id=1, n=at), upsert(at, id=2, n=-1))
    assert appended == []
    assert [row["n"] for row in warehouse.rows().values()] == [2, -1]


@pytest.mark.parametrize("staged", [False, True])
def test_one_key_among_many_reads_only_its_row(warehouse: PostgresWarehouse, staged: bool) -> None:
    """What a replay costs does not grow with the table."""
    warehouse.alter(orders())
    rows = [upsert(1, id=i, note=f"note {i}") for i in range(20_000)]
    warehouse.load(orders(), *rows, upsert(1, id=-2))
    if staged:
        warehouse.load(orders(), delete(2, id=-1), dropped(2, id=-2))

    def rows_read() -> int:
        """By reading a table from its start; the server counts it when a session ends."""
        ((read,),) = warehouse.query(
            "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname ~ 'orders'"
        )
        return int(read)

    before = rows_read()
    warehouse.load(orders(), upsert(3, id=7, note="mended"))
    warehouse.load(orders(), delete(3, id=8), upsert(3, id=30_000))
    assert rows_read() - before <= 10
    assert warehouse.notes()[7] == "mended"


# --- other people's columns, indexes, keys and rules ---------------------------------------------


def own_columns(warehouse: PostgresWarehouse, deletes: Deletes = Deletes.HARD) -> None:
    warehouse.alter(orders(deletes))
    warehouse.run("ALTER TABLE orders ADD COLUMN tag text DEFAULT 'new'")
    warehouse.run(
        "ALTER TABLE orders ADD COLUMN loud text GENERATED ALWAYS AS (upper(note)) STORED"
    )
    warehouse.load(orders(deletes), *(upsert(1, id=i, note=n) for i, n in enumerate("abc")))
    warehouse.run("UPDATE orders SET tag = 'mine ' || id")


@BOTH
@pytest.mark.parametrize("swap", [False, True])
def test_columns_of_others_keep_what_they_hold(
    warehouse: PostgresWarehouse, deletes: Deletes, swap: bool
) -> None:
    own_columns(warehouse, deletes)
    warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
    notes = ("b", "a") if swap else ("x", "y")
    rows = [upsert(2, id=i, note=note) for i, note in enumerate(notes)]
    warehouse.load(orders(deletes), *rows, upsert(2, id=7, note="new"), delete(2, id=2))
    found = {row["id"]: (row["tag"], row["loud"]) for row in warehouse.table("orders").to_pylist()}
    wanted = {0: ("mine 0", notes[0].upper()), 1: ("mine 1", notes[1].upper()), 7: ("new", "NEW")}
    if deletes is Deletes.SOFT:
        wanted[2] = ("mine 2", "C")
    assert found == wanted


def test_a_value_moves_from_a_row_that_goes_to_one_that_comes(warehouse: PostgresWarehouse) -> None:
    target = orders()
    warehouse.alter(target)
    warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
    warehouse.load(target, upsert(1, id=5, note="a"), upsert(1, id=6, note="b"))
    rows = [upsert(2, id=1, note="a"), upsert(2, id=2, note="b")]
    changes = [delete(2, id=5), upsert(2, id=6, note="c")]
    assert warehouse.load(target, *rows, *changes) == [False] * 4
    assert warehouse.notes() == {1: "a", 2: "b", 6: "c"}


def test_values_that_are_checked_at_the_end_may_swap(warehouse: PostgresWarehouse) -> None:
    """And those that may not are found by a probe, which never comes to its commit."""
    target = orders()
    warehouse.alter(target)
    warehouse.run("ALTER TABLE orders ADD UNIQUE (note) DEFERRABLE INITIALLY DEFERRED")
    warehouse.load(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
    warehouse.load(target, upsert(2, id=1, note="b"), upsert(2, id=2, note="a"))
    assert warehouse.notes() == {1: "b", 2: "a"}
    for probe in (True, False):
        with pytest.raises(RecordError, match="unique constraint"):
            warehouse.write(load_of(target, upsert(3, id=3, note="a")), probe=probe)


def test_what_foreign_keys_point_at_is_not_deleted_to_come_back(
    warehouse: PostgresWarehouse,
) -> None:
    target = orders()
    warehouse.alter(target)
    warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
    warehouse.run("CREATE TABLE lines (id bigint REFERENCES orders ON DELETE CASCADE, what text)")
    warehouse.load(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
    warehouse.run("INSERT INTO lines VALUES (1, 'x'), (2, 'y')")
    with pytest.raises(RecordError, match="one_note"):
        warehouse.load(target, upsert(2, id=1, note="b"), upsert(2, id=2, note="a"))
    warehouse.load(target, upsert(2, id=1, note="c"))
    assert warehouse.query("SELECT id FROM lines ORDER BY id") == [(1,), (2,)]
    assert warehouse.notes() == {1: "c", 2: "b"}


Act = Callable[[PostgresWarehouse], object]
RAISE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.note = 'secret' THEN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = 'no'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
@pytest.mark.parametrize(
    ("rule", "family", "column"),
    [
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (note <> 'secret')", RecordError, None),
        ("ALTER TABLE orders ALTER note TYPE varchar(5)", RecordError, None),
        ("ALTER TABLE orders ADD UNIQUE (note)", RecordError, None),
        ("ALTER TABLE orders ADD COLUMN size int NOT NULL GENERATED ALWAYS AS "
         "(CASE WHEN note = 'secret' THEN NULL ELSE 1 END) STORED", RecordError, "size"),
        ("CREATE TABLE names (n text PRIMARY KEY); INSERT INTO names VALUES ('fine'), ('good'); "
         "ALTER TABLE orders ADD FOREIGN KEY (note) REFERENCES names", RecordError, None),
        (RAISE % "22000", RecordError, None),
        (RAISE % "P0001", StopError, None),
        ("ALTER TABLE orders ALTER note TYPE jsonb USING to_jsonb(note)", ConfigurationError, None),
    ],
    ids=["check", "length", "unique", "not null", "foreign key", "data", "raise", "type"],
)  # fmt: skip
def test_whose_fault_a_broken_rule_is(
    warehouse: PostgresWarehouse,
    rule: str,
    family: type[RowtrailError],
    column: str | None,
    known: bool,
) -> None:
    warehouse.alter(orders())
    warehouse.load(orders(), upsert(1, id=1, note="fine"), *([upsert(1, id=3)] if known else []))
    if "UNIQUE" in rule:
        warehouse.load(orders(), upsert(1, id=0, note="secret"))
    warehouse.run(rule)
    for probe in (True, False):
        with pytest.raises(family) as caught:
            warehouse.write(load_of(orders(), upsert(2, id=3, note="secret")), probe=probe)
        assert "write to table orders" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert getattr(caught.value, "column", None) == column
    if family is RecordError:
        assert warehouse.load(orders(), upsert(2, id=1, note="good")) == [False]


def test_a_key_too_large_for_an_index(warehouse: PostgresWarehouse) -> None:
    target = target_of({"id": pa.string(), "note": pa.string()})
    warehouse.alter(target)
    long = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(3_000))  # hardly compresses
    for row in (upsert(1, id=long), delete(1, id=long)):
        with pytest.raises(RecordError, match="index row"):
            warehouse.load(target, upsert(1, id="a"), row)
    assert warehouse.load(target, upsert(1, id="a")) == [False]


# --- what a batch leaves behind ------------------------------------------------------------------


def test_many_batches_leave_no_trace_in_the_catalogues(warehouse: PostgresWarehouse) -> None:
    destination = warehouse.open()
    try:
        destination.alter(orders())
        counts = []
        for at in range(1, 8):
            rows = [upsert(at, id=1), delete(at, id=2)]
            destination.write(load_of(orders(), *rows), probe=True)
            destination.write(load_of(orders(), *rows))
            counts.append(warehouse.query("SELECT count(*), max(oid::bigint) FROM pg_class"))
        assert len({tuple(count) for count in counts[1:]}) == 1
        held = warehouse.query(
            "SELECT sum(pg_relation_size(oid)) FROM pg_class "
            "WHERE relpersistence = 't' AND relkind = 'r'"
        )
        assert held == [(0,)]
    finally:
        destination.close()


def test_the_staging_table_follows_the_columns(warehouse: PostgresWarehouse) -> None:
    destination = warehouse.open()
    try:
        destination.alter(orders())
        destination.write(load_of(orders(), delete(1, id=1)))
        wider = target_of({"id": pa.int64(), "note": pa.string(), "size": pa.int32()})
        destination.alter(wider)
        destination.write(load_of(wider, delete(2, id=1), upsert(2, id=2, size=5)))
        soft = replace(wider, deletes=Deletes.SOFT)
        destination.alter(soft)
        later = replace(receipt_of(), written_at=NOW + timedelta(days=1))
        destination.write(load_of(soft, delete(3, id=2), receipt=later))
    finally:
        destination.close()
    (row,) = warehouse.table("orders").to_pylist()
    assert (row["id"], row["size"], row["_rowtrail_deleted_at"]) == (2, 5, later.written_at)
