"""Holds rows to a stream's light checks: bound to the columns' types once, then whole batches."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.type_names import type_name
from rowtrail.pipelines import bounds
from rowtrail.pipelines.checks import Check, Kind, Severity
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.fitting import Kind as TypeKind
from rowtrail.pipelines.fitting import kind_of
from rowtrail.pipelines.masking import MASK

LONGEST_VALUE = 100
"""Characters of a value that a message quotes."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """The rows that broke one check or expectation, and how to tell of each."""

    check: str  # `column amount: min = 0`
    severity: Severity
    rows: pa.Array  # int64, rising: numbers of the rows that were looked at
    words: str  # `column amount breaks the check min = 0: `
    observed: Callable[[int], str]  # of a row, by its number: `its value is '-5'`


@dataclass(frozen=True, kw_only=True)
class BoundCheck:
    """A check on a column that is there, of a type that it can be asked of."""

    check: Check  # its column as the rows spell it
    is_broken: Callable[[pa.Array], pa.Array]  # a column -> bool, true where a value breaks it
    key: list[str] = field(default_factory=list)  # where a record may have several rows

    def broken(self, rows: pa.RecordBatch, *, redacted: bool) -> Broken:
        """`redacted`: the column's values are told to nobody."""
        values = rows.column(self.check.column)
        if self.check.kind is Kind.UNIQUE and self.key:
            mask = bounds.repeated(values, rows.select(self.key))
        else:
            mask = self.is_broken(values)
        return Broken(
            check=f"column {self.check.column}: {self.check.text}",
            severity=self.check.severity,
            rows=pc.indices_nonzero(mask).cast(pa.int64()),
            words=f"column {self.check.column} breaks the check {self.check.text}: ",
            observed=lambda row: self._observed(values[row], redacted=redacted),
        )

    def _observed(self, value: pa.Scalar, *, redacted: bool) -> str:
        if not value.is_valid:
            return "it is NULL"
        told = told_value(value, redacted=redacted)
        if self.check.kind is Kind.UNIQUE:
            return f"other rows of the batch have the value {told} too"
        return f"its value is {told}"


def told_value(value: pa.Scalar, *, redacted: bool) -> str:
    """A value as messages quote it: in quotes, by which it is told from words, and cut."""
    if redacted:
        return MASK
    if not value.is_valid:
        return "NULL"
    try:
        plain = value.as_py()
    except (ValueError, OverflowError):  # a time that Python has no form for
        plain = str(value)
    text = plain if isinstance(plain, str) else plain.hex() if isinstance(plain, bytes) else None
    text = str(plain) if text is None else text
    cut = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
    return repr(cut)


def bind(
    stream: StreamDefinition, source: TableSchema, target: TableSchema
) -> tuple[BoundCheck, ...]:
    """The stream's checks on rows of the target's schema.

    Raises ConfigurationError for a check on a column that does not reach the target, and for one
    that the column's type has no answer to. A column that none of [defaults] finds is no mistake.
    """
    found = []
    for check in stream.checks:
        column = column_at_target(stream, check.column, source, target, f"checks `{check.text}`")
        found.append(_bind(stream, replace(check, column=column), target))
    for check in stream.checks_where_found:
        if (there := spelled(check.column, target)) is not None:
            found.append(_bind(stream, replace(check, column=there), target))
    return tuple(found)


def spelled(column: str, schema: TableSchema) -> str | None:
    """The column as the schema spells it; None where it has none of this name in any case."""
    if column in schema.names:
        return column
    return next((name for name in schema.names if name.lower() == column.lower()), None)


def column_at_target(
    stream: StreamDefinition,
    column: str,
    source: TableSchema,
    target: TableSchema,
    what: str,
    *,
    thing: str = "check",
) -> str:
    """The column as the target spells it; ConfigurationError says why it is not there.

    `what` asks for it, as the verb of a sentence: ``checks `min = 0` ``. It is a `thing`.
    """
    there = spelled(column, target)
    if there is not None:
        return there
    said = f"Stream {stream.name} {what} of column {column}, which"
    dropping = next(
        (one.name for one in stream.transforms if column.lower() in map(str.lower, one.drops)), None
    )
    if dropping is not None:
        raise ConfigurationError(
            f"{said} transform {dropping} drops: rows are looked at as they are loaded. Keep the "
            f"column, or take the {thing} out."
        )
    if spelled(column, source) is not None:
        raise ConfigurationError(
            f"{said} the stream's contract leaves out: rows are looked at as they are loaded. Take "
            f"the {thing} out, or accept the column."
        )
    close = difflib.get_close_matches(column, target.names, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise ConfigurationError(
        f"{said} its rows do not have; they have {', '.join(target.names)}.{meant} Correct the "
        f"column's name, or take the {thing} out."
    )


def _bind(stream: StreamDefinition, check: Check, target: TableSchema) -> BoundCheck:
    column = target.column(check.column)
    try:
        is_broken = _compiled(check, column.type)
    except ValueError as error:
        raise ConfigurationError(
            f"Stream {stream.name} cannot check `{check.text}` of column {column.name}, which is "
            f"{type_name(column.type)}: {error}. Correct it under `checks`."
        ) from error
    key = list(target.key) if stream.keeps_versions else []
    return BoundCheck(check=check, is_broken=is_broken, key=key)


def _compiled(check: Check, values_type: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    if check.kind is Kind.NOT_NULL:
        return lambda values: values.is_null()
    if check.kind is Kind.UNIQUE:
        if not bounds.can_be_repeated(values_type):
            raise ValueError("values of this type cannot be told apart here")
        return bounds.repeated
    if check.kind in (Kind.MIN, Kind.MAX):
        return bounds.outside(values_type, check.bound, low=check.kind is Kind.MIN)
    if check.kind is Kind.IN:
        is_member = bounds.members(values_type, check.bound)
        return lambda values: pc.and_not(values.is_valid(), is_member(values))
    return _not_matching(check.bound, values_type)


def _not_matching(pattern: str, values_type: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    if kind_of(values_type) is not TypeKind.TEXT:
        raise ValueError("a pattern is for text")
    whole = rf"\A(?:{pattern})\z"
    nothing = pa.array([""], pa.string())
    for expression in (pattern, whole):  # by itself: `a)(b` is none, and would pass in the brackets
        try:
            pc.match_substring_regex(nothing, expression)
        except pa.ArrowException as error:
            raise ValueError(f"it is no regular expression as RE2 has them ({error})") from error

    def mask(values: pa.Array) -> pa.Array:
        return pc.fill_null(pc.invert(pc.match_substring_regex(values, whole)), False)

    return mask


def redacts(columns: Sequence[str], redacted: frozenset[str]) -> bool:
    """Whether one of the columns is redacted; those are in small letters."""
    return any(name.lower() in redacted for name in columns)
