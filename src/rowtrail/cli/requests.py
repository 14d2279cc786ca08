"""How retries and replays are asked for, and how their answers are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from rowtrail.cli.common import COMPLETE_EXCEPT, ledger_of
from rowtrail.cli.differences import tell_differences
from rowtrail.cli.output import cause, count, print_json, say

if TYPE_CHECKING:
    from rowtrail.pipelines.definition import PipelineDefinition
    from rowtrail.pipelines.requests import Request, RequestResult

NAMED = 10
"""So many records that failed again are told."""


def carry_out(
    definition: PipelineDefinition, requests: Sequence[Request], *, dry_run: bool, json: bool
) -> None:
    """Asks for them and tells what became of each; ends with exit code 3 where records failed."""
    from rowtrail.cli.reporter import Notes
    from rowtrail.pipelines.requests import submit

    results = submit(definition, requests, dry_run=dry_run, reporter=Notes()) if requests else []
    if json:
        print_json({"requests": [asdict(result) for result in results]})
    elif not results:
        say("Nothing to retry: no record is failed.")
    else:
        for result in results:
            _tell(definition, result)
    if any(result.failed for result in results):
        raise typer.Exit(COMPLETE_EXCEPT)


def _tell(definition: PipelineDefinition, result: RequestResult) -> None:
    number = "Dry run" if result.decision_id is None else f"Request {result.decision_id}"
    say(f"{number}, {result.stream}: {result.text}{'' if result.text.endswith('.') else '.'}")
    if result.decision_id is not None and result.failed:
        _tell_causes(definition, result)
    if result.decision_id is None and result.differences is not None:
        tell_differences(result.differences)


def _tell_causes(definition: PipelineDefinition, result: RequestResult) -> None:
    """Why records failed again; a dry run notes no causes."""
    from rowtrail.checkpoints.record_id import RecordId

    ids = [RecordId.parse(text) for text in result.failed[:NAMED]]
    with ledger_of(definition) as ledger:
        found = ledger.failures.list(result.stream, record_ids=ids)
    for one in found:
        why = cause(one.stage.value, one.error_class, one.message)
        say(f"{one.record_id} failed at {one.stage.value}: {why}", hanging="  ")
    if len(result.failed) > NAMED:
        left = count(len(result.failed) - NAMED, "record")
        say(f"… and {left} more; `rowtrail failures {result.stream}` lists them.")
