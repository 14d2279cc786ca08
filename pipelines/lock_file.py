"""`rowtrail.lock`: the shapes of the source's tables that were agreed on, to be kept with the code.

A JSON document with one line for each column, so that a change of the source is a difference that
people can review.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.type_names import parse_type, type_name

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class LockFile:
    """The agreed shape of each stream's table; `path` is where it is, or would be."""

    path: Path
    pipeline: str
    streams: Mapping[str, TableSchema] = field(default_factory=dict)


def read_lock(path: Path, pipeline: str) -> LockFile:
    """The lock file of a pipeline; an empty one where there is none.

    Raises ConfigurationError for a file that is no lock file, of a later format, or of another
    pipeline.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return LockFile(path=path, pipeline=pipeline)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The lock file {path} cannot be read: {error}.") from error
    try:
        data = json.loads(text)
        version = data["rowtrail_lock"]
        if version == FORMAT:
            owner = str(data["pipeline"])
            streams = {str(name): _schema(one) for name, one in data["streams"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"The file {path} is no lock file of Rowtrail: {_words(error)}. Take it back from your "
            f"version control, or move it away and write it anew with `rowtrail schema --accept`."
        ) from error
    if version != FORMAT:
        raise ConfigurationError(
            f"The lock file {path} has format {version}, and this Rowtrail knows {FORMAT}. Use the "
            f"Rowtrail that wrote it."
        )
    if owner != pipeline:
        raise ConfigurationError(
            f"The lock file {path} is of pipeline {owner}, not of {pipeline}. Give each pipeline a "
            f"lock file of its own: set `lock` in [pipeline]."
        )
    return LockFile(path=path, pipeline=pipeline, streams=streams)


def write_lock(lock: LockFile) -> None:
    """Puts it in the place of the one before, in one step."""
    made: Path | None = None
    try:
        with NamedTemporaryFile(
            "w", dir=lock.path.parent, prefix=lock.path.name, delete=False, encoding="utf-8"
        ) as file:
            made = Path(file.name)
            file.write(_text(lock))
        made.chmod(0o644)
        made.replace(lock.path)
    except OSError as error:
        if made is not None:
            made.unlink(missing_ok=True)
        raise ConfigurationError(
            f"The lock file {lock.path} cannot be written: {error.strerror}."
        ) from error


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return str(error) if isinstance(error, ValueError) else "its parts are not where they belong"


def _schema(data: Mapping[str, Any]) -> TableSchema:
    return TableSchema(
        table=str(data["table"]),
        columns=tuple(
            Column(
                name=str(one["name"]),
                type=_type(one["type"]),
                nullable=bool(one["nullable"]),
                declared=str(one["declared"]),
            )
            for one in data["columns"]
        ),
        key=tuple(map(str, data["key"])),
    )


def _type(name: str) -> pa.DataType:
    """Also of a type that Rowtrail itself has no name for."""
    try:
        return parse_type(name)
    except ValueError:
        return pa.type_for_alias(name)


def _text(lock: LockFile) -> str:
    streams = ",\n".join(
        f"    {_json(name)}: {{\n"
        f'      "table": {_json(schema.table)},\n'
        f'      "key": {_json(schema.key)},\n'
        f'      "columns": [\n{_columns(schema)}\n      ]\n'
        f"    }}"
        for name, schema in lock.streams.items()
    )
    return (
        f'{{\n  "rowtrail_lock": {FORMAT},\n  "pipeline": {_json(lock.pipeline)},\n'
        f'  "streams": {{\n{streams}\n  }}\n}}\n'
    )


def _columns(schema: TableSchema) -> str:
    return ",\n".join(
        f"        {_json(column)}"
        for column in (
            {
                "name": one.name,
                "type": type_name(one.type),
                "nullable": one.nullable,
                "declared": one.declared,
            }
            for one in schema.columns
        )
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
