"""Options that every command has, and how answers are printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.pipelines.definition import PipelineDefinition

PipelineFile = Annotated[
    Path, typer.Option("--pipeline", "-p", help="The pipeline's TOML file.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DEFAULT_FILE = Path("rowtrail.toml")

COMPLETE_EXCEPT = 3


def read_pipeline(path: Path) -> PipelineDefinition:
    """The pipeline of the file; ConfigurationError tells all its mistakes."""
    from rowtrail.pipelines.config import load_pipeline

    return load_pipeline(path)


@contextmanager
def ledger_of(definition: PipelineDefinition) -> Iterator[Ledger]:
    """The pipeline's ledger, without its lease: for reading and for requests."""
    from rowtrail.checkpoints.ledger import open_ledger

    ledger = open_ledger(definition.ledger, definition.name)
    try:
        yield ledger
    finally:
        ledger.close()


def record_id_of(definition: PipelineDefinition, stream: str, text: str) -> RecordId:
    """The record that a person names: the key's types come from the source when it answers."""
    from rowtrail.checkpoints.record_id import RecordId, parse_key
    from rowtrail.connectors.errors import ConfigurationError, RowtrailError
    from rowtrail.connectors.registry import open_source

    spec = stream_of(definition, stream).source_spec()
    try:
        source = open_source(definition.source)
        try:
            types = [field.type for field in source.describe(spec).arrow_key()]
        finally:
            source.close()
    except RowtrailError:
        # At 8 a.m. the source may be away; the ledger can still answer for what was typed.
        return RecordId.parse(f"{stream}:{text}")
    try:
        return RecordId(stream, parse_key(text, types))
    except ValueError as error:
        raise ConfigurationError(f"{stream} {text}: {error}") from error


def stream_of(definition: PipelineDefinition, name: str) -> Any:
    """The stream's definition; ConfigurationError lists the known ones."""
    from rowtrail.connectors.errors import ConfigurationError

    try:
        return definition.stream(name)
    except KeyError:
        names = ", ".join(stream.name for stream in definition.streams)
        raise ConfigurationError(
            f"Pipeline {definition.name} has no stream {name}. Its streams are {names}."
        ) from None


def print_json(value: object) -> None:
    """One JSON document; times as ISO 8601, values of databases as text."""
    print(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], numbers: int = 0) -> None:
    """A plain table; the last `numbers` columns are set flush right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        right = index >= len(columns) - numbers
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console(highlight=False).print(table)


def when(moment: datetime | None) -> str:
    """A time as a person reads it, in UTC to the second."""
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")
