"""Writes a first pipeline file for the tables of a source."""

from __future__ import annotations

import json
from pathlib import Path

from rowtrail.connectors.base import Capture, Catalog, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import known_scheme, open_source


def write_pipeline_file(path: Path, *, name: str, source: str, destination: str) -> list[str]:
    """Writes a file with a stream for each table that has a key; returns the streams' names.

    Tables that cannot be a stream as they are stand in the file as comments that say why. A file
    that is there already is not overwritten.
    """
    known_scheme("destination", destination)
    opened = open_source(source)
    try:
        if not isinstance(opened, Catalog):
            raise ConfigurationError(f"The source cannot list its tables; write {path} by hand.")
        streams: list[str] = []
        sections: list[str] = []
        for table in opened.tables():
            spec = StreamSpec(name=table, table=table, capture=Capture.TRIGGER)
            try:
                opened.describe(spec)
            except ConfigurationError as error:
                words = str(error).replace("\n", " ")
                sections.append(f"# [streams.{_toml_key(table)}]\n# left out: {words}\n")
                continue
            streams.append(table)
            sections.append(f"[streams.{_toml_key(table)}]\n")
    finally:
        opened.close()
    head = (
        f"[pipeline]\nname = {json.dumps(name)}\nsource = {json.dumps(source)}\n"
        f"destination = {json.dumps(destination)}\n\n"
        f'[defaults]\ncapture = "trigger"\ndeletes = "soft"\n'
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join([head, *sections]))
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already and was not changed. Name another file with -p."
        ) from None
    return streams


def _toml_key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else json.dumps(name, ensure_ascii=False)
