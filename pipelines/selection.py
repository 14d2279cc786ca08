"""The records of a decision that names none of them: by run, by time, or by a condition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import pyarrow as pa

from rowtrail.checkpoints.ledger import Ledger
from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import OPEN_FAILURES, Decision, HeldBack, Prunable
from rowtrail.connectors.base import ChoosesKeys, Source
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.fetching import fetch_keys, no_such_key
from rowtrail.pipelines.key_spool import KeySpool, distinct, spooled
from rowtrail.pipelines.lane import ReadyStream
from rowtrail.pipelines.opening import OpenPipeline
from rowtrail.pipelines.portions import Portion, Sorted, sort_records
from rowtrail.pipelines.record_keys import cast_keys, fitting, held_keys, key_batch


def sort_chosen(
    opened: OpenPipeline, ready: ReadyStream, decision: Decision
) -> tuple[Sorted, Decision]:
    """Sorts the records of a decision, and where it names none, resolves which it means.

    Each record is there once, whatever happened to it how often. A decision about images comes back
    with its records' names: only what is failed has any. Raises as `sort_records`, and
    ConfigurationError for a condition that is not one expression.
    """
    if decision.selection is None:
        found = sort_records(opened, ready, decision)
        if decision.origin is Origin.IMAGE:
            failed = {one.record_id for one in _held(ready)}
            found = replace(found, imageless=sum(o not in failed for o in decision.record_ids))
        return found, decision
    left: list[RecordId] = []
    keys = _resolved(opened, ready, decision.selection, left)
    if decision.origin is Origin.IMAGE:
        with closing(keys):
            meant = keys.count + len(left)
            named = replace(decision, record_ids=tuple(_failed_among(ready, keys, left)))
        found = sort_records(opened, ready, named) if named.record_ids else Sorted()
        return replace(found, chosen=meant, imageless=meant - len(named.record_ids)), named
    if left and not keys.count:
        raise no_such_key(ready, left)
    return Sorted(to_select=keys, left=left), decision


def number_chosen(found: Sorted) -> int:
    """How many records were meant."""
    return found.count + len(found.left) if found.chosen is None else found.chosen


def chosen_words(decision: Decision, found: Sorted) -> str | None:
    """What is told before anything is done; None for one record, which its name says."""
    number = number_chosen(found)
    if number == 1 and decision.selection is None:
        return None
    noun = "record is" if number == 1 else "records are"
    which = f" ({decision.selection})" if decision.selection is not None else ""
    return f"{number:,} {noun} chosen{which}"


def without_image(found: Sorted) -> str:
    """What who asks for images is told of the records that can have none."""
    if not found.imageless:
        return ""
    noun = "record was" if found.imageless == 1 else "records were"
    return (
        f". {found.imageless:,} {noun} left as they are: only what is failed has a captured image; "
        f"`--from source` reads the rows anew"
    )


def forgotten(ledger: Ledger, decision: Decision) -> str:
    """What is told where the ledger may have forgotten records that a run or a time had."""
    chosen = decision.selection
    if chosen is None or chosen.where is not None:
        return ""
    since = chosen.since
    if chosen.run_id is not None:
        since = ledger.runs.get(chosen.run_id).started_at
    for one in ledger.pruning.pruned(decision.stream):
        if one.what is Prunable.TRAILS and since is not None and since < one.upto:
            return (
                f". Trails before {one.upto:%Y-%m-%d %H:%M} UTC were pruned on {one.at:%Y-%m-%d}, "
                f"so that there may have been more records; `--where` asks the source instead"
            )
    return ""


def selected_portions(
    opened: OpenPipeline, ready: ReadyStream, found: Sorted, revision: int
) -> Iterator[Portion]:
    """The rows at the source, at most a batch at a time."""
    if found.to_select is None:
        return
    total, done = found.to_select.count, 0
    with closing(found.to_select):
        for keys in found.to_select.batches():
            opened.lease.check()
            fetched = partial(fetch_keys, opened, ready, keys, revision)
            yield Portion(changes=opened.patience.retry(fetched), origin="the row at the source")
            done += len(keys)
            if total > len(keys):
                opened.reporter.note(f"{ready.lane.stream.name}: {done:,} of {total:,} records")


def check_condition(source: Source, stream: StreamDefinition, condition: str) -> None:
    """Raises ConfigurationError for a condition that the source cannot evaluate."""
    _chooser(source, stream).check_condition(stream.source_spec(), condition)


def _chooser(source: Source, stream: StreamDefinition) -> ChoosesKeys:
    if not isinstance(source, ChoosesKeys):
        raise ConfigurationError(
            f"The source of stream {stream.name} cannot choose rows by a condition. Name the "
            f"records by their keys, or choose them by run or time."
        )
    return source


def _resolved(
    opened: OpenPipeline, ready: ReadyStream, selection: Selection, left: list[RecordId]
) -> KeySpool:
    """The keys in today's types; `left` is given those that do not fit."""
    stream, fields = ready.lane.stream, ready.source_schema.arrow_key()
    if selection.where is not None:
        found = _chooser(opened.source, stream).keys_where(stream.source_spec(), selection.where)
        with closing(found):
            return spooled(
                (pa.RecordBatch.from_arrays(one.columns, schema=fields) for one in found),
                fields,
                stream.page_rows,
            )
    taken = opened.ledger.taken_up(stream.name, selection)

    def keys() -> Iterator[pa.RecordBatch]:
        for batch in taken.key_batches():
            fine, unfit = cast_keys(stream.name, batch, fields)
            left.extend(unfit)
            yield fine
        for ids in taken.failed():
            numbers = fitting(ids, fields)
            yield key_batch([ids[number] for number in numbers], fields)
            left.extend(_others(ids, numbers))

    resolved = distinct(keys(), fields, stream.page_rows, at_most=taken.changes())
    left[:] = dict.fromkeys(left)
    return resolved


def _others(ids: list[RecordId], numbers: list[int]) -> list[RecordId]:
    fine = set(numbers)
    return [one for number, one in enumerate(ids) if number not in fine]


def _held(ready: ReadyStream) -> list[HeldBack]:
    return [one for one in ready.lane.held.all() if one.state in OPEN_FAILURES]


def _failed_among(ready: ReadyStream, keys: KeySpool, left: list[RecordId]) -> list[RecordId]:
    """The records among them that are failed or waiting, once each."""
    held = _held(ready)
    unfit = set(left)
    numbers = {number for number, one in enumerate(held) if one.record_id in unfit}
    theirs = held_keys(held, ready.source_schema)
    if theirs is not None:
        names = list(ready.source_schema.key)
        for batch in keys.batches():
            mine = pa.Table.from_batches([batch])
            met = theirs.join(mine, keys=names, join_type="left semi")
            numbers.update(met["_held"].to_pylist())
    return list(dict.fromkeys(held[number].record_id for number in sorted(numbers)))
