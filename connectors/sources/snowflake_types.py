"""Snowflake's types, and the Arrow types that hold every value of them.

https://docs.snowflake.com/en/sql-reference/intro-summary-data-types. What has no such type is
refused by name, unless the stream's `types` says what to read it as.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.type_names import KNOWN, parse_type, type_name

ANY = "*"
"""The entry of `types` for every column that cannot be mapped otherwise."""
INTEGER_DIGITS = 18
"""A NUMBER of so many digits without decimals fits 64 bits whatever it is."""
MICROSECONDS = 6
"""The digits of a second that times are read with."""

_INSTANT = pa.timestamp("us", tz="UTC")
NATURAL: Mapping[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "FLOAT": pa.float64(),
    "VARCHAR": pa.string(),
    "BINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_LTZ": _INSTANT,
    "TIMESTAMP_TZ": _INSTANT,
}
"""Types by the names that DESCRIBE gives them; `NUMBER` is looked at by its digits."""
SEMI_STRUCTURED = ("VARIANT", "OBJECT", "ARRAY")
ZONED = ("TIMESTAMP_LTZ", "TIMESTAMP_TZ")
TIMESTAMPS = ("TIMESTAMP_NTZ", *ZONED)

_DECLARED = re.compile(
    r"(?P<kind>[A-Z_]+)(?:\((?P<size>\d+)(?:,\s*(?P<scale>\d+))?\))?"
    r"(?:\s+COLLATE\s+'(?P<collation>[^']*)')?",
    re.I,
)
_COLLATE = re.compile(r"\s+COLLATE\b.*", re.I | re.S)
_BINARY_COLLATIONS = ("", "utf8", "bin")


@dataclass(frozen=True, kw_only=True)
class DeclaredType:
    """A column's type as DESCRIBE writes it, taken apart."""

    text: str  # such as NUMBER(12,2), without a collation
    kind: str  # such as NUMBER; the whole text where it has another form
    size: int = 0  # digits, length, or of times the digits of a second
    scale: int = 0
    collated: bool = False  # texts are not compared by their bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        match = _DECLARED.fullmatch(text.strip())
        if match is None:
            return cls(text=text, kind=text.upper())
        kind = match["kind"].upper()
        default = {"NUMBER": 38}.get(kind, 9 if kind in ("TIME", *TIMESTAMPS) else 0)
        return cls(
            text=_COLLATE.sub("", text.strip()),
            kind=kind,
            size=default if match["size"] is None else int(match["size"]),
            scale=int(match["scale"] or 0),
            collated=(match["collation"] or "").lower() not in _BINARY_COLLATIONS,
        )

    @property
    def has_nanoseconds(self) -> bool:
        """Whether values may say more than microseconds; Snowflake's own default is that."""
        return self.kind in ("TIME", *TIMESTAMPS) and self.size > MICROSECONDS

    @property
    def natural(self) -> pa.DataType | None:
        """The Arrow type that holds every value, those with nanoseconds aside; None: none does."""
        if self.kind == "NUMBER":
            if self.scale == 0 and self.size <= INTEGER_DIGITS:
                return pa.int64()
            return pa.decimal128(self.size, self.scale)
        return NATURAL.get(self.kind)

    def can_be_read(self, wanted: pa.DataType) -> bool:
        """Whether each value either is exactly one of that type or is held back."""
        if wanted == self.natural:
            return True
        if pa.types.is_string(wanted):
            # A FLOAT as text would lose its last digits.
            return self.kind != "FLOAT" and (
                self.natural is not None or self.kind in SEMI_STRUCTURED
            )
        if self.kind == "NUMBER":
            return bool(pa.types.is_integer(wanted) or pa.types.is_decimal(wanted))
        return self.kind == "FLOAT" and bool(pa.types.is_floating(wanted))


def arrow_type(
    table: str, column: str, declared: DeclaredType, types: Mapping[str, str]
) -> pa.DataType:
    """The Arrow type of a column, by the stream's `types` or else by what its own type means.

    An entry of `types` names, in any case, the column, or its type with or without its size; the
    first of these wins. `"*"` is asked last. Raises ConfigurationError where nothing settles it, or
    the entry's type cannot hold the values.
    """
    natural = declared.natural
    names = [name.lower() for name in (column, declared.text, declared.kind)]
    chosen = next(
        (value for name in names for key, value in types.items() if key.lower() == name),
        types.get(ANY) if natural is None else None,
    )
    if chosen is None:
        if natural is None:
            raise ConfigurationError(_refusal(table, column, declared))
        return natural
    try:
        wanted = parse_type(chosen)
    except ValueError as error:
        raise ConfigurationError(
            f"The type of column {table}.{column} cannot be used: {error}. Mend the entry in "
            f"`types` of its stream."
        ) from error
    if not declared.can_be_read(wanted):
        readable = natural is not None or declared.kind in SEMI_STRUCTURED
        way_out = (
            f'Set types."{column}" = "text" for its stream, or take the entry away.'
            if readable and declared.kind != "FLOAT"
            else "Take the entry away."
            if readable
            else _view_advice()
        )
        raise ConfigurationError(
            f"Column {table}.{column} is declared {declared.text}, which cannot be read as "
            f"{type_name(wanted)} without a change of meaning. {way_out}"
        )
    return wanted


def _refusal(table: str, column: str, declared: DeclaredType) -> str:
    subject = f"Column {table}.{column} is declared {declared.text}, which has no type of its own"
    if declared.kind not in SEMI_STRUCTURED:
        return f"{subject} at the target. {_view_advice()}"
    return (
        f"{subject} at the target: dates and bytes within it become texts. Set "
        f'types."{column}" = "text" for its stream to take it as JSON (types."{declared.kind}" = '
        f'"text" or types."{ANY}" = "text" does so for all such columns), or leave the column out '
        f"with `exclude`. Known types: {', '.join(KNOWN)}."
    )


def _view_advice() -> str:
    return (
        "Leave the column out with `exclude`, or read a view that turns it into text or numbers, "
        "such as ST_ASWKT(…) for a GEOGRAPHY or (…)::ARRAY::VARIANT for a VECTOR."
    )
