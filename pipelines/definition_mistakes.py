"""What is wrong in a pipeline's definition, whether it came from TOML or from Python."""

from __future__ import annotations

import re

from rowtrail.connectors.base import Capture
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.registry import known_scheme
from rowtrail.connectors.type_names import parse_type
from rowtrail.pipelines.config_mistakes import Mistakes, Place
from rowtrail.pipelines.contract import Mode
from rowtrail.pipelines.definition import (
    LONGEST_SLOT,
    PipelineDefinition,
    Policy,
    StreamDefinition,
)
from rowtrail.pipelines.image_keys import NO_KEY, is_key

NAME = re.compile(r"[A-Za-z0-9_.-]+")
NAME_RULE = "may hold only letters, digits, `_`, `.` and `-`, since it names the ledger's file"
SLOT = re.compile(rf"[a-z0-9_]{{1,{LONGEST_SLOT}}}")
SLOT_RULE = (
    f"may hold only small letters, digits and `_`, at most {LONGEST_SLOT} of them, since it names "
    f"a replication slot and a publication"
)
MOST_READERS = 16
HISTORY_BLOCKS = (
    'stands beside `deletes = "history"`, under which later changes of a failed record always wait '
    "behind it (`block`); take it out"
)
ONLY_FOR_PATTERNS = 'is only for a pattern of tables, such as [streams."public.*"]'


def note_mistakes(definition: PipelineDefinition, mistakes: Mistakes) -> None:
    """Adds what can be seen without opening source or destination."""
    if not NAME.fullmatch(definition.name) and not mistakes.at(("pipeline", "name")):
        mistakes.add(("pipeline", "name"), NAME_RULE)
    for kind, url in (("source", definition.source), ("destination", definition.destination)):
        if not mistakes.at(("pipeline", kind)):
            _check_url(kind, url, mistakes)
    if not SLOT.fullmatch(definition.slot) and not mistakes.at(("pipeline", "slot")):
        mistakes.add(("pipeline", "slot"), SLOT_RULE)
    if not 1 <= definition.readers <= MOST_READERS:
        mistakes.add(("pipeline", "readers"), f"should be from 1 to {MOST_READERS}")
    if not all(map(is_key, definition.image_keys)) and not mistakes.at(("pipeline", "image_key")):
        mistakes.add(("pipeline", "image_key"), NO_KEY)
    if definition.retention.archive is not None and not definition.archive:
        mistakes.add(
            ("retention", "archive"),
            "is set, and there is no archive; set `archive` in [pipeline], or take this out",
        )
    several = [pattern.template for pattern in definition.patterns]
    if not (definition.streams or several) and not mistakes.within(("streams",)):
        mistakes.add(("streams",), "there is none; add one, for example [streams.orders]")
    names: set[str] = set()
    targets: dict[str, str] = {}
    for stream in (*definition.streams, *several):
        _check_stream(stream, mistakes)
        if stream.name in names:
            mistakes.add(
                ("streams", stream.name),
                "there are two streams of this name; give one of them another `name`",
            )
            continue
        names.add(stream.name)
        other = targets.setdefault(stream.target.lower(), stream.name)
        if other != stream.name:
            mistakes.add(
                ("streams", stream.name, "target"),
                f"{stream.target} is the target of stream {other} already; two streams cannot "
                f"fill one table, so set another `target`",
            )


def _check_url(kind: str, url: str, mistakes: Mistakes) -> None:
    try:
        known_scheme(kind, url)
    except ConfigurationError as error:
        mistakes.add(("pipeline", kind), str(error))


def _check_stream(stream: StreamDefinition, mistakes: Mistakes) -> None:
    place = ("streams", stream.name)
    cursor_missing = stream.capture is Capture.CURSOR and not stream.cursor
    if cursor_missing and not mistakes.at((*place, "cursor"), ("defaults", "cursor")):
        mistakes.add(
            (*place, "cursor"),
            'is missing: capture = "cursor" needs the name of the updated-at column',
        )
    if stream.columns and stream.exclude:
        mistakes.add((*place, "exclude"), "stands beside `columns`; set one of the two, not both")
    if stream.columns and stream.contract.new_column not in (Mode.EVOLVE, Mode.DISCARD):
        mistakes.add(
            (*place, "contract", "new_column"),
            "stands beside `columns`, which leaves every new column out; set one of the two",
        )
    if stream.policy is Policy.BLOCK:
        _check_block(stream, place, mistakes)
    if stream.retries < 0:
        mistakes.add((*place, "retries"), "should be 0 or more")
    if stream.image_bytes < 1:
        mistakes.add((*place, "image_bytes"), "should be more than 0 bytes")
    redacted = {name.lower() for name in (*stream.redact, *stream.redact_where_found)}
    for name in (*stream.key, *((stream.cursor,) if stream.cursor else ())):
        if name.lower() in redacted:
            mistakes.add((*place, "redact"), _needed(name))
    for column, text in stream.types.items():
        try:
            parse_type(text)
        except ValueError as error:
            mistakes.add((*place, "types", column), str(error))


def _check_block(stream: StreamDefinition, place: Place, mistakes: Mistakes) -> None:
    setting, word = ("deletes", "history") if stream.keeps_versions else ("policy", "block")
    keeps = f"{word} keeps the changes that wait in the ledger"
    if not stream.capture_images:
        mistakes.add(
            (*place, setting),
            f"{keeps}, which `capture_images = false` forbids; set one of the two otherwise",
        )
    if stream.redact or stream.redact_where_found:
        mistakes.add(
            (*place, setting),
            f"{keeps} as they are, which `redact` forbids; set one of the two otherwise",
        )


def _needed(column: str) -> str:
    return (
        f"holds {column}, which is part of the key or the cursor: the ledger has to hold its "
        f"values. Take it out, or name another `key` or `cursor`"
    )
