"""PostgreSQL's types, and the Arrow types that hold every value of them.

What has no such type is refused by name, unless the stream's `types` says what to read it as.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.postgres_table import TableColumn
from rowtrail.connectors.type_names import KNOWN, parse_type, type_name

MOST_DIGITS = 38
ANY = "*"
"""The entry of `types` for every column that cannot be mapped otherwise."""

NATURAL: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(
        (
            *("text", "varchar", "bpchar", "name", "char", "xml", "json", "jsonb", "uuid"),
            *("inet", "cidr", "macaddr", "macaddr8", "bit", "varbit"),
        ),
        pa.string(),
    ),
}
"""Types of pg_catalog by their pg_type.typname; `numeric` is looked at by its digits."""
WHOLE_NUMBERS: Mapping[str, int] = {"int2": -(2**15), "int4": -(2**31), "int8": -(2**63), "oid": 0}
"""Types of whole numbers, with the least value of each."""

NUMBERS = (*WHOLE_NUMBERS, "float4", "float8", "numeric")
TIMES = ("timestamptz", "timestamp", "date")
_SPECIAL_ADVICE: Mapping[str, str] = {
    "interval": "months, days and seconds do not make up one length of time",
    "timetz": "its time zone would be lost",
    "money": "what it means depends on a setting of the server",
}


def arrow_type(table: str, column: TableColumn, types: Mapping[str, str]) -> pa.DataType:
    """The Arrow type of a column, by the stream's `types` or else by what its own type means.

    An entry of `types` names, in any case, the column, or its declared type with or without the
    modifier, or the type that a domain is made of; the first of these wins. `"*"` is asked last.
    Raises ConfigurationError where nothing settles it, or the entry's type cannot hold the values.
    """
    natural = natural_type(column)
    chosen = next(
        (value for name in _names(column) for key, value in types.items() if key.lower() == name),
        types.get(ANY) if natural is None else None,
    )
    if chosen is None:
        if natural is None:
            raise ConfigurationError(_refusal(table, column))
        return natural
    try:
        wanted = parse_type(chosen)
    except ValueError as error:
        raise ConfigurationError(
            f"The type of column {table}.{column.name} cannot be used: {error}. Mend the entry in "
            f"`types` of its stream."
        ) from error
    if wanted != natural and not can_be_read(column, wanted):
        raise ConfigurationError(
            f"Column {table}.{column.name} is declared {column.declared}, which cannot be read as "
            f"{type_name(wanted)} without a change of meaning. Set "
            f'types."{column.name}" = "text" for its stream, or take the entry away.'
        )
    return wanted


def natural_type(column: TableColumn) -> pa.DataType | None:
    """The Arrow type that holds every value of the column's type; None: there is none."""
    if column.type_kind == "e" or (column.type_kind == "b" and column.type_name == "citext"):
        return pa.string()
    if not column.is_builtin:
        return None
    if column.type_name == "numeric":
        return _decimal(column.type_modifier)
    return NATURAL.get(column.type_name)


def _decimal(modifier: int) -> pa.DataType | None:
    """The decimal of a numeric's modifier: (precision << 16 | scale) + 4, the scale in 11 bits.

    A scale may be negative or above the precision since PostgreSQL 15 (numeric.c, numerictypmodin).
    """
    if modifier < 4:
        return None
    precision = (modifier - 4) >> 16 & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return pa.decimal128(precision, scale) if precision <= MOST_DIGITS else None


def is_number(column: TableColumn) -> bool:
    return column.is_builtin and column.type_name in NUMBERS


def can_be_read(column: TableColumn, wanted: pa.DataType) -> bool:
    """Whether each value either is exactly one of that type, not the column's own, or is held
    back."""
    if pa.types.is_string(wanted):
        return True
    exact = pa.types.is_integer(wanted) or pa.types.is_decimal(wanted)
    if column.type_name in ("float4", "float8"):
        return column.is_builtin and pa.types.is_floating(wanted)
    return is_number(column) and exact


def _names(column: TableColumn) -> list[str]:
    """What an entry of `types` may call the column, the most special first."""
    found = [column.name]
    for declared in (column.declared, column.base):
        found += [declared, _without_modifier(declared)]
    return [name.lower() for name in found]


def _without_modifier(declared: str) -> str:
    """`timestamp(3) with time zone` -> `timestamp with time zone`."""
    start, end = declared.find("("), declared.find(")")
    if start < 0 or end < start or declared.startswith('"'):
        return declared
    return declared[:start] + declared[end + 1 :]


def _refusal(table: str, column: TableColumn) -> str:
    subject = f"Column {table}.{column.name} is declared {column.declared}"
    if column.is_builtin and column.type_name == "numeric":
        cause = (
            "takes more digits than the 38 of a decimal"
            if column.type_modifier >= 4
            else "takes any number of digits"
        )
        return (
            f'{subject}, which {cause}. Set types."{column.name}" for its stream to '
            f'"decimal(38,10)" or the like, so that rows whose value does not fit exactly are held '
            f'back, or to "text"; or leave the column out with `exclude`.'
        )
    why = _SPECIAL_ADVICE.get(column.type_name) if column.is_builtin else None
    because = f": {why}" if why else ""
    return (
        f"{subject}, which has no type of its own at the target{because}. Set "
        f'types."{column.name}" = "text" for its stream to take it as PostgreSQL writes it '
        f'(types."{ANY}" = "text" does so for all such columns), or leave the column out with '
        f"`exclude`. Known types: {', '.join(KNOWN)}."
    )
