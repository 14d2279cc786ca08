"""How a record is told that was read at the source and at the target."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rowtrail.cli.output import command, count, is_are, print_table, say, version_text, when

if TYPE_CHECKING:
    from rowtrail.pipelines.compare import ComparedColumn, Comparison, Side

LONGEST = 200
"""Characters of a value that are shown; JSON has all."""


def comparison_json(found: Comparison) -> dict[str, object]:
    return {
        "source": _side_json(found.source),
        "target": _side_json(found.target),
        "columns": [asdict(one) for one in found.columns],
        "different": list(found.different),
    }


def _side_json(side: Side) -> dict[str, object]:
    return {
        "state": side.state.value,
        "version": None if side.version is None else list(side.version),
        "deleted_at": side.deleted_at,
        "why": side.why or None,
    }


def tell_comparison(found: Comparison, *, held_back: bool) -> None:
    """Both sides in words, their columns, and what follows from it.

    Of a record that is held back it was said already why the target has not what the source has.
    """
    say("What is there now:")
    say(f"Source  {_source(found.source)}", indent="  ", hanging=" " * 8)
    say(f"Target  {_target(found.target)}", indent="  ", hanging=" " * 8)
    if found.columns:
        say()
        rows = [
            (one.column, _value(one, "source"), _value(one, "target"), _verdict(one))
            for one in found.columns
        ]
        print_table(("column", "source", "target", ""), rows)
    verdict = _summary(found)
    if verdict:
        say()
        say(verdict)
    for line in [] if held_back else _advice(found):
        say(line, hanging="  ")


def _source(side: Side) -> str:
    return {
        "there": f"has the row; read as version {version_text(side.version)}, what the stream has "
        f"applied, or newer",
        "absent": f"has no such row{_because(side)}",
        "unfit": f"has a row that the stream cannot take: {side.why}",
        "unread": f"could not be asked: {side.why}",
    }[side.state.value]


def _target(side: Side) -> str:
    version = version_text(side.version)
    kept = "; its last values are still there" if side.row is not None else ""
    return {
        "there": f"has the row, version {version}",
        "absent": f"has no such row, nor a trace of one{_because(side)}",
        "deleted": f"had the row, until it was deleted there on {when(side.deleted_at)} UTC by "
        f"version {version}{kept}",
        "filtered": f"has it left out since {when(side.deleted_at)} UTC, when a transform dropped "
        f"version {version}{kept}",
        "unread": f"could not be asked: {side.why}",
    }[side.state.value]


def _because(side: Side) -> str:
    return f": {side.why}" if side.why else ""


def _value(one: ComparedColumn, side: str) -> str:
    if not getattr(one, f"at_{side}"):
        return ""
    if one.redacted:
        return "(redacted)"
    value, kind = getattr(one, side), getattr(one, f"{side}_type")
    text = "NULL" if value is None else str(value)
    if isinstance(value, str) and kind in _TEXTS:
        text = json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}… ({len(text):,} characters)"


_TEXTS = ("string", "large_string", "string_view")
"""In quotes, so that a text is told from a number, and NULL from the word."""


def _verdict(one: ComparedColumn) -> str:
    if one.equal is not None:
        return "equal" if one.equal else "different"
    return "only at the source" if one.at_source else "only at the target"


def _summary(found: Comparison) -> str:
    source, target = found.source.state.value, found.target.state.value
    if "unread" in (source, target) or source == "unfit":
        return ""
    if source == "absent":
        return (
            "The target still has a row that the source has not."
            if target == "there"
            else "Neither side has the row."
        )
    if target != "there":
        return "The target lacks the row."
    if not found.different:
        return "Source and target are equal in all columns that both have."
    number = len(found.different)
    return f"{count(number, 'column')} {is_are(number)} different: {', '.join(found.different)}."


def _advice(found: Comparison) -> list[str]:
    source, target = found.source.state.value, found.target.state.value
    if {source, target} - {"there", "absent", "deleted", "filtered"}:
        return []
    if (source == "there") == (target == "there") and not found.different:
        return []
    lines = [
        f"What changed at the source since the last run comes with the next one: rowtrail run "
        f"{found.record_id.stream}"
    ]
    if found.different:
        lines.append(
            f"Columns that a transform changes are rightly different. What the transforms would "
            f"make of the row now: {command('replay', found.record_id, '--dry-run')}"
        )
    return lines
