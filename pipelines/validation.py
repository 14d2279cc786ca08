"""All that a stream asks of its rows before they are loaded, ready to be asked of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.checking import BoundCheck, Broken, bind, redacts
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.redaction import Redaction


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The checks of one stream, bound to the columns that it loads."""

    checks: tuple[BoundCheck, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.checks)

    def light(self, rows: pa.RecordBatch, redaction: Redaction) -> list[Broken]:
        """What the rows break of the light checks, in the order of the checks."""
        found = (
            one.broken(rows, redacted=redacts([one.check.column], redaction.columns))
            for one in self.checks
        )
        return [one for one in found if len(one.rows)]


NO_VALIDATION = Validation()


def validation_of(stream: StreamDefinition, source: TableSchema, target: TableSchema) -> Validation:
    """What the stream asks of rows that have the target's schema.

    Raises ConfigurationError for what cannot be asked of them.
    """
    return Validation(checks=bind(stream, source, target))
