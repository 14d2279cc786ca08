"""Writes a first pipeline file for the tables of a source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rowtrail.connectors.base import Capture, Catalog, Source, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import known_scheme, open_source
from rowtrail.pipelines.config import located


@dataclass(frozen=True, kw_only=True)
class Scaffold:
    """What a new pipeline file holds."""

    streams: tuple[str, ...]
    left_out: Mapping[str, str]  # table -> why it cannot be a stream as it is


def write_pipeline_file(path: Path, *, name: str, source: str, destination: str) -> Scaffold:
    """Writes a file with a stream for each table that has a key.

    Tables that cannot be a stream as they are stand in the file as comments that say why. The URLs
    start at the current folder. A file that is there already is not overwritten, and nothing is
    written when no table can be a stream: ConfigurationError.
    """
    known_scheme("destination", destination)
    if path.exists():
        raise _already_there(path)
    opened = open_source(source)
    try:
        found = _tables(opened)
    finally:
        opened.close()
    if not found.streams:
        why = "".join(f" {table}: {words}" for table, words in found.left_out.items())
        raise ConfigurationError(
            f"The source has no table that can be a stream, so {path} was not written.{why}"
        )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_text(path, found, name, source, destination))
    except FileExistsError:
        raise _already_there(path) from None
    except OSError as error:
        raise ConfigurationError(
            f"The pipeline file {path} cannot be written: {error.strerror}. Name another one with "
            f"-p FILE."
        ) from error
    return found


def _already_there(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is there already and was not changed. Name another file with -p FILE."
    )


def _tables(source: Source) -> Scaffold:
    if not isinstance(source, Catalog):
        raise ConfigurationError(
            "This source cannot list its tables; write the pipeline file by hand."
        )
    streams: list[str] = []
    left_out: dict[str, str] = {}
    for table in source.tables():
        try:
            source.describe(StreamSpec(name=table, table=table, capture=Capture.TRIGGER))
        except ConfigurationError as error:
            left_out[table] = str(error).replace("\n", " ")
        else:
            streams.append(table)
    return Scaffold(streams=tuple(streams), left_out=left_out)


def _text(path: Path, found: Scaffold, name: str, source: str, destination: str) -> str:
    if path.resolve().parent != Path.cwd():
        # Paths in the file start at the file's folder.
        source, destination = located(source, Path.cwd()), located(destination, Path.cwd())
    head = (
        f"[pipeline]\nname = {_toml(name)}\nsource = {_toml(source)}\n"
        f"destination = {_toml(destination)}\n\n"
        f'[defaults]\ncapture = "trigger" # or cursor, or snapshot\ndeletes = "soft" # or hard\n'
    )
    sections = [f"[streams.{_toml_key(table)}]\n" for table in found.streams]
    sections += [
        f"# [streams.{_toml_key(table)}]\n# left out: {words}\n"
        for table, words in found.left_out.items()
    ]
    return "\n".join([head, *sections])


def _toml_key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else _toml(name)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
