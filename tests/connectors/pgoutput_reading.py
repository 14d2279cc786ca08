"""The real reader's results in the shape of the reference's, and messages made by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rowtrail.connectors.capture.pgoutput import Relation
from rowtrail.connectors.capture.pgoutput_scan import LogScan, Scanned
from rowtrail.connectors.capture.pgoutput_tuples import TextColumn, Tuples, decode
from tests.connectors.pgoutput_reference import UNCHANGED, Change, Log, Value


def read(batches: Sequence[pa.Array]) -> Log:
    """What LogScan and decode make of the batches. Raises LogFormatError."""
    scan = LogScan()
    log = Log()
    for batch in batches:
        scanned = scan.scan(batch)
        log.commits += zip(
            scanned.commits.commit_lsns.tolist(),
            scanned.commits.end_lsns.tolist(),
            scanned.commits.xids.tolist(),
            scanned.commits.times.tolist(),
            strict=True,
        )
        log.relations += [plain(relation) for _, relation in scanned.relations]
        log.truncations += [
            (
                truncation.oids,
                truncation.cascade + 2 * truncation.restart_identity,
                commit_of(scanned, truncation.row),
                int(scanned.ordinals[truncation.row]),
            )
            for truncation in scanned.truncations
        ]
        log.changes += changes(scan, scanned, batch)
    return log


def changes(scan: LogScan, scanned: Scanned, batch: pa.Array) -> list[Change]:
    found: dict[int, Change] = {}
    for number in sorted(set(scanned.layouts.tolist()) - {-1}):
        relation = scan.layouts[number]
        chosen = scanned.layouts == number
        tuples = decode(relation, batch.filter(pa.array(chosen)))
        for row, place in enumerate(np.flatnonzero(chosen).tolist()):
            assert scanned.kinds[place] == tuples.kinds[row]
            assert scanned.oids[place] == relation.oid
            found[place] = Change(
                chr(tuples.kinds[row]),
                plain(relation),
                commit_of(scanned, place),
                int(scanned.ordinals[place]),
                chr(tuples.old_kinds[row]) if tuples.old_kinds[row] else "",
                values(tuples, row, new=False),
                values(tuples, row, new=True),
            )
    return [found[place] for place in sorted(found)]


def values(tuples: Tuples, row: int, *, new: bool) -> list[Value] | None:
    if not (tuples.has_new[row] if new else tuples.old_kinds[row]):
        return None
    return [value(column, row) for column in (tuples.new if new else tuples.old).values()]


def value(column: TextColumn, row: int) -> Value:
    text: str | None = column.values[row].as_py()
    if column.unchanged is not None and column.unchanged[row]:
        assert text is None
        return UNCHANGED
    if column.broken is not None and column.broken[row]:
        assert text is None
        octets: bytes = column.octets[row].as_py()
        return octets
    return text


def commit_of(scanned: Scanned, row: int) -> tuple[int, int, int]:
    return (int(scanned.commit_lsns[row]), int(scanned.xids[row]), int(scanned.times[row]))


def plain(relation: Relation) -> tuple[object, ...]:
    columns = tuple(
        (column.name, column.type_oid, column.typmod, column.in_identity)
        for column in relation.columns
    )
    return (relation.oid, relation.schema, relation.table, relation.identity, columns)


def begin(lsn: int, xid: int = 7, time: int = 0) -> bytes:
    return b"B" + struct.pack(">qqI", lsn, time, xid)


def commit(lsn: int, time: int = 0) -> bytes:
    return b"C" + struct.pack(">bqqq", 0, lsn, lsn + 8, time)


def relation(
    oid: int,
    columns: Sequence[tuple[bytes, bool]],
    name: bytes = b"t",
    identity: bytes = b"d",
) -> bytes:
    head = struct.pack(">I", oid) + b"public\0" + name + b"\0" + identity
    return b"R" + head + struct.pack(">h", len(columns)) + b"".join(
        struct.pack(">b", key) + column + b"\0" + struct.pack(">Ii", 25, -1)
        for column, key in columns
    )  # fmt: skip


def row_tuple(mark: bytes, row: Sequence[bytes | str | None]) -> bytes:
    """A `str` is one of the statuses, such as `u`; None is NULL."""
    content = b""
    for cell in row:
        if cell is None:
            content += b"n"
        elif isinstance(cell, str):
            content += cell.encode()
        else:
            content += b"t" + struct.pack(">I", len(cell)) + cell
    return mark + struct.pack(">h", len(row)) + content


def insert(oid: int, *row: bytes | str | None) -> bytes:
    return b"I" + struct.pack(">I", oid) + row_tuple(b"N", row)


def truncate(options: int, *oids: int) -> bytes:
    return b"T" + struct.pack(f">Ib{len(oids)}I", len(oids), options, *oids)
