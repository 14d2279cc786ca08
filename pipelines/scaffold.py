"""Writes a first pipeline file for the tables of a source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rowtrail.connectors.base import Capture, Catalog, OffersCaptures, Source, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import known_scheme, open_source
from rowtrail.pipelines.config import VARIABLE, located, with_environment
from rowtrail.pipelines.definition import default_slot
from rowtrail.pipelines.table_names import stream_name
from rowtrail.pipelines.url_secrets import MaskedUrl, mask


@dataclass(frozen=True, kw_only=True)
class Scaffold:
    """What a new pipeline file holds."""

    streams: tuple[str, ...]
    left_out: Mapping[str, str]  # table -> why it cannot be a stream as it is
    capture: str = Capture.TRIGGER.value
    variables: tuple[str, ...] = ()  # stand for passwords in the file, and must be exported


def write_pipeline_file(path: Path, *, name: str, source: str, destination: str) -> Scaffold:
    """Writes a file with a stream for each table that has a key.

    Tables that cannot be a stream as they are stand in the file as comments that say why. The
    capture is the best that the source offers. No password of the URLs is written: a variable
    stands in its place. The URLs start at the current folder. A file that is there already is not
    overwritten, and nothing is written when no table can be a stream: ConfigurationError.
    """
    known_scheme("destination", with_environment(destination, "destination"))
    if path.exists():
        raise _already_there(path)
    opened = open_source(with_environment(source, "source"))
    try:
        captures = _captures(opened)
        tables, left_out = _tables(opened, captures[0], default_slot(name))
    finally:
        opened.close()
    if not tables:
        why = "".join(f" {table}: {words}" for table, words in left_out.items())
        raise ConfigurationError(
            f"The source has no table that can be a stream, so {path} was not written.{why}"
        )
    urls = {"source": mask(source, "source"), "destination": mask(destination, "destination")}
    text = _head(path, name, urls, captures) + _sections(tables, left_out)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _already_there(path) from None
    except OSError as error:
        raise ConfigurationError(
            f"The pipeline file {path} cannot be written: {error.strerror}. Name another one with "
            f"-p FILE."
        ) from error
    return Scaffold(
        streams=tuple(map(stream_name, tables)),
        left_out=left_out,
        capture=captures[0].value,
        variables=tuple(one for url in urls.values() for one in url.variables),
    )


def _already_there(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is there already and was not changed. Name another file with -p FILE."
    )


def _captures(source: Source) -> tuple[Capture, ...]:
    """What the source can do, the best first."""
    return source.captures if isinstance(source, OffersCaptures) else (Capture.TRIGGER,)


def _tables(source: Source, capture: Capture, slot: str) -> tuple[list[str], dict[str, str]]:
    """The tables that can be streams, and why the others cannot."""
    if not isinstance(source, Catalog):
        raise ConfigurationError(
            "This source cannot list its tables; write the pipeline file by hand."
        )
    fit: list[str] = []
    left_out: dict[str, str] = {}
    for table in source.tables():
        if VARIABLE.search(table):
            left_out[table] = (
                "Its name would be taken for an environment variable. A pattern such as "
                '[streams."*"] can take it.'
            )
            continue
        spec = StreamSpec(name=stream_name(table), table=table, capture=capture, log=slot)
        try:
            source.describe(spec)
        except ConfigurationError as error:
            left_out[table] = str(error)
        else:
            fit.append(table)
    return fit, left_out


def _head(
    path: Path, name: str, urls: Mapping[str, MaskedUrl], captures: tuple[Capture, ...]
) -> str:
    if path.resolve().parent != Path.cwd():
        # Paths in the file start at the file's folder.
        urls = {kind: replace(one, url=located(one.url, Path.cwd())) for kind, one in urls.items()}
    lines = ["[pipeline]", f"name = {_toml(name)}"]
    for kind, one in urls.items():
        note = f" # the password is in {' and '.join(one.variables)}" if one.variables else ""
        lines.append(f"{kind} = {_toml(one.url)}{note}")
    others = ", ".join(capture.value for capture in captures[1:])
    lines += [
        "",
        "[defaults]",
        f"capture = {_toml(captures[0].value)}" + (f" # or {others}" if others else ""),
        'deletes = "soft" # or hard',
    ]
    return "\n".join([*lines, ""])


def _sections(tables: list[str], left_out: Mapping[str, str]) -> str:
    streams = [f"\n[streams.{_toml_key(stream_name(one))}]\n{_table(one)}" for one in tables]
    comments = [
        f"\n# [streams.{_toml_key(stream_name(table))}]\n{_commented(_table(table))}"
        f"# left out: {_one_line(words)}\n"
        for table, words in left_out.items()
    ]
    return "".join([*streams, *comments])


def _table(table: str) -> str:
    """The setting that names the table, where the stream has another name."""
    return "" if stream_name(table) == table else f"table = {_toml(table)}\n"


def _commented(line: str) -> str:
    return f"# {line}" if line else ""


def _one_line(text: str) -> str:
    """As a comment of TOML takes it: names of tables may hold anything."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def _toml_key(name: str) -> str:
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else _toml(name)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
