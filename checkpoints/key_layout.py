"""How key columns are stored: as 64-bit integers where nothing is lost by it, else as Arrow.

Integers, dates and times are one column of integers; text that holds nothing but UUIDs in their
usual spelling is two (a fifth of the size); everything else, and columns with NULL, stays Arrow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from rowtrail.checkpoints import uuid_text
from rowtrail.checkpoints.packing import Integers
from rowtrail.checkpoints.record_id import KeyValue, RecordId, from_arrow


class Codec(StrEnum):
    INTEGER = "integer"
    UUID = "uuid"
    ARROW = "arrow"


@dataclass(frozen=True)
class KeyColumns:
    """Key columns as they are stored: integers in the order of the key, and the rest as Arrow."""

    integers: tuple[Integers, ...]
    rest: pa.RecordBatch  # without columns when all are integers

    def take(self, order: NDArray[np.intp]) -> KeyColumns:
        return KeyColumns(
            tuple(column[order] for column in self.integers),
            self.rest.take(pa.array(order)) if self.rest.num_columns else self.rest,
        )


@dataclass(frozen=True)
class KeyLayout:
    """The types of key columns and how each is stored."""

    schema: pa.Schema
    codecs: tuple[Codec, ...]

    @classmethod
    def of(cls, keys: pa.RecordBatch) -> KeyLayout:
        """The layout that suits these keys best."""
        return cls(keys.schema.remove_metadata(), tuple(_codec(column) for column in keys.columns))

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyLayout:
        codecs, _, schema = data.partition(b"\n")
        schema = pa.ipc.read_schema(pa.py_buffer(schema))
        return cls(schema, tuple(Codec(name) for name in json.loads(codecs)))

    def to_bytes(self) -> bytes:
        return json.dumps(self.codecs).encode() + b"\n" + bytes(self.schema.serialize())

    @property
    def integer_columns(self) -> int:
        widths = {Codec.INTEGER: 1, Codec.UUID: 2, Codec.ARROW: 0}
        return sum(widths[codec] for codec in self.codecs)

    @property
    def rest_schema(self) -> pa.Schema:
        """The columns that stay Arrow."""
        fields = zip(self.schema, self.codecs, strict=True)
        return pa.schema([field for field, codec in fields if codec is Codec.ARROW])

    def columns(self, keys: pa.RecordBatch) -> KeyColumns:
        """Keys of this layout's schema as they are stored."""
        integers: list[Integers] = []
        rest = []
        for column, codec in zip(keys.columns, self.codecs, strict=True):
            if codec is Codec.INTEGER:
                integers.append(_integers(column))
            elif codec is Codec.UUID:
                integers.extend(uuid_text.halves(column))
            else:
                rest.append(column)
        return KeyColumns(
            tuple(integers), pa.RecordBatch.from_arrays(rest, schema=self.rest_schema)
        )

    def keys(self, columns: KeyColumns) -> pa.RecordBatch:
        """The inverse of `columns`."""
        integers, rest = iter(columns.integers), iter(columns.rest.columns)
        arrays = []
        for field, codec in zip(self.schema, self.codecs, strict=True):
            if codec is Codec.INTEGER:
                arrays.append(_from_integers(next(integers), field.type))
            elif codec is Codec.UUID:
                arrays.append(uuid_text.array(next(integers), next(integers), field.type))
            else:
                arrays.append(next(rest))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def row(self, key: Sequence[KeyValue]) -> KeyColumns | None:
        """One key as it is stored, or None when no key of this layout can equal it."""
        if len(key) != len(self.codecs):
            return None
        try:
            arrays = [
                pa.array([value], field.type) for value, field in zip(key, self.schema, strict=True)
            ]
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        keys = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        # Arrow turns 1.0 and True into 1, which is another key.
        if from_arrow("", keys) != [RecordId("", tuple(key))]:
            return None
        fits = zip(map(_codec, arrays), self.codecs, strict=True)
        if any(codec is not Codec.ARROW and own is not codec for own, codec in fits):
            return None
        return self.columns(keys)


def _codec(column: pa.Array) -> Codec:
    if column.null_count:
        return Codec.ARROW
    if types.is_integer(column.type) or types.is_temporal(column.type):
        return Codec.INTEGER
    if types.is_string(column.type) and uuid_text.is_canonical(column):
        return Codec.UUID
    return Codec.ARROW


def _integers(column: pa.Array) -> Integers:
    data_type = column.type
    if types.is_temporal(data_type):
        column = column.view(pa.int32() if data_type.bit_width == 32 else pa.int64())
    if types.is_uint64(data_type):
        column = column.view(pa.int64())
    values: Integers = column.cast(pa.int64()).to_numpy(zero_copy_only=True)
    return values


def _from_integers(values: Integers, data_type: pa.DataType) -> pa.Array:
    array = pa.array(values, pa.int64())
    if types.is_temporal(data_type):
        narrow = pa.int32() if data_type.bit_width == 32 else pa.int64()
        return array.cast(narrow).view(data_type)
    if types.is_uint64(data_type):
        return array.view(data_type)
    return array.cast(data_type)


def equal_values(column: pa.Array, value: pa.Scalar) -> NDArray[np.bool_]:
    """Which values of an Arrow column equal one of its own type; NULL equals NULL."""
    if not value.is_valid:
        equal = pc.is_null(column)
    elif isinstance(column, pa.ExtensionArray):
        equal = pc.equal(column.storage, value.value)
    else:
        equal = pc.equal(column, value)
    mask: NDArray[np.bool_] = equal.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
