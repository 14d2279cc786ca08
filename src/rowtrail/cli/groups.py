"""How a group of failures is told: how many, why, since when, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rowtrail.cli.output import cause, count, duration, is_are, minute, say

if TYPE_CHECKING:
    from rowtrail.checkpoints.states import FailureGroup


def tell_groups(groups: Sequence[FailureGroup], limit: int) -> None:
    """The largest groups, at most so many, and what the commands do."""
    number = count(len(groups), "group")
    say(f"{number} of records {is_are(len(groups))} held back, {_together(groups)}.")
    for one in groups[:limit]:
        say()
        tell_group(one)
    say()
    if len(groups) > limit:
        say(f"These are the largest {limit:,} groups: --limit shows more.")
    say(
        "`retry` goes on from the stage that failed, once the transform or the target is mended; "
        "with `--from extract` it reads the rows anew, once they are mended at the source."
    )
    first = groups[0]
    say(f"The records of a group, one by one: {_command('failures', first)}", hanging="  ")


def _together(groups: Sequence[FailureGroup]) -> str:
    parts = (
        (sum(one.failed for one in groups), "record", "failed"),
        (sum(one.waiting for one in groups), "change", "waiting"),
        (sum(one.ignored for one in groups), "record", "ignored"),
    )
    return ", ".join(f"{count(number, noun)} {word}" for number, noun, word in parts if number)


def tell_group(one: FailureGroup) -> None:
    """One group, and the commands for it."""
    say(f"{one.group}  {one.stream}: {_together([one])}")
    lines = [
        ("Stage", one.stage.value),
        ("Cause", cause(one.stage.value, one.error_class, one.message)),
        ("Since", _since(one)),
        ("Such as", ", ".join(map(str, one.examples)) + (", …" if _more(one) else "")),
        *(("Next" if not at else "", line) for at, line in enumerate(_next_steps(one))),
    ]
    for name, text in lines:
        say(f"{name:<9}{text}", indent="  ", hanging=" " * 9)


def _more(one: FailureGroup) -> bool:
    return len(one.examples) < one.failed + one.ignored


def _since(one: FailureGroup) -> str:
    age = duration(datetime.now(UTC) - one.first_at)
    last = "" if one.last_at == one.first_at else f", last {minute(one.last_at)}"
    return f"{minute(one.first_at)} UTC, for {age}{last}"


def _next_steps(one: FailureGroup) -> Iterator[str]:
    if one.failed:
        if one.stage.value != "extract":
            yield _command("retry", one)
        yield _command("retry", one, "--from extract")
        yield _command("ignore", one, "--reason 'why'")
    elif one.waiting:
        yield f"rowtrail run {shlex.quote(one.stream)}"
    if one.ignored:
        yield _command("ignore", one, "--undo")


def _command(verb: str, one: FailureGroup, options: str = "") -> str:
    return f"rowtrail {verb} {shlex.quote(one.stream)} --group {one.group} {options}".rstrip()
