"""The merge of a batch into a table that keeps the history; see `history`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.base import Load
from rowtrail.connectors.changes import INSTANT_TYPE, Operation, Times, are_distinct
from rowtrail.connectors.destinations.duckdb_apply import (
    ASIDE,
    Batch,
    Hits,
    Mask,
    delete,
    extra_columns,
    insert,
    insert_with_extra,
    set_aside,
    with_hash,
)
from rowtrail.connectors.destinations.duckdb_layout import key_hash
from rowtrail.connectors.destinations.duckdb_memory import Memory
from rowtrail.connectors.destinations.duckdb_merge import may_have_some, uses_hash
from rowtrail.connectors.destinations.duckdb_sql import KEY_HASH, Transaction
from rowtrail.connectors.destinations.history import (
    AT,
    COMMITTED,
    beside_them,
    check_versions_are_unique,
    judge,
    times_of,
)
from rowtrail.connectors.destinations.layout import Layout
from rowtrail.connectors.destinations.names import (
    DELETED_AT,
    FILTERED,
    HISTORY_COLUMNS,
    IS_CURRENT,
    ROW,
    VALID_FROM,
    VALID_TO,
    VERSION_COLUMNS,
    quote,
    quoted,
)

_GONE = "_rowtrail_gone"
_ASKED = "_rowtrail_asked"
_THERE = "_rowtrail_there"
_BESIDE = "_rowtrail_beside"
_UNTIL = "_rowtrail_until"
_COMPARED_BYTES = 16_000_000
"""Of the batch, compared with the table at a time: with 200 columns of text at once, DuckDB came to
the end of its memory (measured on 2.0.1)."""
_NOTHING_THERE = (
    f"SELECT CAST(NULL AS INTEGER) AS k, {', '.join(f'0::BIGINT AS {part}' for part in 'epor')}, "
    f"CAST(NULL AS TIMESTAMPTZ) AS since, CAST(NULL AS TIMESTAMPTZ) AS upto, false AS gone, "
    f"false AS filtered, 0::BIGINT AS place WHERE false"
)


def merge_history(work: Transaction, layout: Layout, load: Load, memory: Memory) -> Mask:
    """Merges the load and returns, per row, whether it was superseded and changed nothing.

    Raises StopError when the load has a version of a key twice.
    """
    superseded = np.zeros(len(load.rows), dtype=np.bool_)
    if not len(superseded):
        return superseded
    times = times_of(load)
    gone = load.operations.to_numpy(zero_copy_only=False) == Operation.DELETE
    batch = Batch.of(load)
    tables = [
        table
        for table in (layout.table, layout.table.tombstones)
        if may_have_some(work, table, batch)
    ]
    distinct = are_distinct(load.rows.select(load.target.schema.key))
    if not tables and distinct:
        ends = pa.nulls(len(gone), INSTANT_TYPE)
        _insert(work, layout, _with_times(batch, times.at, ends), ~gone, gone, None)
        return superseded
    if not distinct:
        check_versions_are_unique(load)
    memory.reserve_for_rows(len(gone))
    asked = _asked(work, batch, times, gone)
    there = _there(work, layout, batch) if tables else _none(work)
    work.run(f"CREATE OR REPLACE TEMP TABLE {_BESIDE} AS {beside_them(asked, there)}")
    alike = _alike(work, layout, batch, asked)
    verdicts = work.arrow(
        judge(asked, there, _BESIDE, alike, fresh=times.fresh, replaces=load.replaces),
    )
    late = verdicts.filter(verdicts["late"])
    superseded[late["n"].to_numpy()] = True
    decided = verdicts.filter(pc.invert(verdicts["late"]))
    moved = decided["n"].is_null()
    _end(work, layout, decided.filter(moved), memory)
    _replace(work, layout, batch, decided.filter(pc.invert(moved)), gone, memory)
    return superseded


def _asked(work: Transaction, batch: Batch, times: Times, gone: Mask) -> str:
    """The table `asked`. Leaves the batch's keys as the view `_rowtrail_incoming`."""
    rows = batch.rows.select([*batch.schema.key, *VERSION_COLUMNS, FILTERED, ROW])
    rows = rows.append_column(AT, times.at).append_column(COMMITTED, times.committed)
    view = work.view("_rowtrail_incoming", rows.append_column(_GONE, pa.array(gone)))
    keys = quoted(batch.schema.key)
    version = ", ".join(
        f"{name} AS {part}" for name, part in zip(VERSION_COLUMNS, "epor", strict=True)
    )
    work.run(
        f"CREATE OR REPLACE TEMP TABLE {_ASKED} AS SELECT CAST({ROW} AS INTEGER) AS n, "
        f"CAST(min({ROW}) OVER (PARTITION BY {keys}) AS INTEGER) AS k, {version}, {AT} AS since, "
        f"{COMMITTED} AS committed, {_GONE} AS gone, {FILTERED} AS filtered FROM {view}"
    )
    return _ASKED


def _alike(work: Transaction, layout: Layout, batch: Batch, asked: str) -> str:
    """The table `alike`. Some columns at a time: memory has to hold both sides of them."""
    names = [name for name in batch.schema.names if name not in batch.schema.key]
    pairs: pa.Table = work.arrow(
        f"SELECT b.n, b.place FROM {_BESIDE} AS b JOIN {asked} AS a USING (n) "
        f"WHERE NOT a.gone AND NOT b.gone"
    )
    for some in _groups(batch.rows, names):
        if not len(pairs):
            break
        known = work.view("_rowtrail_pairs", pairs)
        fresh = work.view("_rowtrail_fresh", batch.rows.select([ROW, *some]))
        same = " AND ".join(f"t.{quote(one)} IS NOT DISTINCT FROM s.{quote(one)}" for one in some)
        pairs = work.arrow(
            f"SELECT p.n, p.place FROM {layout.table.sql} AS t JOIN {known} AS p "
            f"ON t.rowid = p.place JOIN {fresh} AS s ON s.{ROW} = p.n WHERE {same}"
        )
    return work.view("_rowtrail_alike", pairs.select(["n"]))


def _groups(rows: pa.Table, names: list[str]) -> Iterator[list[str]]:
    """The columns in groups of at most so many bytes, but for a single one that has more."""
    group: list[str] = []
    size = 0
    for name in names:
        bytes_ = rows.column(name).nbytes
        if group and size + bytes_ > _COMPARED_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += bytes_
    if group:
        yield group


def _there(work: Transaction, layout: Layout, batch: Batch) -> str:
    """The table `there`: one scan of the key's columns in the table and its tombstones."""
    keys = quoted(batch.schema.key)
    records = (
        f"(SELECT CAST(min({ROW}) AS INTEGER) AS k, {keys} "
        f"FROM {quote('_rowtrail_incoming')} GROUP BY {keys})"
    )
    version = ", ".join(
        f"t.{name} AS {part}" for name, part in zip(VERSION_COLUMNS, "epor", strict=True)
    )
    known = f"FROM {_hashed(batch, records)} AS s JOIN"
    work.run(
        f"CREATE OR REPLACE TEMP TABLE {_THERE} AS "
        f"SELECT s.k, {version}, t.{VALID_FROM} AS since, t.{VALID_TO} AS upto, false AS gone, "
        f"false AS filtered, t.rowid AS place "
        f"{known} {layout.table.sql} AS t ON {_same_key(batch)} UNION ALL "
        f"SELECT s.k, {version}, t.{DELETED_AT}, NULL, true, t.{FILTERED}, t.rowid "
        f"{known} {layout.table.tombstones.sql} AS t ON {_same_key(batch)}"
    )
    return _THERE


def _none(work: Transaction) -> str:
    work.run(f"CREATE OR REPLACE TEMP TABLE {_THERE} AS {_NOTHING_THERE}")
    return _THERE


def _hashed(batch: Batch, rows: str) -> str:
    """The rows with the hash of their key, where it finds few of them faster."""
    if not uses_hash(batch):
        return rows
    return f"(SELECT *, {key_hash(batch.schema)} AS {KEY_HASH} FROM {rows})"


def _same_key(batch: Batch) -> str:
    names = (*batch.schema.key, KEY_HASH) if uses_hash(batch) else batch.schema.key
    return " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in names)


def _end(work: Transaction, layout: Layout, moved: pa.Table, memory: Memory) -> None:
    """Rows that are there and now hold to another time: deleted and inserted again, as
    `duckdb_apply` says why."""
    if not len(moved):
        return
    numbers = pa.array(np.arange(len(moved), dtype=np.uint32))
    hits = _hits(numbers.to_numpy(), moved["place"])
    memory.reserve(hits.places)
    set_aside(work, layout.table, "t.*", hits)
    delete(work, layout.table, hits)
    ends = work.view("_rowtrail_ends", pa.table({ROW: numbers, _UNTIL: moved["ends"]}))
    kept = [name for name in layout.types if name not in (VALID_TO, IS_CURRENT)]
    work.run(
        f"INSERT INTO {layout.table.sql} ({quoted(kept)}, {VALID_TO}, {IS_CURRENT}) "
        f"SELECT {quoted(kept, 'a.')}, e.{_UNTIL}, e.{_UNTIL} IS NULL "
        f"FROM {ASIDE} AS a JOIN {ends} AS e USING ({ROW})"
    )


def _replace(
    work: Transaction,
    layout: Layout,
    batch: Batch,
    decided: pa.Table,
    gone: Mask,
    memory: Memory,
) -> None:
    """The new events, in place of those that they are another revision of."""
    if not len(decided):
        return
    removed = decided.filter(pc.invert(decided["was_gone"]).fill_null(False))
    dug_out = decided.filter(decided["was_gone"].fill_null(False))
    hits = _hits(removed["n"].to_numpy(), removed["place"])
    memory.reserve(hits.places)
    extra = extra_columns(layout, batch.schema) if len(hits) else []
    if extra:
        set_aside(work, layout.table, quoted(extra, "t."), hits)
    delete(work, layout.table, hits)
    delete(work, layout.table.tombstones, _hits(dug_out["n"].to_numpy(), dug_out["place"]))
    numbers = decided["n"].to_numpy()
    chosen = np.zeros(len(gone), dtype=np.bool_)
    chosen[numbers] = True
    places = _places_of(numbers, len(gone))
    starts, ends = (decided[name].combine_chunks().take(places) for name in ("starts", "ends"))
    _insert(work, layout, _with_times(batch, starts, ends), chosen & ~gone, chosen & gone, extra)


def _places_of(numbers: npt.NDArray[np.int32], length: int) -> pa.Array:
    """For each row of the batch its place among the numbers; NULL where it is not among them."""
    places = np.zeros(length, dtype=np.int64)
    missing = np.ones(length, dtype=np.bool_)
    places[numbers] = np.arange(len(numbers))
    missing[numbers] = False
    return pa.array(places, mask=missing)


def _with_times(batch: Batch, starts: pa.Array, ends: pa.Array) -> Batch:
    rows = batch.rows.append_column(VALID_FROM, starts).append_column(VALID_TO, ends)
    rows = rows.append_column(IS_CURRENT, ends.is_null())
    return replace(batch, rows=rows, own=(*VERSION_COLUMNS, *HISTORY_COLUMNS))


def _insert(
    work: Transaction,
    layout: Layout,
    batch: Batch,
    rows: Mask,
    graves: Mask,
    extra: list[str] | None,
) -> None:
    if extra:
        insert_with_extra(work, layout.table, batch, rows, extra)
    else:
        insert(work, layout.table, batch, rows)
    if not graves.any():
        return
    view = work.view("_rowtrail_graves", batch.chosen(graves))
    into, values = with_hash(batch.schema, [*batch.schema.key, *VERSION_COLUMNS, FILTERED])
    work.run(
        f"INSERT INTO {layout.table.tombstones.sql} ({into}, {DELETED_AT}) "
        f"SELECT {values}, {VALID_FROM} FROM {view}"
    )


def _hits(rows: npt.NDArray[np.uint32], places: pa.ChunkedArray) -> Hits:
    count = len(rows)
    return Hits(
        rows=rows.astype(np.uint32),
        places=places.to_numpy().astype(np.int64),
        newer=np.zeros(count, dtype=np.bool_),
    )
