"""Row-wise transforms on pandas DataFrames: declared, loaded, and applied to Arrow rows.

A transform is a function of each row: deterministic, one row in, one or no row out. It gets a
DataFrame with ArrowDtype columns and returns one with the same index, less the rows it drops.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError, RecordError, RowtrailError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.type_names import parse_type
from rowtrail.pipelines.beside import import_beside, source_files

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Function = Callable[[pd.DataFrame], pd.DataFrame]
    F = TypeVar("F", bound=Function)

_DECLARATION = "__rowtrail_transform__"


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A function and what it declares to change in the shape of the rows."""

    name: str  # `module:function`, as outcomes and messages name it
    function: Function
    adds: Mapping[str, str] = field(default_factory=dict)  # new column -> type name
    drops: tuple[str, ...] = ()
    fingerprint: str = ""  # of the code, so that a retry can tell that it was mended

    def output(self, schema: TableSchema) -> TableSchema:
        """The shape of the rows after this transform; raises ConfigurationError."""
        unknown = [name for name in self.drops if name not in schema.names]
        lost_key = [name for name in self.drops if name in schema.key]
        again = [name for name in self.adds if name in schema.names]
        if unknown or lost_key or again:
            problem = (
                f"drops {', '.join(unknown)}, which table {schema.table} does not have"
                if unknown
                else f"drops the key column {', '.join(lost_key)}"
                if lost_key
                else f"adds {', '.join(again)}, which table {schema.table} has already"
            )
            raise ConfigurationError(
                f"Transform {self.name} {problem}. Correct its `adds` and `drops`."
            )
        kept = tuple(column for column in schema.columns if column.name not in self.drops)
        added = tuple(
            Column(name=name, type=self._added_type(name, text)) for name, text in self.adds.items()
        )
        return TableSchema(table=schema.table, columns=kept + added, key=schema.key)

    def _added_type(self, column: str, text: str) -> pa.DataType:
        try:
            return parse_type(text)
        except ValueError as error:
            raise ConfigurationError(
                f"Transform {self.name} adds column {column}: {error}."
            ) from error


@overload
def transform(function: F) -> F: ...
@overload
def transform(*, adds: Mapping[str, str] = ..., drops: Sequence[str] = ...) -> Callable[[F], F]: ...
def transform(
    function: F | None = None,
    *,
    adds: Mapping[str, str] | None = None,
    drops: Sequence[str] = (),
) -> F | Callable[[F], F]:
    """Declares a function to be a transform, with the columns it adds (and their types) or drops.

    The function itself is returned unchanged, so that it can be tested like any other.
    """

    def declare(declared: F) -> F:
        setattr(declared, _DECLARATION, (dict(adds or {}), tuple(drops)))
        return declared

    return declare if function is None else declare(function)


def from_function(function: Function, name: str | None = None) -> Transform:
    """The transform that a function declares; an undeclared one changes no columns."""
    adds, drops = getattr(function, _DECLARATION, ({}, ()))
    return Transform(
        name=name or f"{function.__module__}:{function.__qualname__}",
        function=function,
        adds=adds,
        drops=drops,
        fingerprint=_code_fingerprint(function),
    )


def load(reference: str, folder: Path) -> Transform:
    """The transform at `module:function`; modules beside the configuration file are found first.

    Its fingerprint covers the modules beside the file that it imports. Raises ConfigurationError
    when there is no such module or function.
    """
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise ConfigurationError(
            f"Transform {reference!r} is not of the form module:function, for example "
            f"transforms:clean_orders."
        )
    module = _import(module_name, folder, reference)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigurationError(
            f"Transform {reference}: module {module_name} has no function {function_name}."
        )
    loaded = from_function(function, name=reference)
    files = source_files(module_name, folder)
    return replace(loaded, fingerprint=_files_fingerprint(files)) if files else loaded


def _import(module_name: str, folder: Path, reference: str) -> object:
    try:
        with redirect_stdout(sys.stderr):
            return import_beside(module_name, folder)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Transform {reference}: there is no module {error.name}. It is looked for in "
            f"{folder} and among the installed packages."
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"Transform {reference}: importing {module_name} fails with "
            f"{type(error).__name__}: {error}"
        ) from error


def _files_fingerprint(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _code_fingerprint(function: Function) -> str:
    """Changes with the module's text, since a transform may call helpers beside it."""
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        source = code.co_code.hex() if code else repr(function)
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Transformed:
    """What one call gave: the rows kept, as they came, before any cast."""

    kept: pa.Array  # int64 row numbers of the input that are still there, rising
    columns: tuple[pa.Array, ...]  # in the order of the output's schema, aligned with `kept`


def call(step: Transform, rows: pa.RecordBatch, output: TableSchema) -> Transformed:
    """Calls the transform once.

    What it did not touch is taken from `rows`, so that no value changes on its way through pandas.
    Raises RecordError from whatever the function raises, or when it changed a key;
    ConfigurationError when its result is no DataFrame, or has other columns or rows than declared.
    """
    import numpy as np
    import pandas as pd

    frame = pa.Table.from_batches([rows]).to_pandas(types_mapper=pd.ArrowDtype)
    try:
        # What it prints is no answer of a command, which may have to be one JSON document.
        with redirect_stdout(sys.stderr):
            result = step.function(frame)
    except RowtrailError:
        raise
    except Exception as error:
        raise RecordError(_words(error)) from error
    if not isinstance(result, pd.DataFrame):
        raise ConfigurationError(
            f"Transform {step.name} returned {type(result).__name__} instead of a DataFrame. "
            f"Does the function end with a return?"
        )
    _check_columns(step, result, output)
    kept = _kept_rows(step, result, len(rows))
    if len(kept) and not bool(np.all(np.diff(kept) > 0)):
        order = np.argsort(kept, kind="stable")
        result, kept = result.iloc[order], kept[order]
    indices = pa.array(kept, type=pa.int64())
    columns = tuple(
        _column(result[column.name], column, rows, indices) for column in output.columns
    )
    for name in output.key:
        position = output.names.index(name)
        before = rows.column(name).take(indices)
        if not columns[position].equals(before):
            raise RecordError(
                f"transform {step.name} changed the key column {name}; a record keeps its key",
                column=name,
            )
    return Transformed(kept=indices, columns=columns)


def _words(error: Exception) -> str:
    """What an exception says; Python's own say too little without their name."""
    text = str(error)
    named = type(error).__module__ == "builtins" or not text
    return f"{type(error).__name__}: {text}" if named else text


def _check_columns(step: Transform, result: pd.DataFrame, output: TableSchema) -> None:
    missing = [name for name in output.names if name not in result.columns]
    extra = [str(name) for name in result.columns if name not in output.names]
    lost_key = [name for name in missing if name in output.key]
    if lost_key:
        raise ConfigurationError(
            f"Transform {step.name} lost the key column {', '.join(lost_key)} of table "
            f"{output.table}. Return it unchanged: a record is found by its key."
        )
    if missing:
        raise ConfigurationError(
            f"Transform {step.name} did not return column {', '.join(missing)}. If it is to go, "
            f"declare it: @transform(drops={missing!r})."
        )
    if extra:
        raise ConfigurationError(
            f"Transform {step.name} returned column {', '.join(extra)}, which it does not declare. "
            f"Declare it with its type, for example @transform(adds={{{extra[0]!r}: 'text'}})."
        )


def _kept_rows(
    step: Transform, result: pd.DataFrame, length: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    import numpy as np

    index = result.index.to_numpy()
    valid = index.dtype.kind in "iu" and (
        len(index) == 0 or (int(index.min()) >= 0 and int(index.max()) < length)
    )
    kept = index.astype(np.int64) if valid else np.empty(0, np.int64)
    # Counted by row number: np.unique takes some hundred times as long.
    if not valid or (np.bincount(kept, minlength=length) > 1).any():
        raise ConfigurationError(
            f"Transform {step.name} returned rows that it was not given: its index has other or "
            f"repeated labels. Keep the DataFrame's index, and return one row or none for each."
        )
    return kept


def _column(series: pd.Series, column: Column, rows: pa.RecordBatch, kept: pa.Array) -> pa.Array:
    """The result's column as Arrow; the original values where the transform did not touch them."""
    import pandas as pd

    if isinstance(series.dtype, pd.ArrowDtype):
        values = pa.array(series.array)
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if values.type.equals(column.type):
            return values
    else:
        try:
            values = pa.Array.from_pandas(series)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise RecordError(
                f"column {column.name} has values of several types after the transform: {error}",
                column=column.name,
            ) from error
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if column.name in rows.schema.names:
        original = rows.column(column.name).take(kept)
        if _untouched(original, values, series):
            return original
    return values


def _untouched(original: pa.Array, values: pa.Array, series: pd.Series) -> bool:
    """Whether the result is what pandas makes of the original when nobody touches it."""
    try:
        same_way = pa.Array.from_pandas(original.to_pandas().astype(series.dtype))
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        return False
    if isinstance(same_way, pa.ChunkedArray):
        same_way = same_way.combine_chunks()
    return bool(same_way.type.equals(values.type) and same_way.equals(values))
