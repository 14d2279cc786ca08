"""What happens to the orders between two runs, the same in each round but to other rows.

`number` tells one round from the next: each deletes rows that are still there. 30 rounds are safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg

# Ids that no round deletes are updated; the rows that were inserted are left alone.
_INCREMENT = (
    """
    UPDATE orders SET status = 'changed', quantity = quantity + 1, updated_at = now()
    WHERE id % 100 = {number} % 30 AND id <= {rows}
    """,
    "DELETE FROM orders WHERE id % 200 = 50 + {number} AND id <= {rows}",
    """
    INSERT INTO orders
    SELECT {rows} + 1 + {number} * ({rows} / 100) + n, customer_id, quantity, total, weight,
        'new', note, ordered_on, now()
    FROM generate_series(0, {rows} / 100 - 1) AS n
    JOIN orders ON id = {rows} - n * 100
    """,
)

# Blocks of 100 ids in an order that jumps about, as customers do.
_TRAFFIC = """
DO $$
DECLARE
    first bigint;
BEGIN
    FOR block IN 0 .. {blocks} - 1 LOOP
        first := block * 7919 % {blocks} * 100;
        UPDATE orders SET status = 'changed', quantity = quantity + 1, updated_at = now()
        WHERE id BETWEEN first + 1 AND first + 14;
        INSERT INTO orders
        SELECT {rows} + ({number} * {blocks} + block) * 4 + n, n * 7919, n, n * 10.47, n / 9.97,
            'new', 'please ring at door ' || block, date '2026-01-01', now()
        FROM generate_series(1, 4) AS n;
        DELETE FROM orders WHERE id IN (first + 100 - 2 * {number}, first + 99 - 2 * {number});
        COMMIT;
    END LOOP;
END
$$
"""
CHANGES_PER_HUNDRED = 20


def increment(url: str, rows: int, number: int) -> Mapping[str, Any]:
    """Updates 1% of the first `rows` orders, inserts 1%, deletes 0.5%, in one transaction."""
    with psycopg.connect(url) as connection:
        counts = [
            connection.execute(statement.format(rows=rows, number=number)).rowcount
            for statement in _INCREMENT
        ]
    updated, deleted, inserted = counts
    return {"updated": updated, "deleted": deleted, "inserted": inserted}


def traffic(url: str, rows: int, number: int) -> Mapping[str, Any]:
    """A transaction to every 100 of the first `rows` orders: 14 updates, 4 inserts, 2 deletes.

    No row is changed twice, so that nothing can be folded. Returns how many changes that makes.
    """
    blocks = rows // 100
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TRAFFIC.format(rows=rows, blocks=blocks, number=number))
    return {"changes": blocks * CHANGES_PER_HUNDRED}
