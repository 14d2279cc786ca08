"""Key and cursor columns of PostgreSQL: how they are ordered, compared, and written as literals.

The order has to be that of the Arrow values everywhere else: text by its bytes in UTF-8, whatever
the column's collation; what is read as text by that text, whatever its own type's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from rowtrail.connectors.capture.position import BrokenText, Values
from rowtrail.connectors.postgres_client import quote_text
from rowtrail.connectors.sources.postgres_connection import ServerFacts
from rowtrail.connectors.sources.postgres_table import TableColumn
from rowtrail.connectors.sources.postgres_types import is_number, natural_type
from rowtrail.connectors.sources.postgres_values import ValueReader, text_of

_BYTE_COLLATIONS = ("C", "POSIX", "C.UTF-8", "C.utf8", "ucs_basic")
_BYTE_ENCODINGS = ("UTF8", "SQL_ASCII", "LATIN1")
"""Texts sort alike by their bytes in these and by their bytes in UTF-8."""
_NO_EQUALITY = ("json", "xml")
_ORDERED_AS_TEXT = ("uuid", "macaddr", "macaddr8")
"""Types whose own order is that of their text."""


@dataclass(frozen=True, kw_only=True)
class KeyColumn:
    """A column that is ordered by. `{c}` stands for its reference."""

    reader: ValueReader
    order: str  # sorts as the Arrow values do
    bound: str  # what `order` is compared with; `{v}` stands for the literal of a value
    sql_type: str  # of the column itself, without a modifier
    comparable: bool  # its type has `=`, which an index serves
    exact: bool  # `=` says that the Arrow values are equal, too
    other: str  # equals `order` where the Arrow values are equal; of what is asked for
    safe: str  # equal where the Arrow values are, whatever is asked for
    safe_type: str  # and the type of what is asked for
    not_null: bool

    @property
    def name(self) -> str:
        return self.reader.name

    def ordered(self, reference: str) -> str:
        return self.order.replace("{c}", reference)

    def literal(self, value: object) -> str:
        """A value of `key_text` or `postgres_select`, to be compared with `ordered`."""
        if isinstance(value, BrokenText):
            text = "E'" + "".join(f"\\x{byte:02x}" for byte in value.data) + "'"
        else:
            text = quote_text(str(value))
        return self.bound.replace("{v}", text)

    def equal(self, reference: str, other: str) -> str:
        """SQL: a column and another of the same type have the same Arrow value.

        The type's own comparison is for the index; it may be coarser, as that of citext is.
        """
        parts = [f"{reference} = {other}"] if self.comparable else []
        if not self.exact or not parts:
            parts.append(f"{self.ordered(reference)} = {self.other.replace('{c}', other)}")
        return " AND ".join(parts)


def key_column(column: TableColumn, reader: ValueReader, facts: ServerFacts) -> KeyColumn:
    order, bound = _order(column, reader, facts)
    textual = pa.types.is_string(reader.type)
    known = natural_type(column) is not None or is_number(column)
    plain = column.is_builtin and column.type_name in ("text", "varchar", "name")
    safe, safe_type = "{c}", column.sql_type
    if textual and not plain:
        safe, safe_type = text_of(column), "pg_catalog.text"
    elif is_number(column) and not pa.types.is_floating(reader.type):
        safe, safe_type = "{c}::numeric", "pg_catalog.numeric"
    return KeyColumn(
        reader=reader,
        order=order,
        bound=bound,
        sql_type="pg_catalog.text" if plain else column.sql_type,
        comparable=known and column.type_name not in _NO_EQUALITY,
        exact=(plain and column.deterministic) or not textual or order == "{c}",
        # A char(5) that is asked for may lack its padding: then no row has it.
        other=f'({text_of(column)}) COLLATE "C"' if order.startswith("rpad") else order,
        safe=safe,
        safe_type=safe_type,
        not_null=column.not_null,
    )


def sorts_by_bytes(column: TableColumn, facts: ServerFacts) -> bool:
    """Whether the column's own collation, which its indexes have, orders text by its bytes."""
    default = column.collation == "default"
    return facts.sorts_by_bytes if default else column.collation in _BYTE_COLLATIONS


def _order(column: TableColumn, reader: ValueReader, facts: ServerFacts) -> tuple[str, str]:
    """How the column is ordered, and in which form a value is compared with that."""
    own_order = not pa.types.is_string(reader.type) or column.type_name in _ORDERED_AS_TEXT
    if own_order and column.is_builtin:
        return "{c}", f"{{v}}::{column.sql_type}"
    value = "{v}::pg_catalog.text"
    text = f"({text_of(column)})"
    if column.is_builtin and column.type_name in ("text", "varchar", "name"):
        text = "{c}"
        if sorts_by_bytes(column, facts) and facts.encoding in _BYTE_ENCODINGS:
            return text, value
    elif column.is_builtin and column.type_name == "bpchar" and column.type_modifier >= 4:
        # As `text_of` has it, but immutable, so that there can be an index on it.
        text = f"rpad({{c}}::text, {column.type_modifier - 4})"
    if facts.encoding in _BYTE_ENCODINGS:
        return f'{text} COLLATE "C"', f'{value} COLLATE "C"'
    return f"convert_to({text}, 'UTF8')", f"convert_to({value}, 'UTF8')"


def row_beyond(
    keys: Sequence[KeyColumn], references: Sequence[str], bound: Values | None, operator: str = ">"
) -> list[str]:
    """The condition that these columns, as a row, are beyond the bound; none without one.

    A row comparison is served by an index on the same columns.
    """
    if bound is None:
        return []
    left = [key.ordered(reference) for key, reference in zip(keys, references, strict=True)]
    right = [key.literal(value) for key, value in zip(keys, bound, strict=True)]
    if len(left) == 1:
        return [f"{left[0]} {operator} {right[0]}"]
    return [f"({', '.join(left)}) {operator} ({', '.join(right)})"]


def array_literal(array: pa.Array, sql_type: str) -> str:
    """An Arrow array as a PostgreSQL one: `'{1,2,NULL}'::int8[]`."""
    texts = _element_texts(array)
    joined = pc.binary_join(
        pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts), ","
    )[0].as_py()
    return f"{quote_text('{' + joined + '}')}::{sql_type}[]"


def _element_texts(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_binary(kind):
        texts = pa.array([None if v is None else f"\\x{v.hex()}" for v in array.to_pylist()])
    elif pa.types.is_boolean(kind):
        texts = array.cast(pa.string())
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        # Arrow would write the zone as a Z, which PostgreSQL takes; this does without a zone table.
        plain = array.cast(pa.timestamp("us")).cast(pa.string())
        texts = pc.binary_join_element_wise(plain, pa.scalar("+00"), "")
    else:
        texts = array.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        texts = pc.replace_substring(texts, "\\", "\\\\")
        texts = pc.replace_substring(texts, '"', '\\"')
    quoted = pc.binary_join_element_wise(pa.scalar('"'), texts, pa.scalar('"'), "")
    return pc.fill_null(quoted, "NULL")
