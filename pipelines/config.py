"""Reads a pipeline from a TOML file; every mistake in it is reported at once, with its place."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rowtrail.connectors.base import Capture, Deletes
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.checks import Check, checks_of
from rowtrail.pipelines.config_mistakes import Mistakes, Place
from rowtrail.pipelines.config_model import (
    BreakersSection,
    CheckSection,
    ContractSection,
    PipelineFile,
    PipelineSection,
    RetentionSection,
    StreamSection,
)
from rowtrail.pipelines.contract import Contract, Mode
from rowtrail.pipelines.definition import (
    DEFAULT_IMAGE_BYTES,
    DEFAULT_RETAINED_LOG,
    DEFAULT_RETRIES,
    Breakers,
    NewTables,
    PatternDefinition,
    PipelineDefinition,
    Policy,
    Retention,
    StreamDefinition,
)
from rowtrail.pipelines.definition_mistakes import (
    HISTORY_BLOCKS,
    NAME_RULE,
    ONLY_FOR_PATTERNS,
    SLOT_RULE,
    note_mistakes,
)
from rowtrail.pipelines.image_keys import keys_in
from rowtrail.pipelines.suites import Suite, read_suite
from rowtrail.pipelines.table_names import is_pattern
from rowtrail.pipelines.transforms import Transform, load

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""What stands for an environment variable in a text of the file."""

_FILE_SCHEMES = ("sqlite", "duckdb")
# Stands for what is missing while the rest of a file with mistakes is checked.
_STAND_IN = {"name": "-", "source": "-", "destination": "-"}


def load_pipeline(path: Path, *, with_transforms: bool = True) -> PipelineDefinition:
    """The pipeline in the file at `path`; relative paths in it start at its folder.

    Without transforms no code of the user's is imported, for commands that only ask the ledger:
    they answer at once, and also when that code is broken. Raises ConfigurationError that lists
    all mistakes, each with its place.
    """
    text = _read(path)
    data = _parse(path, text)
    mistakes = Mistakes(f"The pipeline file {path}", text)
    file = _validated(_with_environment(data, (), mistakes), mistakes)
    definition = _definition(file, path.resolve(), with_transforms, mistakes)
    note_mistakes(definition, mistakes)
    mistakes.raise_if_any()
    return definition


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no pipeline file {path}. Name it with -p FILE, or make one with "
            f"`rowtrail init SOURCE DESTINATION`."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The pipeline file {path} cannot be read: {error.strerror}. Name another one with "
            f"-p FILE, or give this user the right to read it."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The pipeline file {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        twice = re.search(r"Cannot declare \('streams', '([^']+)'\) twice", str(error))
        if twice is None:
            raise ConfigurationError(
                f"The pipeline file {path} is not valid TOML: {error}. Correct that line."
            ) from error
        lines = [
            str(number)
            for number, line in enumerate(text.splitlines(), 1)
            if re.match(rf"\s*\[streams\.[\"']?{re.escape(twice[1])}[\"']?\]", line)
        ]
        raise ConfigurationError(
            f"The pipeline file {path} has the stream {twice[1]} twice (lines "
            f"{' and '.join(lines)}). Give one of them another name, and set its `table` and "
            f"`target`."
        ) from error


def with_environment(url: str, what: str) -> str:
    """A URL with environment variables put in for ${NAME}; ConfigurationError names missing ones.

    `what` is `source` or `destination`.
    """
    mistakes = Mistakes("The command line")
    found = _with_environment(url, (what,), mistakes)
    mistakes.raise_if_any()
    return str(found)


def _with_environment(value: Any, place: Place, mistakes: Mistakes) -> Any:
    """Puts environment variables in for ${NAME}; a missing one is a mistake."""
    if isinstance(value, Mapping):
        return {key: _with_environment(one, (*place, key), mistakes) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_environment(one, place, mistakes) for one in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            mistakes.add(place, f"the environment variable {match[1]} is not set; export it first")
        return os.environ.get(match[1], match[0])

    return VARIABLE.sub(put, value)


def _validated(data: dict[str, Any], mistakes: Mistakes) -> PipelineFile:
    """The file; where something is wrong, what is right in it, so that the rest is checked too."""
    try:
        return PipelineFile.model_validate(data)
    except ValidationError as error:
        # Without the inputs: they may hold a password.
        wrong = error.errors(include_input=False, include_context=False, include_url=False)
    for item in wrong:
        mistakes.add(_place(item["loc"]), _words(item))
    rest = _without(data, [item["loc"] for item in wrong])
    return PipelineFile.model_validate(
        {"streams": {}, **rest, "pipeline": {**_STAND_IN, **rest.get("pipeline", {})}}
    )


def _place(found: Sequence[str | int]) -> Place:
    """Where a setting is; that checks of a column may be several is no part of its name."""
    return tuple(str(one) for one in found if not ("checks" in found and isinstance(one, int)))


def _words(item: Mapping[str, Any]) -> str:
    """What is wrong, for a person; pydantic's own words where they will do."""
    if item["type"] == "extra_forbidden":
        return f"there is no such setting{_suggestion(item['loc'])}"
    if item["type"] == "string_pattern_mismatch":
        return SLOT_RULE if item["loc"][-1] == "slot" else NAME_RULE
    if item["type"] == "missing":
        return "is missing"
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"should be a table, such as [{'.'.join(map(str, item['loc']))}]"
    return re.sub(r"^(Input|String|Value error,) ", "", str(item["msg"]))


_SECTIONS: Mapping[str, type[BaseModel]] = {
    "pipeline": PipelineSection,
    "defaults": StreamSection,
    "streams": StreamSection,
    "breakers": BreakersSection,
    "retention": RetentionSection,
}


def _suggestion(place: Sequence[str | int]) -> str:
    section = _SECTIONS[str(place[0])] if len(place) > 1 else PipelineFile
    if "contract" in place[1:-1]:
        section = ContractSection
    if "checks" in place[1:-1]:
        section = CheckSection
    close = difflib.get_close_matches(str(place[-1]), section.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _without(data: Mapping[str, Any], places: Sequence[Sequence[str | int]]) -> dict[str, Any]:
    """The data less what is at these places."""
    rest = dict(data)
    for place in places:
        key = str(place[0])
        inner = rest.get(key)
        if len(place) > 1 and isinstance(inner, Mapping) and isinstance(place[1], str):
            rest[key] = _without(inner, [place[1:]])
        else:
            rest.pop(key, None)
    return rest


def _definition(
    file: PipelineFile, path: Path, with_transforms: bool, mistakes: Mistakes
) -> PipelineDefinition:
    folder, lock = path.parent, path.with_suffix(".lock")
    name = file.pipeline.name
    return PipelineDefinition(
        name=name,
        source=located(file.pipeline.source, folder),
        destination=located(file.pipeline.destination, folder),
        ledger=folder / (file.pipeline.ledger or f".rowtrail/{name}.ledger"),
        streams=tuple(
            _stream(stream, section, file.defaults, folder, with_transforms, mistakes)
            for stream, section in file.streams.items()
            if not is_pattern(stream)
        ),
        patterns=tuple(
            _pattern(
                _stream(pattern, section, file.defaults, folder, with_transforms, mistakes),
                section,
                file.defaults,
                mistakes,
            )
            for pattern, section in file.streams.items()
            if is_pattern(pattern)
        ),
        breakers=Breakers(**file.breakers.model_dump()),
        install_capture=file.pipeline.install_capture,
        slot=file.pipeline.slot or "",
        readers=file.pipeline.readers,
        retained_log=file.pipeline.retained_log or DEFAULT_RETAINED_LOG,
        image_keys=keys_in(file.pipeline.image_key),
        retention=Retention(**file.retention.model_dump()),
        archive=_archive(file.pipeline.archive, folder),
        lock=folder / file.pipeline.lock if file.pipeline.lock else lock,
    )


def _archive(place: str | None, folder: Path) -> str | None:
    return place if not place or "://" in place else str(folder / place)


def _stream(
    name: str,
    section: StreamSection,
    defaults: StreamSection,
    folder: Path,
    with_transforms: bool,
    mistakes: Mistakes,
) -> StreamDefinition:
    given = {**defaults.model_dump(exclude_none=True), **section.model_dump(exclude_none=True)}
    place = ("streams", name)
    for setting in ("exclude_tables", "new_tables"):
        if getattr(section, setting) is not None and not is_pattern(name):
            mistakes.add((*place, setting), ONLY_FOR_PATTERNS)
    capture = given.get("capture")
    if capture is None and not mistakes.at((*place, "capture"), ("defaults", "capture")):
        mistakes.add((*place, "capture"), "is missing; set it to log, trigger, cursor or snapshot")
    if given.get("deletes") == Deletes.HISTORY and section.policy not in (None, Policy.BLOCK):
        mistakes.add((*place, "policy"), HISTORY_BLOCKS)
    references = given.get("transforms", ()) if with_transforms else ()
    files = given.get("expectations", ()) if with_transforms else ()
    return StreamDefinition(
        name=name,
        table=given.get("table", name),
        target=given.get("target", name),
        capture=Capture(capture or "snapshot"),
        deletes=Deletes(given.get("deletes", "soft")),
        key=tuple(given.get("key", ())),
        cursor=given.get("cursor"),
        cursor_lag=given.get("cursor_lag", 0.0),
        columns=tuple(given.get("columns", ())),
        exclude=tuple(given.get("exclude", ())),
        types={**(defaults.types or {}), **(section.types or {})},
        transforms=_transforms((*place, "transforms"), references, folder, mistakes),
        batch_rows=given.get("batch_rows"),
        capture_images=given.get("capture_images", True),
        policy=Policy(given.get("policy", "latest")),
        retries=given.get("retries", DEFAULT_RETRIES),
        image_bytes=given.get("image_bytes", DEFAULT_IMAGE_BYTES),
        redact=tuple(section.redact or ()),
        redact_where_found=tuple(defaults.redact or ()),
        archive=given.get("archive", True),
        contract=Contract(**{k: Mode(v) for k, v in given.get("contract", {}).items()}),
        expectations=_suites((*place, "expectations"), files, folder, mistakes),
        checks=_checks(section, place, mistakes),
        checks_where_found=_checks(defaults, ("defaults",), mistakes, but=section.checks or {}),
    )


def _checks(
    section: StreamSection, place: Place, mistakes: Mistakes, but: Collection[str] = ()
) -> tuple[Check, ...]:
    """The checks that a section has, less those of some columns."""
    others = {name.lower() for name in but}
    found: list[Check] = []
    for column, tables in (section.checks or {}).items():
        if column.lower() in others:
            continue
        given = [one.model_dump(by_alias=True, exclude_unset=True) for one in tables]
        try:
            found += checks_of(column, given)
        except ValueError as error:
            where = (*place, "checks", column)
            if not mistakes.at(where):
                mistakes.add(where, str(error))
    return tuple(found)


def _pattern(
    template: StreamDefinition, section: StreamSection, defaults: StreamSection, mistakes: Mistakes
) -> PatternDefinition:
    for setting in ("table", "target"):
        if getattr(section, setting) is not None:
            mistakes.add(("streams", template.name, setting), "cannot be that of many tables")
    given = {**defaults.model_dump(exclude_none=True), **section.model_dump(exclude_none=True)}
    return PatternDefinition(
        template=template,
        exclude_tables=tuple(given.get("exclude_tables", ())),
        new_tables=NewTables(given.get("new_tables", "take")),
    )


def _transforms(
    place: Place, references: Sequence[str], folder: Path, mistakes: Mistakes
) -> tuple[Transform, ...]:
    found = []
    for reference in references:
        try:
            found.append(load(reference, folder))
        except ConfigurationError as error:
            mistakes.add(place, str(error))
    return tuple(found)


def _suites(
    place: Place, files: str | Sequence[str], folder: Path, mistakes: Mistakes
) -> tuple[Suite, ...]:
    found = []
    for name in [files] if isinstance(files, str) else files:
        try:
            found.append(read_suite(folder / name))
        except ConfigurationError as error:
            mistakes.add(place, str(error))
    return tuple(found)


def located(url: str, folder: Path) -> str:
    """A file URL with a relative path, from the configuration file's folder instead."""
    scheme, found, rest = url.partition(":///")
    if not found or scheme.lower() not in _FILE_SCHEMES or rest.startswith("/") or not rest:
        return url
    path, question, query = rest.partition("?")
    return f"{scheme}:///{folder / path}{question}{query}"
