"""Sums of integer keys over ranges, made by the server from its index (see `capture.key_sums`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from rowtrail.connectors.capture.key_sums import MIXERS, RANGE_KEYS, KeySum, mixed_sql
from rowtrail.connectors.sources.postgres_rows import PostgresRows
from rowtrail.connectors.sources.postgres_select import in_table

_INTEGERS = (pa.int16(), pa.int32(), pa.int64())


def key_starts(rows: PostgresRows) -> list[int] | None:
    """Where ranges of about RANGE_KEYS keys begin, after a guess at how the keys are spread.

    None where the key is not one integer column that is read as such.
    """
    if len(rows.keys) != 1 or rows.keys[0].reader.type not in _INTEGERS:
        return None
    key = in_table(rows.keys[0].name)
    ((lowest, highest),) = rows.connection.records(
        f"SELECT min({key})::int8, max({key})::int8 FROM {rows.source}"
    )
    if lowest is None:
        return []
    leaves = [part.oid for part in rows.table.partitions] or [rows.table.oid]
    ((count,),) = rows.connection.records(
        "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM pg_catalog.pg_class "
        "WHERE oid = ANY (%s)",
        (leaves,),
    )
    ranges = max(1, count // RANGE_KEYS)
    width = -(-(highest - lowest + 1) // ranges)
    return list(range(lowest + width, highest + 1, width))


def key_sums(rows: PostgresRows, starts: Sequence[int]) -> Mapping[int, KeySum]:
    """One statement over the whole key, which an index alone can serve."""
    key = in_table(rows.keys[0].name)
    sums = ", ".join(f"sum({mixed_sql(f'{key}::int8', mixer)})" for mixer in MIXERS)
    array = "{" + ",".join(map(str, starts)) + "}"
    number = f"width_bucket({key}::int8, '{array}'::int8[])" if starts else "0"
    where = " AND ".join(rows.whole_key()) or "true"
    found = rows.connection.records(
        f"SELECT {number}, count(*), {sums} FROM {rows.source} WHERE {where} GROUP BY 1"
    )
    return {number: KeySum(count, tuple(sums)) for number, count, *sums in found}
