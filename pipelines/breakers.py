"""Stops a stream when too much goes wrong, counted over its whole run (DESIGN 2.6)."""

from __future__ import annotations

from rowtrail.checkpoints.states import StreamRecord, StreamState
from rowtrail.connectors.errors import StopError
from rowtrail.pipelines.definition import Breakers

_DELETED_SHARE = "breakers.deleted_share"
HANDFUL = 10
"""A target of fewer rows may lose them all without anybody being asked."""


class BreakerError(StopError):
    """Too much to be chance: a person should look before the stream goes on."""


def stopped_for_deletes(record: StreamRecord) -> bool:
    """Whether the stream's last run would have deleted too much and nobody has allowed it since."""
    return record.state is StreamState.STOPPED and _DELETED_SHARE in (record.state_reason or "")


class BreakerCount:
    """What one stream did in this run, held against the limits before each batch is committed."""

    def __init__(self, stream: str, limits: Breakers, live_rows: int) -> None:
        self.limits = limits
        self._stream = stream
        self._live_rows = live_rows
        self._read = 0
        self._failed = 0
        self._deleted = 0

    @property
    def has_counted(self) -> bool:
        """Whether there is anything that could add up to too much."""
        return self._failed > 0 or self._deleted > 0

    def add(self, *, read: int, failed: int, deleted: int) -> None:
        """Counts a batch that is about to be committed; raises BreakerError when it is too much."""
        self._read += read
        self._failed += failed
        self._deleted += deleted
        self._check_failures()
        self._check_deletes()

    def check_waiting(self, waiting: int) -> None:
        """`waiting`: changes of the stream that would wait, those of earlier batches too."""
        if waiting > self.limits.waiting_records:
            raise BreakerError(
                f"Stream {self._stream} was stopped: {waiting:,} changes would wait behind failed "
                f"ones, more than the {self.limits.waiting_records:,} that "
                f"breakers.waiting_records allows. Nothing of the last batch was loaded. See "
                f"`rowtrail failures {self._stream}`; mend and retry what failed, or ignore it."
            )

    def _check_failures(self) -> None:
        limits = self.limits
        if self._failed > limits.failed_records:
            raise BreakerError(
                f"Stream {self._stream} was stopped: {self._failed:,} records failed in this run, "
                f"more than the {limits.failed_records:,} that breakers.failed_records allows. "
                f"Nothing of the last batch was loaded. See `rowtrail failures {self._stream}`; "
                f"mend the cause or raise the limit, then run again."
            )
        if self._read >= limits.sample and self._failed > self._read * limits.failed_share:
            raise BreakerError(
                f"Stream {self._stream} was stopped: {self._failed:,} of {self._read:,} records "
                f"failed in this run, a larger share than breakers.failed_share = "
                f"{limits.failed_share:g} allows. Nothing of the last batch was loaded. See "
                f"`rowtrail failures {self._stream}`."
            )

    def _check_deletes(self) -> None:
        limits = self.limits
        # More deletes than rows are possible: of rows that came and went since the last run.
        if limits.deleted_share >= 1:
            return
        if not self._live_rows or self._deleted <= self._live_rows * limits.deleted_share:
            return
        if self._deleted >= self._live_rows >= HANDFUL:
            much = f"every row of the {self._live_rows:,} at the target: is the source empty?"
        elif self._live_rows >= limits.sample:
            much = f"{self._deleted:,} of the {self._live_rows:,} rows at the target."
        else:
            return
        raise BreakerError(
            f"Stream {self._stream} was stopped: this run would delete {much} That is a larger "
            f"share than {_DELETED_SHARE} = {limits.deleted_share:g} allows. Nothing of the "
            f"last batch was loaded. If the rows are gone for good, run once with "
            f"--allow-deletes 100%."
        )
