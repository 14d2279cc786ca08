"""Keeps the values of redacted columns out of all that is kept or shown of a record.

This is the one place that knows how. Images lose the values; messages, which databases, Arrow and a
user's code make out of values, get `***` in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from rowtrail.checkpoints.errors import LedgerError
from rowtrail.connectors.errors import ConfigurationError, RecordError, RowtrailError
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.isolation import (
    AttemptsSpentError,
    EveryProbeFailedError,
    FailsTogetherError,
)
from rowtrail.pipelines.masking import MASK, without
from rowtrail.pipelines.value_texts import texts_in, texts_of, words_of

_TYPES = frozenset(("str", "int", "float", "bool", "bytes", "list", "dict", "date", "datetime"))
"""What Python and Arrow quote of a value that says nothing of it: `got a 'str' object`."""

# Of an apostrophe (`does not`, `doesn't`) a quotation is told by what is around it.
_QUOTED = re.compile(r"(?<!\w)'((?:[^'\\]|\\.)*)'(?!\w)|(?<!\w)\"((?:[^\"\\]|\\.)*)\"(?!\w)", re.S)
_DETAIL = re.compile(r"\(([^()]*)\)=\((.*)\)", re.S)
"""PostgreSQL: `Key (email)=(a@b.c) already exists`."""


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """The redacted columns of one stream. Without any, everything passes as it is."""

    columns: frozenset[str] = frozenset()  # in small letters: columns are told apart without case
    names: frozenset[str] = frozenset()  # in small letters: what may stand in quotes

    def __bool__(self) -> bool:
        return bool(self.columns)

    def blanked(self, row: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[str, ...]]:
        """The row with no value in the redacted columns, and their names as the row spells them."""
        names = tuple(name for name in row.schema.names if name.lower() in self.columns)
        columns = [
            pa.nulls(len(row), field.type) if field.name in names else column
            for field, column in zip(row.schema, row.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=row.schema), names

    def masked(self, message: str, rows: pa.RecordBatch, *, quoted: bool = False) -> str:
        """The message without the values that redacted columns have in these rows.

        With `quoted`, for messages that others made about one row, quotations go too unless they
        are a name or a value of another column: a redacted value may have been changed before.
        """
        if not self.columns or not message:
            return message
        message = without(message, self._texts(rows))
        if quoted:
            message = self._without_quotations(message, rows)
        return _DETAIL.sub(self._detail, message)

    @contextmanager
    def telling(self, rows: pa.RecordBatch, *, records: bool = True) -> Iterator[None]:
        """What is raised within, about whichever of the rows, says none of their values.

        The chain of causes goes: it is printed with a traceback, and quotes what they quoted. What
        is about some record (RecordError) is left alone without `records`: it is raised often, and
        masked once it is known which row it is about.
        """
        if not self.columns:
            yield
            return
        try:
            yield
        except RecordError as error:
            if not records:
                raise
            raise self._silenced(error, rows) from None
        except RowtrailError as error:
            raise self._silenced(error, rows) from None
        except LedgerError:
            raise  # made from a statement, whose values are bound and not told
        except Exception as error:  # noqa: BLE001 - raised again, without the values
            words = self.masked(f"{type(error).__name__}: {error}", rows, quoted=True)
            raise RuntimeError(words).with_traceback(error.__traceback__) from None

    def _silenced(self, error: RowtrailError, rows: pa.RecordBatch) -> RowtrailError:
        about_values = isinstance(
            error, RecordError | EveryProbeFailedError | AttemptsSpentError | FailsTogetherError
        )
        if isinstance(error, FailsTogetherError):
            error.cause = RecordError(self.masked(_words(error.cause), rows, quoted=True))
        error.args = (self.masked(str(error), rows, quoted=about_values),)
        error.__cause__ = error.__context__ = None
        return error

    def _texts(self, rows: pa.RecordBatch) -> set[str]:
        """All texts in which a redacted value may stand in a message.

        Of one row its parts, too: of many they would be so many that any word was among them.
        """
        texts: set[str] = set()
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            if name.lower() in self.columns:
                texts.update(texts_in(column))
                if len(rows) == 1:
                    texts.update(words_of(column[0]))
        return texts

    def _without_quotations(self, message: str, rows: pa.RecordBatch) -> str:
        known = set(self.names | _TYPES)
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            if name.lower() not in self.columns and len(rows) == 1:
                known.update(text.lower() for text in texts_of(column[0]))

        def put(match: re.Match[str]) -> str:
            content = match[1] if match[1] is not None else match[2]
            mark = match[0][0]
            return match[0] if content.lower() in known else f"{mark}{MASK}{mark}"

        return _QUOTED.sub(put, message)

    def _detail(self, match: re.Match[str]) -> str:
        names = {name.strip().strip('"').lower() for name in match[1].split(",")}
        return match[0] if names.isdisjoint(self.columns) else f"({match[1]})=({MASK})"


NOTHING_REDACTED = Redaction()


def redaction_of(
    stream: StreamDefinition, source: TableSchema, target: TableSchema | None = None
) -> Redaction:
    """What the stream redacts of a table of this shape.

    Raises ConfigurationError for a column that the table does not have (a value would else be kept
    on account of a slip of the pen) and for one that the record is found by.
    """
    there = {name.lower(): name for name in source.names}
    missing = [name for name in stream.redact if name.lower() not in there]
    if missing:
        raise ConfigurationError(
            f"Stream {stream.name} is to redact {', '.join(missing)}, which table {source.table} "
            f"does not have; its columns are {', '.join(source.names)}. Correct `redact`: what is "
            f"not found there would be kept."
        )
    columns = {
        name.lower()
        for name in (*stream.redact, *stream.redact_where_found)
        if name.lower() in there
    }
    for name in source.key:
        if name.lower() in columns:
            raise ConfigurationError(cannot_redact(stream.name, name, "is part of the key"))
    if stream.cursor is not None and stream.cursor.lower() in columns:
        raise ConfigurationError(cannot_redact(stream.name, stream.cursor, "is the cursor"))
    if not columns:
        return NOTHING_REDACTED
    others = target.names if target is not None else ()
    names = {
        *source.names, *others, *source.key, source.table, stream.name, stream.table,
        stream.target, *(step.name for step in stream.transforms),
    }  # fmt: skip
    return Redaction(columns=frozenset(columns), names=frozenset(name.lower() for name in names))


def cannot_redact(stream: str, column: str, because: str) -> str:
    """Why this column's values have to be in the ledger, and what to do."""
    return (
        f"Stream {stream} cannot redact column {column}, which {because}: the ledger has to hold "
        f"its values. Take it out of `redact`, or name another `key` or `cursor`."
    )


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, RowtrailError) else f"{type(error).__name__}: {error}"
