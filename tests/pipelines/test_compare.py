"""A record of PostgreSQL in PostgreSQL, compared on both sides."""

from __future__ import annotations

from decimal import Decimal

import psycopg

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.pipelines.compare import Comparison, SideState, compare_record


def test_a_record_of_postgresql_on_both_sides(postgres_url: str, tmp_path: object) -> None:
    shop = Pipeline(
        name="shop",
        source=postgres_url,
        destination=postgres_url,
        streams=[Stream("orders", target="copy.orders", capture="cursor", cursor="seen")],
        ledger=f"{tmp_path}/shop.ledger",
    )

    def look(*key: object) -> Comparison:
        ledger = open_ledger(shop.definition.ledger, "shop")
        try:
            known = ledger.streams.get("orders")
        finally:
            ledger.close()
        return compare_record(shop.definition, RecordId("orders", key), known)  # type: ignore[arg-type]

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE orders (shop text, id numeric(20,0), amount numeric(10,2), "
            "at timestamptz, data jsonb, raw bytea, small smallint, seen bigint, "
            "PRIMARY KEY (shop, id)); "
            "INSERT INTO orders SELECT 'a', n, 1.5, '2024-01-02 03:04:05.6+00', '{\"a\": 1}', "
            "'\\x00ff', 3, n FROM generate_series(1, 4) n"
        )
        assert shop.run().state == "complete"
        same = look("a", Decimal(1))
        assert (same.source.state, same.target.state) == (SideState.THERE, SideState.THERE)
        assert [one.equal for one in same.columns] == [True] * 8
        assert same.different == ()
        assert same.source.version is not None and same.target.version is not None
        assert same.source.version >= same.target.version
        connection.execute("UPDATE orders SET amount = 2, data = '{}', seen = 9 WHERE id = 1")
        connection.execute("DELETE FROM orders WHERE id = 2")
        changed = look("a", Decimal(1))
        assert changed.different == ("amount", "data", "seen")
        assert look("a", Decimal(2)).source.state is SideState.ABSENT
        assert look("a", Decimal(2)).target.state is SideState.THERE
        shop.run()
        assert look("a", Decimal(1)).different == ()
        gone = look("a", Decimal(2))
        assert (gone.source.state, gone.target.state) == (SideState.ABSENT, SideState.DELETED)
        never = look("b", Decimal(1))
        assert (never.source.state, never.target.state) == (SideState.ABSENT, SideState.ABSENT)
        assert never.columns == ()
        connection.execute("DROP TABLE copy.orders")
        assert look("a", Decimal(1)).target.why == "there is no table copy.orders"
        connection.execute("DROP TABLE orders")
        unread = look("a", Decimal(1))
        assert unread.source.state is SideState.UNREAD and "orders" in unread.source.why
