"""Reads a pipeline from a TOML file; every mistake in it is reported at once, with its place."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rowtrail.connectors.base import Capture, Deletes
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import known_scheme
from rowtrail.connectors.type_names import parse_type
from rowtrail.pipelines.definition import (
    DEFAULT_BATCH_ROWS,
    Breakers,
    PipelineDefinition,
    StreamDefinition,
)
from rowtrail.pipelines.transforms import Transform, load

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE_SCHEMES = ("sqlite", "duckdb")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PipelineSection(_Model):
    """What the whole pipeline shares."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", description="Names the ledger")]
    source: Annotated[str, Field(description="URL of the database to read, e.g. sqlite:///shop.db")]
    destination: Annotated[str, Field(description="URL of the warehouse, e.g. duckdb:///dw.duckdb")]
    ledger: Annotated[str | None, Field(description="File; .rowtrail/NAME.ledger if not set")] = (
        None
    )
    install_capture: Annotated[
        bool, Field(description="A run may make change logs and triggers at the source")
    ] = False


class StreamSection(_Model):
    """One source table. What is not set comes from [defaults]."""

    table: Annotated[str | None, Field(description="The stream's name if not set")] = None
    target: Annotated[str | None, Field(description="The stream's name if not set")] = None
    capture: Annotated[
        Literal["trigger", "cursor", "snapshot"] | None, Field(description="How changes are found")
    ] = None
    deletes: Annotated[
        Literal["soft", "hard"] | None, Field(description="What a delete does at the target")
    ] = None
    key: Annotated[list[str] | None, Field(description="The primary key if not set")] = None
    cursor: Annotated[str | None, Field(description="Updated-at column, for capture cursor")] = None
    cursor_lag: Annotated[
        float | None, Field(ge=0, description="Read so far back again; seconds, or cursor units")
    ] = None
    columns: Annotated[list[str] | None, Field(description="Columns to take; all if not set")] = (
        None
    )
    exclude: Annotated[list[str] | None, Field(description="Columns to leave out")] = None
    types: Annotated[
        dict[str, str] | None, Field(description="Column or declared type -> type name")
    ] = None
    transforms: Annotated[
        list[str] | None, Field(description="module:function, in their order")
    ] = None
    batch_rows: Annotated[int | None, Field(ge=1, le=1_000_000, description="Rows a batch")] = None
    capture_images: Annotated[
        bool | None, Field(description="Keep the row of a failed record in the ledger")
    ] = None


class BreakersSection(_Model):
    """When a stream stops and asks."""

    failed_records: Annotated[int, Field(ge=0)] = Breakers.failed_records
    failed_share: Annotated[float, Field(ge=0, le=1)] = Breakers.failed_share
    deleted_share: Annotated[float, Field(ge=0, le=1)] = Breakers.deleted_share
    sample: Annotated[int, Field(ge=1)] = Breakers.sample
    attempts: Annotated[int, Field(ge=1)] = Breakers.attempts


class File(_Model):
    """A pipeline's TOML file."""

    pipeline: PipelineSection
    defaults: StreamSection = StreamSection()
    streams: dict[str, StreamSection]
    breakers: BreakersSection = BreakersSection()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return File.model_json_schema()


def load_pipeline(path: Path) -> PipelineDefinition:
    """The pipeline in the file at `path`; relative paths in it start at its folder.

    Raises ConfigurationError that lists all mistakes, each with its place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no pipeline file {path}. Name it with -p FILE, or make one with "
            f"`rowtrail init SOURCE DESTINATION`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The pipeline file {path} cannot be read: {error}.") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_toml_mistake(path, text, error)) from error
    mistakes: list[str] = []
    data = _with_environment(data, "", mistakes)
    try:
        file = File.model_validate(data)
    except ValidationError as error:
        mistakes += [_mistake(item) for item in error.errors(include_input=False)]
        raise ConfigurationError(_report(path, mistakes)) from None
    definition = _definition(file, path.resolve().parent, mistakes)
    if mistakes:
        raise ConfigurationError(_report(path, mistakes))
    return definition


def _toml_mistake(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    twice = re.search(r"Cannot declare \('streams', '([^']+)'\) twice", str(error))
    if twice:
        lines = [
            str(number)
            for number, line in enumerate(text.splitlines(), 1)
            if re.fullmatch(rf"\[streams\.[\"']?{re.escape(twice[1])}[\"']?\]", line.strip())
        ]
        return (
            f"The pipeline file {path} has the stream {twice[1]} twice (lines "
            f"{' and '.join(lines)}). Give one of them another name and set `table`."
        )
    return f"The pipeline file {path} is not valid TOML: {error}."


def _with_environment(value: Any, place: str, mistakes: list[str]) -> Any:
    """Puts environment variables in for ${NAME}; a missing one is a mistake."""
    if isinstance(value, Mapping):
        return {
            key: _with_environment(one, f"{place}.{key}".lstrip("."), mistakes)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_with_environment(one, place, mistakes) for one in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            mistakes.append(f"{place}: the environment variable {match[1]} is not set")
            return match[0]
        return os.environ[match[1]]

    return _VARIABLE.sub(put, value)


def _mistake(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    words = {
        "extra_forbidden": "there is no such setting",
        "missing": "is missing",
    }
    return f"{place}: {words.get(item['type'], item['msg'])}"


def _report(path: Path, mistakes: list[str]) -> str:
    count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    listed = "\n".join(f"  - {mistake}" for mistake in mistakes)
    return f"The pipeline file {path} has {count}:\n{listed}"


def _definition(file: File, folder: Path, mistakes: list[str]) -> PipelineDefinition:
    for kind, url in (
        ("source", file.pipeline.source),
        ("destination", file.pipeline.destination),
    ):
        try:
            known_scheme(kind, url)
        except ConfigurationError as error:
            mistakes.append(f"pipeline.{kind}: {error}")
    if not file.streams:
        mistakes.append("streams: there is none; add one, for example [streams.orders]")
    streams = tuple(
        _stream(name, section, file.defaults, folder, mistakes)
        for name, section in file.streams.items()
    )
    _check_targets(streams, mistakes)
    ledger = file.pipeline.ledger or f".rowtrail/{file.pipeline.name}.ledger"
    return PipelineDefinition(
        name=file.pipeline.name,
        source=_located(file.pipeline.source, folder),
        destination=_located(file.pipeline.destination, folder),
        ledger=folder / ledger,
        streams=streams,
        breakers=Breakers(**file.breakers.model_dump()),
        install_capture=file.pipeline.install_capture,
    )


def _check_targets(streams: tuple[StreamDefinition, ...], mistakes: list[str]) -> None:
    seen: dict[str, str] = {}
    for stream in streams:
        other = seen.setdefault(stream.target.lower(), stream.name)
        if other != stream.name:
            mistakes.append(
                f"streams.{stream.name}.target: {stream.target} is the target of stream {other} "
                f"already; two streams cannot fill one table"
            )


def _stream(
    name: str, section: StreamSection, defaults: StreamSection, folder: Path, mistakes: list[str]
) -> StreamDefinition:
    given = {**defaults.model_dump(exclude_none=True), **section.model_dump(exclude_none=True)}
    types = {**(defaults.types or {}), **(section.types or {})}
    place = f"streams.{name}"
    capture = given.get("capture")
    if capture is None:
        mistakes.append(f"{place}.capture: is missing; it is trigger, cursor or snapshot")
    if capture == "cursor" and not given.get("cursor"):
        mistakes.append(f'{place}.cursor: capture = "cursor" needs the updated-at column\'s name')
    if given.get("columns") and given.get("exclude"):
        mistakes.append(f"{place}: set columns or exclude, not both")
    for column, text in types.items():
        try:
            parse_type(text)
        except ValueError as error:
            mistakes.append(f"{place}.types.{column}: {error}")
    return StreamDefinition(
        name=name,
        table=given.get("table", name),
        target=given.get("target", name),
        capture=Capture(capture or "snapshot"),
        deletes=Deletes(given.get("deletes", "soft")),
        key=tuple(given.get("key", ())),
        cursor=given.get("cursor"),
        cursor_lag=given.get("cursor_lag", 0.0),
        include=tuple(given.get("columns", ())),
        exclude=tuple(given.get("exclude", ())),
        types=types,
        transforms=_transforms(place, given.get("transforms", []), folder, mistakes),
        batch_rows=given.get("batch_rows", DEFAULT_BATCH_ROWS),
        capture_images=given.get("capture_images", True),
    )


def _transforms(
    place: str, references: list[str], folder: Path, mistakes: list[str]
) -> tuple[Transform, ...]:
    found = []
    for reference in references:
        try:
            found.append(load(reference, folder))
        except ConfigurationError as error:
            mistakes.append(f"{place}.transforms: {error}")
    return tuple(found)


def _located(url: str, folder: Path) -> str:
    """A file URL with a relative path, from the configuration file's folder instead."""
    scheme, found, rest = url.partition(":///")
    if not found or scheme.lower() not in _FILE_SCHEMES or rest.startswith("/") or not rest:
        return url
    path, question, query = rest.partition("?")
    return f"{scheme}:///{folder / path}{question}{query}"
