"""How one PostgreSQL column is read as one Arrow type, without a change of meaning.

A column is selected so that the driver gives its values as they are, and then converted: what the
Arrow type cannot hold becomes NULL. So a value that is NULL now and was none before does not fit.
Neither the driver nor Arrow would notice all of them: a date `infinity` comes as a number of days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.pages import Mask
from rowtrail.connectors.capture.postgres_text import cast_text
from rowtrail.connectors.errors import TransientError
from rowtrail.connectors.sources.casting import cast_or_null
from rowtrail.connectors.sources.postgres_table import TableColumn
from rowtrail.connectors.sources.postgres_types import natural_type
from rowtrail.connectors.type_names import type_name

_DAY = 24 * 60 * 60 * 1_000_000  # microseconds
_FIRST_DAY = (date.min - date(1970, 1, 1)).days
_LAST_DAY = (date.max - date(1970, 1, 1)).days
"""Of the years 1 to 9999: Python, and so each transform, knows no others."""


@dataclass(frozen=True, kw_only=True)
class ValueReader:
    """Reads one column. In its SQL, `{c}` stands for the column's reference.

    `select` gives the values in the form that `convert` takes, `text` as PostgreSQL writes them.
    """

    name: str
    declared: str
    type: pa.DataType
    kind: str  # the base type's name in PostgreSQL, such as `int4`
    select: str
    text: str
    convert: Callable[[pa.Array], pa.Array]

    def selected(self, reference: str) -> str:
        return self.select.replace("{c}", reference)

    def as_text(self, reference: str) -> str:
        return self.text.replace("{c}", reference)

    def read(self, array: pa.Array) -> tuple[pa.Array, Mask | None]:
        """The driver's array in the column's type, and where a value does not fit; None: nowhere.

        Where it does not fit the result is NULL. Raises TransientError when the column has got
        another type since it was described, so that the driver's array is another one.
        """
        try:
            values = self.convert(array)
        except pa.ArrowException as error:
            raise self._retyped() from error
        if values.type != self.type:
            raise self._retyped()
        if values.null_count == array.null_count:
            return values, None
        lost: Mask = pc.and_(values.is_null(), array.is_valid()).to_numpy(zero_copy_only=False)
        return values, lost

    def _retyped(self) -> TransientError:
        return TransientError(
            f"Column {self.name} was {self.declared} when its table was described, and its values "
            f"come as those of another type: it was probably changed meanwhile. Try again, which "
            f"describes the table anew."
        )

    def read_text(self, texts: pa.Array) -> tuple[pa.Array, Mask | None]:
        """Likewise, of what `text` gives, which is also what the log has."""
        values, unfit = cast_text(texts, self.type, self.kind)
        if not pa.types.is_temporal(self.type):
            return values, unfit
        values, beyond = self.read(values)
        return values, beyond if unfit is None else unfit if beyond is None else unfit | beyond


def value_reader(column: TableColumn, data_type: pa.DataType) -> ValueReader:
    """The reader of a column as this Arrow type, which `arrow_type` allows."""
    text = text_of(column)
    return ValueReader(
        name=column.name,
        declared=column.declared,
        type=data_type,
        kind=column.type_name,
        select=_selection(column, data_type, text),
        text=text,
        convert=_conversion(data_type),
    )


def text_of(column: TableColumn) -> str:
    """SQL for the value as PostgreSQL writes it, which is also what its log has.

    Some types' `::text` is a function that writes something else (`true` for `t`, `1.2.3.4/32` for
    `1.2.3.4`, text without its padding), and xml loses its declaration when it is written.
    """
    if column.casts_to_text and column.type_name != "name":
        return "CASE WHEN {c} IS NOT NULL THEN pg_catalog.format('%s', {c}) END"
    if column.is_builtin and column.type_name == "xml":
        return "pg_catalog.textin(pg_catalog.xml_out({c}))"
    if column.is_builtin and column.type_name in ("text", "varchar"):
        return "{c}"
    return "{c}::text"


_AS_IT_IS = ("text", "varchar", "bpchar", "name", "json", "jsonb")


def _selection(column: TableColumn, data_type: pa.DataType, text: str) -> str:
    if pa.types.is_string(data_type):
        own = column.is_builtin and column.type_name in _AS_IT_IS
        return "{c}" if own else text
    if column.type_name == "oid":
        return "{c}::int8"  # the driver would give a signed one of 32 bits
    if data_type != natural_type(column):
        return _widened(column)
    # The server writes a number as text in a fraction of the time that the driver takes for it.
    return "{c}::text" if pa.types.is_decimal(data_type) else "{c}"


def _widened(column: TableColumn) -> str:
    """So that one conversion serves for integers and numerics alike.

    As text, since the driver reads no numeric of 131,069 digits or more, and fails for all rows.
    """
    return "{c}" if column.type_name in ("float4", "float8") else "{c}::numeric::text"


def _conversion(data_type: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    if pa.types.is_decimal(data_type):
        return lambda array: _numbers(array, data_type)
    if pa.types.is_integer(data_type):
        return lambda array: (
            array if array.type == data_type else _integers(_stored(array), data_type)
        )
    if pa.types.is_floating(data_type):
        return lambda array: _floats(array, data_type)
    if pa.types.is_string(data_type):
        return lambda array: _valid_text(_stored(array))
    if pa.types.is_date(data_type):
        return lambda array: _within(array, pa.int32(), _FIRST_DAY, _LAST_DAY)
    if pa.types.is_time(data_type):
        return lambda array: _within(array, pa.int64(), 0, _DAY - 1)
    if pa.types.is_timestamp(data_type):
        return lambda array: _within(
            array, pa.int64(), _FIRST_DAY * _DAY, (_LAST_DAY + 1) * _DAY - 1
        )
    return lambda array: array


def _stored(array: pa.Array) -> pa.Array:
    """Without the driver's extension type: numeric is text to it, and json a kind of its own."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _within(array: pa.Array, stored: pa.DataType, low: int, high: int) -> pa.Array:
    """NULL for what is beyond these bounds, `infinity` among it, which wraps around."""
    numbers = array.view(stored)
    if len(numbers) == numbers.null_count:
        return array
    least, most = pc.min_max(numbers).values()
    if least.as_py() >= low and most.as_py() <= high:
        return array
    inside = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    return pc.if_else(inside, array, pa.scalar(None, array.type))


_SPECIAL = ("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity")
"""As the driver writes them, and as the server does."""


def _numbers(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """numeric has NaN and both infinities, which no decimal has; they may well be many.

    Arrow's own cast goes wrong without a word beyond 38 digits, so it is guarded.
    """
    texts = _stored(array)
    if not pa.types.is_string(texts.type):
        raise pa.ArrowTypeError(f"texts of numbers were asked for, and {texts.type} came")
    special = pc.is_in(texts, pa.array(_SPECIAL))
    if pc.any(special).as_py():
        texts = pc.if_else(special, pa.scalar(None, texts.type), texts)
    return cast_text(texts, data_type, "numeric")[0]


def _integers(texts: pa.Array, data_type: pa.DataType) -> pa.Array:
    return _numbers(texts, data_type)


def _floats(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    if array.type == data_type:
        return array
    changed = array.cast(data_type, safe=False)
    same = pc.equal(changed.cast(array.type), array)
    kept = pc.or_(same, pc.is_nan(array))
    return pc.if_else(pc.fill_null(kept, False), changed, pa.scalar(None, data_type))


def _valid_text(array: pa.Array) -> pa.Array:
    """NULL in the place of text that is not UTF-8, as a database in SQL_ASCII may have."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return cast_or_null(array.view(pa.binary()), pa.string())
    return array


def describe_misfit(reader: ValueReader, raw: str | bytes | None) -> str:
    """Why the value does not fit, and what to do; never the value itself."""
    if raw is None:
        return (
            f"Key column {reader.name} is NULL, so that the row cannot be told from others. Give "
            f"it a value at the source."
        )
    subject = f"Column {reader.name}, {reader.declared} and read as {type_name(reader.type)}, holds"
    if isinstance(raw, bytes):
        return f"{subject} text that is not valid UTF-8. Mend the row at the source."
    return (
        f"{subject} {_thing(reader.type, raw)}. Mend the row at the source, or set "
        f'types."{reader.name}" = "text" for the stream.'
    )


def _thing(data_type: pa.DataType, raw: str) -> str:
    """What kind of value it is."""
    if raw.lower() in ("infinity", "-infinity", "nan"):
        return f"{raw}, which that type has not"
    if pa.types.is_time(data_type):
        return "24:00:00, the end of a day, which that type has not"
    if pa.types.is_temporal(data_type):
        return "a day before the year 1 or after the year 9999"
    return "a number that does not fit into it exactly"


def raw_text(value: bytes | None) -> str | bytes | None:
    """Bytes that are text, as text; others stay as they are."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def key_text(value: object) -> str:
    """A value of a key or cursor as PostgreSQL reads it in, whatever its column's type."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value)
