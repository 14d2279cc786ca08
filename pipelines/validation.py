"""All that a stream asks of its rows before they are loaded, ready to be asked of whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.breakers import BreakerError
from rowtrail.pipelines.checking import BoundCheck, Broken, bind, redacts
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.redaction import Redaction

if TYPE_CHECKING:
    from rowtrail.pipelines.expectations import AboutBatch, Expected


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one check or expectation says of some rows."""

    success: bool
    unexpected: int | None = None  # rows that broke it; None where it is about the whole
    observed: str | None = None  # where it is about the whole: what it has


@dataclass(frozen=True)
class Asked:
    """A check or an expectation, by its place among all of the stream's."""

    place: int
    check: str
    severity: Severity


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The checks and suites of one stream, bound to the columns that it loads."""

    checks: tuple[BoundCheck, ...] = ()
    expected: Expected | None = None

    def __bool__(self) -> bool:
        return bool(self.checks) or self.expected is not None

    def light(self, rows: pa.RecordBatch, redaction: Redaction) -> list[Broken]:
        """What the rows break of the light checks, in the order of the checks."""
        found = (
            one.broken(rows, redacted=redacts([one.check.column], redaction.columns))
            for one in self.checks
        )
        return [one for one in found if len(one.rows)]

    def verdicts(self, rows: pa.RecordBatch, redaction: Redaction) -> list[tuple[Asked, Verdict]]:
        """What each check and each expectation says of the rows, all of them together.

        Raises ConfigurationError for an expectation that cannot be asked of them.
        """
        found: list[tuple[Asked, Verdict]] = []
        for place, one in enumerate(self.checks):
            broken = one.broken(rows, redacted=True)
            verdict = Verdict(success=not len(broken.rows), unexpected=len(broken.rows))
            found.append((Asked(place, broken.check, broken.severity), verdict))
        if self.expected is not None:
            for told in self.expected.told(rows, redaction):
                asked = Asked(len(found), told.check, told.severity)
                verdict = Verdict(
                    success=told.success, unexpected=told.unexpected, observed=told.observed
                )
                found.append((asked, verdict))
        return found

    def stop_for(self, broken: Sequence[AboutBatch]) -> None:
        """Raises BreakerError where something of severity `fail` is among them."""
        if failed := [one for one in broken if one.severity is Severity.FAIL]:
            from rowtrail.pipelines.expectations import breaker_words

            assert self.expected is not None
            raise BreakerError(breaker_words(self.expected.stream, failed))


NO_VALIDATION = Validation()


def validation_of(stream: StreamDefinition, source: TableSchema, target: TableSchema) -> Validation:
    """What the stream asks of rows that have the target's schema.

    Raises ConfigurationError for what cannot be asked of them.
    """
    return Validation(
        checks=bind(stream, source, target),
        # The module that calls the library is not even read for a stream without suites.
        expected=_expected(stream, source, target) if stream.expectations else None,
    )


def _expected(
    stream: StreamDefinition, source: TableSchema, target: TableSchema
) -> Expected | None:
    from rowtrail.pipelines.expectations import expected

    return expected(stream, source, target)
