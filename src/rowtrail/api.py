"""The public Python API: a pipeline as an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowtrail.checkpoints.record_id import RecordId
from rowtrail.checkpoints.selections import Origin, Selection
from rowtrail.checkpoints.states import Decision, DecisionKind, FailureGroup, Stage
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.capture import capture_plan, execute_at_source, removal_plan
from rowtrail.pipelines.config_mistakes import Mistakes
from rowtrail.pipelines.definition import (
    DEFAULT_READERS,
    DEFAULT_RETAINED_LOG,
    Breakers,
    PipelineDefinition,
    Retention,
)
from rowtrail.pipelines.definition_mistakes import note_mistakes
from rowtrail.pipelines.groups import (
    find_group,
    ignore_group,
    ignore_records,
    list_groups,
    unignore_group,
    unignore_records,
)
from rowtrail.pipelines.image_keys import keys_in
from rowtrail.pipelines.patterns import resolve_from_ledger
from rowtrail.pipelines.requests import (
    EARLIER_NAMES,
    FROM_STAGES,
    Request,
    RequestResult,
    failed_streams,
    submit,
)
from rowtrail.pipelines.results import RunResult
from rowtrail.pipelines.run import RunOptions, run_pipeline
from rowtrail.pipelines.sizes import parse_size
from rowtrail.pipelines.status import PipelineStatus, read_status
from rowtrail.stream import Stream

if TYPE_CHECKING:
    from rowtrail.pipelines.archive_replay import ArchiveReplayed
    from rowtrail.pipelines.progress import Reporter
    from rowtrail.pipelines.schema_acceptance import Accepted
    from rowtrail.pipelines.schema_comparison import SchemaComparison

KeyLike = Any
"""A key value, or a tuple of values where the key has several columns."""


def _size(value: int | str, mistakes: Mistakes) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        mistakes.add(("pipeline", "retained_log"), str(error))
        return DEFAULT_RETAINED_LOG


def _from_stage(text: str) -> Stage:
    if text not in FROM_STAGES:
        raise ConfigurationError(
            f"A record goes on from `{'` or `'.join(FROM_STAGES)}`, not from {text!r}. Leave "
            f"from_stage out to go on from the stage that failed."
        )
    return Stage(text)


def _record_ids(stream: str, keys: Sequence[KeyLike]) -> tuple[RecordId, ...]:
    return tuple(RecordId(stream, key if isinstance(key, tuple) else (key,)) for key in keys)


def _records(stream: str | None, keys: Sequence[KeyLike]) -> tuple[str, tuple[RecordId, ...]]:
    if stream is None or not keys:
        raise ConfigurationError("Name a stream and the keys of its records, or a group.")
    return stream, _record_ids(stream, keys)


def _refuse_keys(keys: Sequence[KeyLike]) -> None:
    if keys:
        raise ConfigurationError("A group has its records: name either the group or the keys.")


def _origin(text: str) -> Origin:
    if text == Origin.ARCHIVE:
        raise ConfigurationError("A replay from the archive is asked for with `replay_archive`.")
    try:
        return EARLIER_NAMES.get(text) or Origin(text)
    except ValueError:
        known = "` or `".join(one.value for one in Origin if one is not Origin.ARCHIVE)
        raise ConfigurationError(f"A replay takes rows from `{known}`, not {text!r}.") from None


def _selection(
    run: str | None, since: datetime | None, until: datetime | None, where: str | None
) -> Selection | None:
    if (run, since, until, where) == (None, None, None, None):
        return None
    for moment in (since, until):
        if moment is not None and moment.tzinfo is None:
            raise ConfigurationError(f"{moment} has no time zone, so that it is no moment.")
    if since is not None and until is None:
        until = datetime.now(UTC)
    try:
        return Selection(run_id=run, since=since, until=until, where=where)
    except ValueError:
        raise ConfigurationError(
            "A replay takes one of run, since (with until) and where, and not several."
        ) from None


class Pipeline:
    """One source, one destination, some streams, one ledger.

    A pipeline holds no connection: each method opens what it needs and closes it again, so an
    instance can be made at import time and run by any scheduler.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str,
        destination: str,
        streams: Sequence[Stream],
        ledger: str | Path | None = None,
        breakers: Breakers | None = None,
        install_capture: bool = False,
        slot: str | None = None,
        readers: int = DEFAULT_READERS,
        retained_log: int | str = DEFAULT_RETAINED_LOG,
        image_key: str | Sequence[str] | None = None,
        retention: Retention | None = None,
        archive: str | Path | None = None,
        lock: str | Path | None = None,
    ) -> None:
        mistakes = Mistakes(f"Pipeline {name}")
        self.definition = PipelineDefinition(
            name=name,
            source=source,
            destination=destination,
            ledger=Path(ledger) if ledger is not None else Path(f".rowtrail/{name}.ledger"),
            streams=tuple(one.definition() for one in streams if not one.is_pattern),
            patterns=tuple(one.pattern() for one in streams if one.is_pattern),
            breakers=breakers or Breakers(),
            install_capture=install_capture,
            slot=slot or "",
            readers=readers,
            retained_log=_size(retained_log, mistakes),
            image_keys=keys_in(image_key),
            retention=retention or Retention(),
            archive=None if archive is None else str(archive),
            lock=None if lock is None else Path(lock),
        )
        note_mistakes(self.definition, mistakes)
        mistakes.raise_if_any()

    @classmethod
    def from_file(cls, path: str | Path = "rowtrail.toml") -> Pipeline:
        """The pipeline of a TOML file; raises ConfigurationError with all its mistakes."""
        from rowtrail.pipelines.config import load_pipeline

        pipeline = cls.__new__(cls)
        pipeline.definition = load_pipeline(Path(path))
        return pipeline

    def run(
        self,
        *streams: str,
        resnapshot: Sequence[str] = (),
        allow_deletes: float | None = None,
        follow: Callable[[], bool] | None = None,
        reporter: Reporter | None = None,
    ) -> RunResult:
        """Runs these streams, or all, up to what the source has committed now.

        `resnapshot` names streams to read anew; `allow_deletes` is the share of a target's rows
        (0 to 1) that this run may delete. With `follow` it goes on as changes are committed, until
        that says so; it is asked between batches. A failed record or a stopped stream is in the
        result; what concerns the whole pipeline is raised.
        """
        options = RunOptions(
            streams=streams,
            resnapshot=tuple(resnapshot),
            allow_deletes=allow_deletes,
            follow=follow,
        )
        return run_pipeline(self.definition, options, reporter=reporter)

    def retry(
        self,
        stream: str | None = None,
        *keys: KeyLike,
        group: str | None = None,
        from_stage: str | None = None,
        dry_run: bool = False,
    ) -> list[RequestResult]:
        """Retries failed records: these, or those of a group, of the stream, or of the pipeline.

        `group` is the id of a FailureGroup, or the beginning of it. Raises LedgerError, with the
        groups that exist, where it is none.
        """
        if group is not None:
            _refuse_keys(keys)
            found = find_group(self.definition, group, stream)
            request = Request(
                kind=DecisionKind.RETRY,
                stream=found.stream,
                group=found.fingerprint,
                from_stage=None if from_stage is None else _from_stage(from_stage),
            )
            return submit(self.definition, [request], dry_run=dry_run)
        names = [stream] if stream else failed_streams(self.definition)
        stage = None if from_stage is None else _from_stage(from_stage)
        requests = [
            Request(
                kind=DecisionKind.RETRY,
                stream=name,
                record_ids=_record_ids(name, keys),
                from_stage=stage,
            )
            for name in names
        ]
        return submit(self.definition, requests, dry_run=dry_run)

    def replay(
        self,
        stream: str | None = None,
        *keys: KeyLike,
        group: str | None = None,
        run: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        where: str | None = None,
        origin: str = "source",
        from_stage: str | None = None,
        dry_run: bool = False,
        reason: str | None = None,
    ) -> RequestResult:
        """Takes records through all stages again: these, or all that fit one of the selections.

        `group`: those of a FailureGroup, as with `retry`, with which no stream need be named;
        `run`: those that a run took up; `since` (and `until`, now if not set; aware times): those
        that were loaded or failed then; `where`: rows for which this SQL expression is true at the
        source. Rows come from the `source` as they are now, or are the `image` that was captured
        when a record failed. `from_stage` is the earlier name of `origin`.
        """
        selection = _selection(run, since, until, where)
        taken_from = _origin(origin if from_stage is None else from_stage)
        if group is not None:
            _refuse_keys(keys)
            if selection is not None:
                raise ConfigurationError("A group has its records: give no other selection.")
            found = find_group(self.definition, group, stream)
            of_group = Request(
                kind=DecisionKind.REPLAY,
                stream=found.stream,
                group=found.fingerprint,
                origin=taken_from,
                reason=reason,
            )
            return submit(self.definition, [of_group], dry_run=dry_run)[0]
        if stream is None:
            raise ConfigurationError("Name the stream whose records are to be replayed.")
        if bool(keys) is (selection is not None):
            raise ConfigurationError(
                "A replay needs at least one key, or one of run, since and where, and not both."
            )
        request = Request(
            kind=DecisionKind.REPLAY,
            stream=stream,
            record_ids=_record_ids(stream, keys),
            origin=taken_from,
            selection=selection,
            reason=reason,
        )
        return submit(self.definition, [request], dry_run=dry_run)[0]

    def ignore(
        self, stream: str | None = None, *keys: KeyLike, group: str | None = None, reason: str
    ) -> Decision:
        """Stops counting failed records as missing: these, or all that are failed in a group.

        The stream need only be named with a group that several streams have. Raises LedgerError,
        and changes nothing, for records that are not held back and for what is no group.
        """
        if group is not None:
            _refuse_keys(keys)
            return ignore_group(self.definition, group, reason, stream)
        return ignore_records(self.definition, *_records(stream, keys), reason)

    def unignore(
        self,
        stream: str | None = None,
        *keys: KeyLike,
        group: str | None = None,
        reason: str | None = None,
    ) -> Decision:
        """Takes `ignore` back: the records are failed again."""
        if group is not None:
            _refuse_keys(keys)
            return unignore_group(self.definition, group, reason, stream)
        return unignore_records(self.definition, *_records(stream, keys), reason)

    def failure_groups(
        self, stream: str | None = None, *, ignored: bool = False
    ) -> list[FailureGroup]:
        """What is held back, by cause, the largest group first; ignored records too if asked."""
        return list_groups(self.definition, stream, ignored=ignored)

    def status(self) -> PipelineStatus:
        """Of each stream whether its target is complete, and since when it is not."""
        return read_status(resolve_from_ledger(self.definition))

    def replay_archive(
        self,
        *streams: str,
        since: datetime | None = None,
        until: datetime | None = None,
        dry_run: bool = False,
        reason: str | None = None,
        reporter: Reporter | None = None,
    ) -> list[ArchiveReplayed]:
        """Replays these streams, or all, from the archive; the source is not asked.

        A target that lacks a stream's rows is rebuilt. `since` and `until` (aware) choose batches
        by the time at which they were read.
        """
        from rowtrail.pipelines.archive_replay import ArchiveRequest, replay_archive

        request = ArchiveRequest(streams=streams, since=since, until=until, reason=reason)
        return replay_archive(self.definition, request, dry_run=dry_run, reporter=reporter)

    def compare_schemas(self, *streams: str) -> list[SchemaComparison]:
        """Sets the tables of these streams, or of all, side by side at source and target.

        Nothing is changed. Raises what opening the two raises.
        """
        from rowtrail.pipelines.schema_comparison import compare_schemas

        return compare_schemas(self.definition, streams)

    def accept_schemas(self, *streams: str) -> Accepted:
        """Agrees on the shapes that the tables of these streams, or of all, have at the source.

        They are written into the lock file, which contracts are held against.
        """
        from rowtrail.pipelines.schema_acceptance import accept_schemas

        return accept_schemas(self.definition, streams)

    def backfill(self, stream: str, column: str, *, dry_run: bool = False) -> RequestResult:
        """Fills a column of rows that were loaded before the target had it, from the source."""
        from rowtrail.pipelines.backfill import backfill_request

        request = backfill_request(self.definition, stream, column)
        return submit(self.definition, [request], dry_run=dry_run)[0]

    def install_capture(self) -> list[str]:
        """Makes what its streams need at the source; returns the SQL it ran.

        Publication and slot for capture `log`, change logs and triggers for `trigger`.
        """
        plan = capture_plan(self.definition)
        execute_at_source(self.definition, plan)
        return plan

    def remove_capture(self) -> list[str]:
        """Removes them again; returns the SQL it ran."""
        plan = removal_plan(self.definition)
        execute_at_source(self.definition, plan)
        return plan
