"""Messages of PostgreSQL's log as rows of a stream.

What a message does not tell whole is read from the table: a large value that did not change
(TOAST), a generated column, a column that was added later, a value that the schema cannot hold. The
row that is found there may be newer than the change; it carries the change's version all the same,
a lower bound of what it shows, and the log brings it forward again. So rows are always complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.log import LogRows
from rowtrail.connectors.capture.pages import Mask, Page, delete_rows
from rowtrail.connectors.capture.pgoutput import Relation
from rowtrail.connectors.capture.pgoutput_tuples import TextColumn, Tuples, decode
from rowtrail.connectors.changes import OPERATION_TYPE, Operation, Rejected, Version
from rowtrail.connectors.errors import PositionLostError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.postgres_table import TableColumn
from rowtrail.connectors.sources.postgres_values import ValueReader, describe_misfit, raw_text

_INSERT, _, _DELETE = b"IUD"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes the messages of one stream's table."""

    stream: str
    schema: TableSchema
    readers: tuple[ValueReader, ...]  # aligned with the schema's columns
    columns: Mapping[str, TableColumn]  # of the schema's columns, as the table is now
    lookup: Callable[[pa.RecordBatch], Page]

    def rows(self, relation: Relation, messages: pa.RecordBatch) -> LogRows:
        """The changes in messages of one layout, `messages` as a spool gives them."""
        self._check_key(relation)
        told = decode(
            relation,
            messages.column("data"),
            columns=self.schema.names,
            old_columns=self.schema.key,
        )
        deleted = told.kinds == _DELETE
        new, incomplete = self._new_rows(relation, told)
        old_keys, strange = self._keys(told.old, told.old_kinds != 0)
        moved = ~deleted & (told.old_kinds != 0) & ~_equal_keys(self.schema, new, old_keys)
        refused = deleted & strange
        # A row that gets a key that fits leaves its old one, too. Rows without a whole key are told
        # apart by nothing: of them it can only be said that there are some.
        left = moved & strange & ~_has_null(told.old, self.schema.key)
        rejected = self._stranger(told, messages, refused | left, told.old, Operation.DELETE)
        keyless = ~deleted & self._unfit_keys(told, new)
        rejected += self._stranger(told, messages, keyless, told.new, Operation.UPDATE)
        new, gone, more = self._completed(new, incomplete & ~deleted & ~keyless, told, messages)
        return _ordered(
            self.schema,
            new,
            old_keys,
            messages,
            operations=_operations(told.kinds, gone),
            upserts=~deleted & ~keyless & ~_rows_of(more, len(deleted)),
            deletes=(deleted & ~refused) | (moved & ~strange),
            rejected=(*rejected, *(one for _, one in more)),
        )

    def current(self, found: LogRows) -> LogRows:
        """The same changes with each row as it is in the table now.

        Where several rows may have one key, the delete of one says nothing of the others: not even
        for a moment, as when one UPDATE swaps the keys of two rows. Raises ConfigurationError when
        several rows have one key now.
        """
        page = self.lookup(found.rows.select(list(self.schema.key)))
        there = page.extra[0]
        fits = pa.array(page.fits())
        chosen = page.fits()
        return LogRows(
            rows=page.rows.filter(fits),
            operations=pc.if_else(there, int(Operation.UPDATE), int(Operation.DELETE))
            .cast(OPERATION_TYPE)
            .filter(fits),
            commits=found.commits[chosen],
            xids=found.xids[chosen],
            ordinals=found.ordinals[chosen],
            last=found.last,
            rejected=(
                *found.rejected,
                *(
                    misfit.rejected(
                        Operation.UPDATE,
                        Version(
                            0, int(found.commits[misfit.row]), int(found.ordinals[misfit.row]), 0
                        ),
                    )
                    for misfit in page.misfits
                ),
            ),
        )

    def _check_key(self, relation: Relation) -> None:
        there = {column.name for column in relation.columns}
        named = {column.name for column in relation.columns if column.in_identity}
        missing = [name for name in self.schema.key if name not in named]
        if relation.identity == "f":
            missing = [name for name in self.schema.key if name not in there]
        if missing:
            raise PositionLostError(
                f"Stream {self.stream} cannot go on: the log of {relation.name} does not name "
                f"{', '.join(missing)} of the rows that it deletes, so the table had another key "
                f"or replica identity then. See `rowtrail check`, then read the stream anew: "
                f"rowtrail run --resnapshot {self.stream}"
            )

    def _was_altered(self, relation: Relation) -> bool:
        """Whether columns have got another type or name since: what was told then need not be what
        ALTER TABLE has made of it (a boolean's `t` becomes the text `true`)."""
        then = [column for column in relation.columns if column.name in self.columns]
        names = [column.name for column in then]
        return names != [name for name in self.schema.names if name in names] or any(
            (column.type_oid, column.typmod)
            != (self.columns[column.name].own_oid, self.columns[column.name].own_modifier)
            for column in then
        )

    def _new_rows(self, relation: Relation, told: Tuples) -> tuple[pa.RecordBatch, Mask]:
        """What the messages tell of the rows as they are afterwards, and where that is not all."""
        count = len(told.kinds)
        incomplete: Mask = np.full(count, self._was_altered(relation), dtype=np.bool_)
        arrays = []
        for reader in self.readers:
            column = told.new.get(reader.name)
            if column is None:
                incomplete[:] = True
                arrays.append(pa.nulls(count, reader.type))
                continue
            values, unfit = _cast(reader, column)
            for mask in (unfit, column.unchanged):
                if mask is not None:
                    incomplete |= mask
            arrays.append(values)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow()), incomplete

    def _keys(self, told: Mapping[str, TextColumn], there: Mask) -> tuple[pa.RecordBatch, Mask]:
        """The keys of old rows, and where one does not fit the schema."""
        unfit: Mask = np.zeros(len(there), dtype=np.bool_)
        arrays = []
        for reader in self._key_readers():
            values, bad = _cast(reader, told[reader.name])
            arrays.append(values)
            unfit |= there & values.is_null().to_numpy(zero_copy_only=False)
            if bad is not None:
                unfit |= bad
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow_key()), unfit

    def _key_readers(self) -> list[ValueReader]:
        by_name = {reader.name: reader for reader in self.readers}
        return [by_name[name] for name in self.schema.key]

    def _unfit_keys(self, told: Tuples, new: pa.RecordBatch) -> Mask:
        """Where a key is NULL or does not fit. A key that is unchanged and large is in the old
        tuple, so that it is told in any case."""
        unfit: Mask = np.zeros(len(new), dtype=np.bool_)
        for name in self.schema.key:
            column = new.column(name)
            if column.null_count:
                unfit |= column.is_null().to_numpy(zero_copy_only=False)
        return unfit & told.has_new

    def _stranger(
        self,
        told: Tuples,
        messages: pa.RecordBatch,
        chosen: Mask,
        columns: Mapping[str, TextColumn],
        operation: Operation,
    ) -> tuple[Rejected, ...]:
        """Rows whose key the schema cannot hold, of which there are few."""
        return tuple(
            self._one_stranger(messages, int(row), columns, operation)
            for row in np.flatnonzero(chosen)
        )

    def _one_stranger(
        self,
        messages: pa.RecordBatch,
        row: int,
        columns: Mapping[str, TextColumn],
        operation: Operation,
    ) -> Rejected:
        readers = self._key_readers() if operation is Operation.DELETE else self.readers
        texts = {reader.name: _text(columns.get(reader.name), row) for reader in readers}
        key: list[object] = []
        culprit: ValueReader | None = None
        for reader in self._key_readers():
            text = texts[reader.name]
            value = _value(reader, text)
            key.append(text if value is None else value)
            culprit = reader if value is None and culprit is None else culprit
        assert culprit is not None
        return Rejected(
            key=tuple(key),
            operation=operation,
            version=_version(messages, row, operation),
            column=culprit.name,
            message=describe_misfit(culprit, texts[culprit.name]),
            image=pa.RecordBatch.from_arrays(
                [pa.array([text]) for text in texts.values()], names=list(texts)
            ),
        )

    def _completed(
        self, new: pa.RecordBatch, wanted: Mask, told: Tuples, messages: pa.RecordBatch
    ) -> tuple[pa.RecordBatch, Mask, list[tuple[int, Rejected]]]:
        """The rows with what was not told read from the table; where there is none now; and the
        rows that the schema cannot hold as they are now."""
        gone: Mask = np.zeros(len(new), dtype=np.bool_)
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return new, gone, []
        keys = new.select(list(self.schema.key)).take(pa.array(rows))
        page = self.lookup(keys)
        gone[rows] = ~page.extra[0].to_numpy(zero_copy_only=False)
        rejected = [
            (
                int(rows[misfit.row]),
                misfit.rejected(
                    Operation.UPDATE,
                    _version(messages, int(rows[misfit.row]), Operation.UPDATE),
                ),
            )
            for misfit in page.misfits
        ]
        places = np.arange(len(new), dtype=np.int64)
        places[rows] = len(new) + np.arange(len(rows))
        both = pa.Table.from_batches([new, page.rows.cast(new.schema)]).combine_chunks()
        return both.to_batches()[0].take(pa.array(places)), gone, rejected


def _cast(reader: ValueReader, column: TextColumn) -> tuple[pa.Array, Mask | None]:
    values, unfit = reader.read_text(column.values)
    if column.broken is not None:
        unfit = column.broken if unfit is None else unfit | column.broken
    return values, unfit


def _value(reader: ValueReader, text: str | bytes | None) -> object:
    return reader.read_text(pa.array([text]))[0][0].as_py() if isinstance(text, str) else None


def _equal_keys(schema: TableSchema, new: pa.RecordBatch, old: pa.RecordBatch) -> Mask:
    equal: Mask = np.ones(len(new), dtype=np.bool_)
    for name in schema.key:
        same = pc.equal(new.column(name), old.column(name))
        equal &= pc.fill_null(same, False).to_numpy(zero_copy_only=False)
    return equal


def _has_null(told: Mapping[str, TextColumn], names: Sequence[str]) -> Mask:
    """Where a column is NULL, and not just unreadable."""
    columns = [told[name] for name in names]
    arrays = [one.values if one.octets is None else one.octets for one in columns]
    missing: Mask = np.zeros(len(arrays[0]), dtype=np.bool_)
    for one in arrays:
        missing |= one.is_null().to_numpy(zero_copy_only=False)
    return missing


def _operations(kinds: npt.NDArray[np.uint8], gone: Mask) -> npt.NDArray[np.uint8]:
    """A row that is gone now is deleted: its delete follows in the log."""
    found = np.full(len(kinds), int(Operation.UPDATE), dtype=np.uint8)
    found[kinds == _INSERT] = int(Operation.INSERT)
    found[gone] = int(Operation.DELETE)
    return found


def _rows_of(found: list[tuple[int, Rejected]], count: int) -> Mask:
    mask: Mask = np.zeros(count, dtype=np.bool_)
    mask[[row for row, _ in found]] = True
    return mask


def _version(messages: pa.RecordBatch, row: int, operation: Operation) -> Version:
    """In epoch 0: whoever knows the epoch puts it in."""
    ordinal = 2 * messages.column("ordinal")[row].as_py() + (operation is not Operation.DELETE)
    return Version(0, messages.column("commit")[row].as_py(), ordinal, 0)


def _text(column: TextColumn | None, row: int) -> str | bytes | None:
    if column is None:
        return None
    if column.octets is not None:
        return raw_text(column.octets[row].as_py())
    text: str | None = column.values[row].as_py()
    return text


def _ordered(
    schema: TableSchema,
    new: pa.RecordBatch,
    old_keys: pa.RecordBatch,
    messages: pa.RecordBatch,
    *,
    operations: npt.NDArray[np.uint8],
    upserts: Mask,
    deletes: Mask,
    rejected: tuple[Rejected, ...],
) -> LogRows:
    """The rows in the order of the log, the delete of a row's old key before the row itself."""
    commits = messages.column("commit").to_numpy()
    numbers = messages.column("ordinal").to_numpy()
    xids = messages.column("xid").to_numpy()
    last = len(messages) - 1
    end = (int(commits[last]), int(xids[last]), int(numbers[last]))
    if upserts.all() and not deletes.any():
        return LogRows(
            rows=new,
            operations=pa.array(operations, OPERATION_TYPE),
            commits=commits,
            xids=xids,
            ordinals=2 * numbers + 1,
            last=end,
            rejected=rejected,
        )
    kept, gone = np.flatnonzero(upserts), np.flatnonzero(deletes)
    order = np.argsort(np.concatenate([2 * kept + 1, 2 * gone]), kind="stable")
    dead = delete_rows(schema, old_keys.take(pa.array(gone)))
    alive = new.take(pa.array(kept))
    both = pa.Table.from_batches([alive, dead]).combine_chunks().to_batches()
    rows = both[0].take(pa.array(order)) if both else alive
    source = np.concatenate([kept, gone])[order]
    is_delete = np.concatenate([np.zeros(len(kept), np.bool_), np.ones(len(gone), np.bool_)])[order]
    return LogRows(
        rows=rows,
        operations=pa.array(
            np.where(is_delete, np.uint8(Operation.DELETE), operations[source]), OPERATION_TYPE
        ),
        commits=commits[source],
        xids=xids[source],
        ordinals=2 * numbers[source] + ~is_delete,
        last=end,
        rejected=rejected,
    )


def split(found: LogRows, limit: int) -> Iterator[LogRows]:
    """Items of at most `limit` rows. Each ends with a whole change: that of a key is two rows."""
    start, count = 0, len(found.rows)
    numbers = found.ordinals // 2
    while count - start > limit:
        end = start + limit
        together = (numbers[end - 1], found.commits[end - 1]) == (numbers[end], found.commits[end])
        if together and limit > 1:
            end -= 1
        last = (int(found.commits[end - 1]), int(found.xids[end - 1]), int(numbers[end - 1]))
        # With one row to an item both halves of a change are read again after a crash.
        yield _part(found, start, end, None if together and limit == 1 else last)
        start = end
    yield replace(_part(found, start, count, found.last), rejected=found.rejected)


def _part(found: LogRows, start: int, end: int, last: tuple[int, int, int] | None) -> LogRows:
    return LogRows(
        rows=found.rows.slice(start, end - start),
        operations=found.operations.slice(start, end - start),
        commits=found.commits[start:end],
        xids=found.xids[start:end],
        ordinals=found.ordinals[start:end],
        last=last,
    )
