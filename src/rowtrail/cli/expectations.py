"""`check --expectations`: what checks and suites say of the source and of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rowtrail.cli.common import FAILED, read_pipeline
from rowtrail.cli.output import count, print_json, print_table, say

if TYPE_CHECKING:
    from rowtrail.pipelines.check_comparison import ComparedCheck, ComparedChecks
    from rowtrail.pipelines.validation import Verdict


def compare(pipeline: Path, streams: Sequence[str], rows: int | None, *, json: bool) -> None:
    """Prints the comparison; raises typer.Exit where something fails or differs."""
    from rowtrail.pipelines.check_comparison import DEFAULT_ROWS, compare_checks

    definition = read_pipeline(pipeline, with_transforms=True)
    found = compare_checks(definition, streams, rows or DEFAULT_ROWS)
    passes = all(one.passes for one in found)
    if json:
        print_json({"passes": passes, "streams": [_document(one) for one in found]})
    else:
        for one in found:
            _tell(one)
        say(_last_word(found))
    if not passes:
        raise typer.Exit(FAILED)


def _document(found: ComparedChecks) -> dict[str, object]:
    checks = [{**asdict(one), "differs": one.differs, "fails": one.fails} for one in found.checks]
    return {**asdict(found), "checks": checks, "passes": found.passes}


def _tell(found: ComparedChecks) -> None:
    if found.problem:
        say(f"{found.stream}: {found.problem}\n", hanging="  ")
        return
    say(f"{found.stream}: {_looked_at(found)}.")
    if found.left_out:
        held = count(found.left_out, "row")
        say(f"{held} of the source would be held back before the checks.", indent="  ")
    if found.checks:
        say()
        cells = [
            (_check(one), _side(one.source), _side(one.target), _word(one)) for one in found.checks
        ]
        print_table(("check", "source", "target", ""), cells)
    say()


def _looked_at(found: ComparedChecks) -> str:
    source = count(found.source_rows, "row")
    target = count(found.target_rows, "row") if found.is_there else "no table yet"
    which = "all of them" if found.whole else "the first ones by key; --rows looks at more"
    return f"{source} at the source, {target} at the target ({which})"


def _check(one: ComparedCheck) -> str:
    return one.check if one.severity == "fail" else f"{one.check} [{one.severity}]"


def _side(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no rows"
    word = "met" if verdict.success else "not met"
    if verdict.unexpected:
        return f"{word}, {count(verdict.unexpected, 'row')}"
    return f"{word}: {verdict.observed}" if verdict.observed not in (None, "otherwise") else word


def _word(one: ComparedCheck) -> str:
    if one.source is None or one.target is None:
        return ""
    return "differ" if one.differs else "agree"


def _last_word(found: Sequence[ComparedChecks]) -> str:
    if all(one.passes for one in found):
        return f"Source and target agree, and meet what is asked: {count(len(found), 'stream')}."
    checks = [check for one in found for check in one.checks]
    told = [
        f"{count(number, noun)} {word}"
        for number, noun, word in (
            (sum(check.fails for check in checks), "check", "not met"),
            (sum(check.differs for check in checks), "check", "with another answer on each side"),
            (sum(bool(one.problem) for one in found), "stream", "could not be asked"),
        )
        if number
    ]
    return f"Not as asked: {', '.join(told)}."
