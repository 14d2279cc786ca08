"""What counts as drift of a table, and what a contract makes of it."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.contract import (
    MODES,
    NO_TERMS,
    Change,
    Contract,
    Mode,
    drift,
    terms,
)

ID = Column(name="id", type=pa.int64(), nullable=False)
NOTE = Column(name="note", type=pa.string())
SIZE = Column(name="size", type=pa.int32(), nullable=False)


def table(*columns: Column, key: tuple[str, ...] = ("id",)) -> TableSchema:
    return TableSchema(table="orders", columns=columns, key=key)


AGREED = table(ID, NOTE, SIZE)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (AGREED, []),
        (table(SIZE, NOTE, ID), []),
        (table(ID, replace(NOTE, nullable=False), SIZE), []),
        (table(ID, replace(NOTE, declared="varchar(9)"), SIZE), []),
        (table(ID, NOTE, SIZE, Column(name="at", type=pa.date32())), ["column at is new (date)"]),
        (table(ID, NOTE), ["column size (int32) is gone"]),
        (
            table(ID, NOTE, Column(name="weight", type=pa.int32())),
            ["column weight is new (int32)", "column size (int32) is gone"],
        ),
        (
            table(ID, NOTE, replace(SIZE, type=pa.decimal128(9, 2))),
            ["column size was int32 and is decimal(9,2)"],
        ),
        (table(ID, NOTE, replace(SIZE, nullable=True)), ["column size may be NULL now"]),
        (table(ID, NOTE, SIZE, key=("id", "size")), ["the key was (id) and is (id, size)"]),
        (
            table(replace(ID, type=pa.string()), NOTE, SIZE),
            ["key column id was int64 and is text"],
        ),
    ],
)
def test_drift(now: TableSchema, words: list[str]) -> None:
    assert [str(one) for one in drift(AGREED, now)] == words


def test_terms_keep_to_each_mode() -> None:
    now = table(
        ID,
        Column(name="note", type=pa.int64()),
        replace(SIZE, nullable=True),
        Column(name="extra", type=pa.date32()),
    )
    drifted = drift(AGREED, now)
    assert not terms(Contract(), drifted, AGREED) and terms(Contract(), drifted, AGREED) == NO_TERMS
    held = terms(
        Contract(
            new_column=Mode.QUARANTINE,
            type_change=Mode.QUARANTINE,
            nullability=Mode.QUARANTINE,
        ),
        drifted,
        AGREED,
    )
    assert (held.unknown, dict(held.types), held.required) == (
        {"extra"},
        {"note": pa.string()},
        {"size"},
    )
    assert held.output(now).arrow() == AGREED.arrow()
    left = terms(Contract(new_column=Mode.DISCARD, type_change=Mode.DISCARD), drifted, AGREED)
    assert left.output(now).names == ("id", "size")
    assert len({held.text, left.text, NO_TERMS.text}) == 3


def test_a_contract_of_one_mode() -> None:
    assert all(Contract.all(Mode.FREEZE).mode(change) is Mode.FREEZE for change in Change)
    assert Contract.all(Mode.EVOLVE) == Contract()
    assert not Contract().restricts and Contract(nullability=Mode.QUARANTINE).restricts
    assert all(Mode.EVOLVE in modes and Mode.FREEZE in modes for modes in MODES.values())
