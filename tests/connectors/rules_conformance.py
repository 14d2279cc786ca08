"""What every destination must do whose tables can have rules for their rows. It is run beside
`DestinationConformance`, in the same way."""

from __future__ import annotations

from abc import abstractmethod

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Load, TellsRefused
from rowtrail.connectors.errors import ConfigurationError, RecordError

from .builders import Row, delete, gap_of, load_of, orders, target_of, upsert
from .destination_conformance import Warehouse, receipts_of


class RuledWarehouse(Warehouse):
    """One whose tables can have rules for their rows, and things that depend on their columns."""

    obstacle: tuple[str, str, str]
    """What keeps column `n` of table `orders` from being widened, how it goes, words about it."""

    @abstractmethod
    def add_check(self, table: str, condition: str) -> None:
        """Puts a CHECK constraint on a table that Rowtrail made."""

    def refused(self, load: Load) -> list[int]:
        """What the destination says of the load; only of one that can tell."""
        destination = self.open()
        try:
            assert isinstance(destination, TellsRefused)
            return list(destination.refused(load))
        finally:
            destination.close()


class RulesConformance:
    """The tests. Rules are CHECK, NOT NULL and unique values; objects may depend on a column."""

    def test_what_is_in_the_way_of_widening(self, warehouse: RuledWarehouse) -> None:
        """The database's words, and nothing is changed; without it the column is widened."""
        narrow = target_of({"id": pa.int64(), "n": pa.int32(), "m": pa.int32()})
        wide = target_of({"id": pa.int64(), "n": pa.int64(), "m": pa.int64(), "o": pa.int32()})
        warehouse.alter(narrow)
        warehouse.load(narrow, upsert(1, id=1, n=5, m=6))
        before = warehouse.table("orders").schema
        warehouse.run(warehouse.obstacle[0])
        plan = warehouse.plan(wide)
        with pytest.raises(ConfigurationError, match="Table orders, which stream orders") as caught:
            warehouse.alter(wide)
        told = str(caught.value)
        assert warehouse.obstacle[2] in told and "Take away what depends on it" in told
        assert any(told.endswith(statement) for statement in plan)
        assert warehouse.table("orders").schema == before
        warehouse.load(narrow, upsert(2, id=1, n=7, m=6))
        warehouse.run(warehouse.obstacle[1])
        assert warehouse.alter(wide) == plan
        warehouse.load(wide, upsert(3, id=2, n=2**40, m=1, o=2))
        rows = warehouse.rows()
        assert [(rows[i]["n"], rows[i]["m"]) for i in (1, 2)] == [(7, 6), (2**40, 1)]

    def test_a_row_that_breaks_a_check_leaves_nothing_behind(
        self, warehouse: RuledWarehouse
    ) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(1, id=1, note="good"))
        warehouse.add_check("orders", "note <> 'bad'")
        before = receipts_of(warehouse)
        rows = [upsert(2, id=1, note="better"), upsert(2, id=2, note="bad")]
        destination = warehouse.open()
        try:
            with pytest.raises(RecordError):
                destination.write(load_of(target, *rows, gaps_opened=[gap_of("orders:2")]))
            assert destination.write(load_of(target, rows[0]), probe=True).to_pylist() == [False]
        finally:
            destination.close()
        assert warehouse.notes() == {1: "good"}
        assert receipts_of(warehouse) == before
        assert warehouse.table("_rowtrail_gaps").num_rows == 0
        assert warehouse.load(target, rows[0]) == [False]

    def test_rows_that_a_rule_refuses_are_told_all_at_once(self, warehouse: RuledWarehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.add_check("orders", "note <> 'bad'")
        warehouse.run("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
        warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
        there = [upsert(1, id=1, note="stays"), upsert(1, id=2, note="goes")]
        warehouse.load(target, *there, upsert(1, id=3, note="changes"))
        before = warehouse.rows()
        rows = [
            upsert(2, id=10, note="fine"),
            upsert(2, id=11, note="bad"),
            upsert(2, id=12, note=None),
            upsert(2, id=13, note="stays"),
            upsert(2, id=14, note="twice"),
            upsert(2, id=15, note="twice"),  # of these two nobody can say which is at fault
            upsert(2, id=16, note="goes"),
            delete(2, id=2),  # has no values that a rule could look at
            upsert(2, id=17, note="changes"),
            upsert(2, id=3, note="changed"),
        ]
        assert warehouse.refused(load_of(target, *rows)) == [1, 2, 3]
        assert warehouse.refused(load_of(target, delete(2, id=1), delete(2, id=9))) == []
        assert warehouse.rows() == before

    def test_a_rule_that_cannot_be_looked_at_is_passed_over(
        self, warehouse: RuledWarehouse
    ) -> None:
        """It is about a column that no stream brings, or fails by itself."""
        target = orders()
        warehouse.alter(target)
        warehouse.run("ALTER TABLE orders ADD COLUMN size integer")
        for condition in ("size > id", "CAST(note AS integer) > 0", "id < 100"):
            warehouse.add_check("orders", condition)
        load = load_of(target, upsert(1, id=1, note="word"), upsert(1, id=100, note="word"))
        assert warehouse.refused(load) == [1]

    def test_a_rule_over_expressions_and_odd_names(self, warehouse: RuledWarehouse) -> None:
        target = target_of({"the id": pa.int64(), 'a "b"': pa.string()}, key=["the id"])
        warehouse.alter(target)
        warehouse.add_check("orders", '"the id" <> 7')
        warehouse.run("""CREATE UNIQUE INDEX pairs ON orders ("a ""b""\", (abs("the id")))""")

        def row(number: int, text: str | None) -> Row:
            return upsert(1, **{"the id": number, 'a "b"': text})

        warehouse.load(target, row(1, "a"), row(2, "b"), row(3, None))
        rows = [row(-1, "a"), row(-2, "a"), row(-3, None), row(7, "c"), row(2, "b")]
        assert warehouse.refused(load_of(target, *rows)) == [0, 3]

    def test_what_the_table_has_already_may_be_told_and_is_not_refused(
        self, warehouse: RuledWarehouse
    ) -> None:
        """Only a write knows the fence."""
        target = orders()
        warehouse.alter(target)
        warehouse.load(target, upsert(5, id=1, note="good"))
        warehouse.add_check("orders", "note <> 'bad'")
        load = load_of(target, upsert(4, id=1, note="bad"))
        assert warehouse.refused(load) == [0]
        assert warehouse.write(load) == [True]

    def test_rows_that_collide_only_together(self, warehouse: RuledWarehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
        rows = [upsert(1, id=1, note="secret"), upsert(1, id=2, note="secret")]
        for row in rows:
            assert warehouse.write(load_of(target, row), probe=True) == [False]
        with pytest.raises(RecordError) as caught:
            warehouse.load(target, *rows)
        assert "secret" not in str(caught.value)
        assert warehouse.rows() == {}

    def test_rows_may_swap_unique_values(self, warehouse: RuledWarehouse) -> None:
        target = orders()
        warehouse.alter(target)
        warehouse.run("CREATE UNIQUE INDEX one_note ON orders (note)")
        warehouse.load(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
        assert warehouse.load(target, upsert(2, id=1, note="b"), upsert(2, id=2, note="a")) == [
            False,
            False,
        ]
        assert warehouse.notes() == {1: "b", 2: "a"}
