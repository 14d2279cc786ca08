"""The shapes of a stream's rows on their way: at the source, by its contract, at the target."""

from __future__ import annotations

from dataclasses import dataclass

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.contract import NO_TERMS, Change, Drift, Mode, Terms, drift, terms
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.lock_file import LockFile


class ContractBrokenError(ConfigurationError):
    """A table has changed in a way that the stream's contract does not take: the stream stops."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the rows of a stream look like, and what is done to them for the contract."""

    source: TableSchema
    target: TableSchema
    terms: Terms = NO_TERMS
    drift: tuple[Drift, ...] = ()  # since the lock file was written


def shape_of(stream: StreamDefinition, source: TableSchema, lock: LockFile | None) -> Shape:
    """The shapes of a stream whose table is described so now.

    Raises ContractBrokenError for drift that the contract freezes or has nothing to hold it
    against, ConfigurationError for a wrong declaration of a transform.
    """
    agreed = None if lock is None else lock.streams.get(stream.name)
    if agreed is None and stream.contract.restricts:
        raise ContractBrokenError(_nothing_agreed(stream, lock))
    if agreed is None:
        return _shape(stream, source)
    assert lock is not None
    drifted = drift(agreed, source)
    frozen = [one for one in drifted if stream.contract.mode(one.change) is Mode.FREEZE]
    if frozen:
        raise ContractBrokenError(_frozen(stream, frozen, lock))
    return _shape(stream, source, terms(stream.contract, drifted, agreed), drifted)


def _shape(
    stream: StreamDefinition,
    source: TableSchema,
    agreed: Terms = NO_TERMS,
    drifted: tuple[Drift, ...] = (),
) -> Shape:
    schema = agreed.output(source)
    for step in stream.transforms:
        schema = step.output(schema)
    target = TableSchema(table=stream.target, columns=schema.columns, key=schema.key)
    return Shape(source=source, target=target, terms=agreed, drift=drifted)


def drift_words(stream: StreamDefinition, one: Drift) -> str:
    """What has changed and what becomes of it, without a full stop."""
    mode = stream.contract.mode(one.change)
    return f"{one}: {_OUTCOMES.get((one.change, mode)) or _ANY_OUTCOMES[mode]}"


_ANY_OUTCOMES = {
    Mode.EVOLVE: "the stream goes along",
    Mode.FREEZE: "the contract stops the stream",
    Mode.DISCARD: "the contract leaves it out",
    Mode.QUARANTINE: "the contract holds back the rows that do not fit",
}
_OUTCOMES = {
    (Change.NEW_COLUMN, Mode.EVOLVE): "the target gets it",
    (Change.NEW_COLUMN, Mode.QUARANTINE): "the contract holds back the rows that have a value "
    "there, and leaves it out of the others",
    (Change.DROPPED_COLUMN, Mode.EVOLVE): "the target keeps what it has there, and new rows have "
    "NULL",
    (Change.NULLABILITY, Mode.EVOLVE): "the target takes it",
    (Change.NULLABILITY, Mode.QUARANTINE): "the contract holds back the rows in which it is NULL",
    (Change.KEY_CHANGE, Mode.EVOLVE): "the target must have that key too",
}


def _nothing_agreed(stream: StreamDefinition, lock: LockFile | None) -> str:
    said = f"Stream {stream.name} has a contract, and"
    if lock is None:
        return f"{said} the pipeline has no lock file: set `lock`, then accept the shape."
    what = "has no shape of its table" if lock.path.exists() else "has yet to be written"
    return (
        f"{said} {lock.path} {what}. Look at it with `rowtrail schema {stream.name}`, and write it "
        f"with `rowtrail schema --accept {stream.name}`."
    )


def _frozen(stream: StreamDefinition, frozen: list[Drift], lock: LockFile) -> str:
    return (
        f"Stream {stream.name} was stopped by its contract: {'; '.join(map(str, frozen))} at the "
        f"source, since {lock.path.name} was written. If that is as it should be, take it in: "
        f"`rowtrail schema --accept {stream.name}`. Else mend the source, or change `contract`."
    )
