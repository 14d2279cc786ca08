"""SQLite's declared types and affinities, and the Arrow types that they stand for.

Affinities: https://sqlite.org/datatype3.html, 3.1. A declared type in SQLite promises little: what
a column really holds is checked row by row (see `sqlite_values`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.type_names import KNOWN, parse_type, type_name


class Affinity(Enum):
    """What SQLite turns a value into when it is stored, if nothing is lost by it."""

    INTEGER = "integer"
    TEXT = "text"
    BLOB = "blob"  # also called none: values are stored as they come
    REAL = "real"
    NUMERIC = "numeric"

    @property
    def turns_text_into_numbers(self) -> bool:
        """Number-like text is stored as a number, so that text and numbers never look alike."""
        return self in (Affinity.INTEGER, Affinity.REAL, Affinity.NUMERIC)


class Collation(Enum):
    """How a column compares text where nothing else is said."""

    BINARY = "binary"  # byte for byte
    OTHER = "other"  # NOCASE or RTRIM
    UNKNOWN = "unknown"  # the application brings it; nobody else can compare the column


_TIMESTAMP = pa.timestamp("us")
_TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
_WORDS = {
    pa.int64(): "INT INTEGER TINYINT SMALLINT MEDIUMINT BIGINT INT2 INT4 INT8|BIG INT",
    pa.string(): "TEXT TINYTEXT MEDIUMTEXT LONGTEXT CHAR CHARACTER VARCHAR NCHAR NVARCHAR CLOB JSON"
    "|VARYING CHARACTER|CHARACTER VARYING|NATIVE CHARACTER",
    pa.float64(): "REAL FLOAT DOUBLE NUMERIC DECIMAL DEC NUMBER|DOUBLE PRECISION",
    pa.binary(): "BLOB TINYBLOB MEDIUMBLOB LONGBLOB BINARY VARBINARY",
    pa.bool_(): "BOOL BOOLEAN",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    _TIMESTAMP: "DATETIME TIMESTAMP|TIMESTAMP WITHOUT TIME ZONE",
    _TIMESTAMPTZ: "TIMESTAMPTZ|TIMESTAMP WITH TIME ZONE",
}
DECIMALS = ("NUMERIC", "DECIMAL", "DEC", "NUMBER")
_SHAPE = re.compile(r"(?P<name>[^()]*?)(?:\((?P<first>\d+)(?:,(?P<second>\d+))?\))?")


def _by_word() -> dict[str, pa.DataType]:
    found = {}
    for data_type, words in _WORDS.items():
        single, *phrases = words.split("|")
        found.update(dict.fromkeys([*single.split(), *phrases], data_type))
    return found


BY_WORD = _by_word()
"""Declared types, in capitals and without a size, and what they are read as."""


def affinity(declared: str) -> Affinity:
    """The affinity of a column declared so, by SQLite's five rules, in their order."""
    upper = declared.upper()
    if "INT" in upper:
        return Affinity.INTEGER
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return Affinity.TEXT
    if "BLOB" in upper or not upper:
        return Affinity.BLOB
    if any(word in upper for word in ("REAL", "FLOA", "DOUB")):
        return Affinity.REAL
    return Affinity.NUMERIC


CLASSES = ("integer", "real", "text", "blob")
"""SQLite's storage classes, NULL apart: of each value, whatever its column."""

_HELD: Mapping[Affinity, tuple[str, ...]] = {
    Affinity.TEXT: ("text", "blob"),
    Affinity.REAL: ("real", "text", "blob"),
}
_HELD_STRICTLY: Mapping[Affinity, tuple[str, ...]] = {
    Affinity.INTEGER: ("integer",),
    Affinity.REAL: ("real",),
    Affinity.TEXT: ("text",),
    Affinity.BLOB: ("blob",),
}


def held_classes(declared: str, *, strict: bool) -> tuple[str, ...]:
    """The storage classes that values of a table's column can have.

    In a STRICT table that of its type; in others an affinity converts some (numbers to text,
    integers to reals), and bytes may be texts: numbers are not looked for among them.
    """
    if strict:
        return CLASSES if declared == "ANY" else _HELD_STRICTLY[affinity(declared)]
    if declared_type(declared) == pa.binary():
        return ("text", "blob")
    return _HELD.get(affinity(declared), CLASSES)


def taken_classes(wanted: pa.DataType, declared: str) -> tuple[str, ...]:
    """The storage classes of which some value can be read as this Arrow type, as `sqlite_values`
    does it."""
    if pa.types.is_boolean(wanted) or pa.types.is_integer(wanted):
        return ("integer",)
    if pa.types.is_floating(wanted):
        return ("integer", "real")
    if pa.types.is_binary(wanted):
        return ("blob",)
    numeric = affinity(declared).turns_text_into_numbers
    if pa.types.is_decimal(wanted) or (pa.types.is_string(wanted) and numeric):
        return ("integer", "real", "text")
    return ("text",)


def can_be_read(declared: str, held: tuple[str, ...], wanted: pa.DataType) -> bool:
    """Whether a column that is declared so, whose values have these storage classes, may be read
    as this Arrow type.

    Not if no value of it could, nor what is declared to be bytes as a number or a time.
    """
    is_bytes = declared_type(declared) == pa.binary() and held != CLASSES
    if is_bytes and not (pa.types.is_binary(wanted) or pa.types.is_string(wanted)):
        return False
    return not set(held).isdisjoint(taken_classes(wanted, declared))


def arrow_type(
    table: str, column: str, declared: str, types: Mapping[str, str], held: tuple[str, ...]
) -> pa.DataType:
    """The Arrow type of a column, by the stream's `types` or else by what its declaration means.

    `held` are the storage classes that its values can have. An entry of `types` names the column or
    a declared type, in any case; the column wins. Raises ConfigurationError where neither settles
    it, or the column cannot be read as the entry says.
    """
    chosen = _entry(types, column) or (_entry(types, declared) if declared else None)
    if chosen is not None:
        try:
            wanted = parse_type(chosen)
        except ValueError as error:
            raise ConfigurationError(
                f"The type of column {table}.{column} cannot be used: {error}. Mend the entry in "
                f"`types` of its stream."
            ) from error
        if not can_be_read(declared, held, wanted):
            raise ConfigurationError(
                f"Column {table}.{column} is declared {declared}, which cannot be read as "
                f'{type_name(wanted)}: no value of it would be one. Set types."{column}" of its '
                f"stream to {_readable(declared, held)}, or take the entry away."
            )
        return wanted
    known = declared_type(declared)
    if known is not None:
        return known
    what = f"is declared {declared}, which says too little" if declared else "has no declared type"
    entry = f'types."{column}"' + (f' or types."{declared}"' if declared else "")
    raise ConfigurationError(
        f"Column {table}.{column} {what} of what it holds. Set {entry} of the stream to one of "
        f"{', '.join(KNOWN)}, or leave the column out with `exclude`; `text` takes numbers and "
        f"text alike where the column has been declared with a numeric type."
    )


def _readable(declared: str, held: tuple[str, ...]) -> str:
    """The names of the types that it can be read as."""
    sized = [(name, parse_type(name.replace("P,S", "38,10"))) for name in KNOWN]
    fit = [name for name, kind in sized if can_be_read(declared, held, kind)]
    return fit[0] if len(fit) == 1 else f"{', '.join(fit[:-1])} or {fit[-1]}"


def _entry(types: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in types.items() if key.lower() == name.lower()), None)


def declared_type(declared: str) -> pa.DataType | None:
    """The Arrow type that a declaration means; None where it says too little."""
    compact = re.sub(r"\s*([(),])\s*", r"\1", " ".join(declared.upper().split()))
    unsigned = re.sub(r"^(UN)?SIGNED | (UN)?SIGNED$", "", compact)
    shape = _SHAPE.fullmatch(unsigned)
    if shape is None:
        return None
    known = BY_WORD.get(shape["name"])
    if shape["name"] in DECIMALS and shape["first"]:
        precision, scale = int(shape["first"]), int(shape["second"] or 0)
        fits = 1 <= precision <= 38 and scale <= precision
        return pa.decimal128(precision, scale) if fits else None
    return known
