"""Transforms see ArrowDtype columns and change nothing that they do not touch."""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rowtrail.checkpoints.states import Stage
from rowtrail.connectors.changes import (
    VERSION_SCHEMA,
    Changes,
    Operation,
    Version,
    constant_versions,
)
from rowtrail.connectors.errors import ConfigurationError, StopError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.isolation import AttemptsSpentError, Budget, EveryProbeFailedError
from rowtrail.pipelines.stages import Staged, fold, stage
from rowtrail.pipelines.transforms import Transform, from_function, load, transform

SCHEMA = TableSchema(
    table="orders",
    columns=(
        Column(name="id", type=pa.int64(), nullable=False),
        Column(name="big", type=pa.int64()),
        Column(name="ratio", type=pa.float64()),
        Column(name="note", type=pa.string()),
    ),
    key=("id",),
)


def changes(rows: list[tuple[object, ...]], deletes: set[int] = frozenset()) -> Changes:
    columns = list(zip(*rows, strict=True)) or [()] * 4
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns, SCHEMA.arrow(), strict=True)
    ]
    operations = [
        Operation.DELETE if index in deletes else Operation.UPDATE for index in range(len(rows))
    ]
    return Changes(
        stream="orders",
        schema=SCHEMA,
        rows=pa.RecordBatch.from_arrays(arrays, schema=SCHEMA.arrow()),
        operations=pa.array([int(one) for one in operations], pa.uint8()),
        versions=constant_versions(Version(1, 1, 0, 0), len(rows)),
        position="1",
    )


def staged(batch: Changes, *functions) -> Staged:
    steps = tuple(from_function(function) for function in functions)
    return stage(batch, Budget(10_000), (), steps=steps)


AWKWARD = [
    (1, 2**53 + 1, float("nan"), "a"),
    (2, None, None, ""),
    (3, -(2**63), -0.0, None),
    (4, 2**63 - 1, float("inf"), "ünï😀"),
]


def same(rows: pa.RecordBatch, expected: list[tuple[object, ...]]) -> bool:
    found = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return repr(found) == repr(expected)


def untouched(frame):
    return frame


def through_numpy(frame):
    """What careless code does: every column goes through numpy and object types."""
    return pd.DataFrame({name: frame[name].to_numpy(na_value=np.nan) for name in frame.columns})


def through_float(frame):
    return frame.assign(big=frame["big"].astype("float64"))


@pytest.mark.parametrize("function", [untouched, through_numpy, through_float])
def test_what_a_transform_does_not_touch_stays_exact(function) -> None:
    result = staged(changes(AWKWARD), function)
    assert result.failed == ()
    assert same(result.rows, AWKWARD)


def test_a_double_that_stands_for_several_integers_is_refused() -> None:
    def careless(frame):
        return frame.assign(big=frame["big"].astype("float64") + 1)

    result = staged(changes([(1, 2**53 + 1, None, None), (2, 5, None, None)]), careless)
    assert [(one.row, one.stage) for one in result.failed] == [(0, Stage.VALIDATE)]
    assert "column big" in result.failed[0].message
    assert same(result.rows, [(2, 6, None, None)])


def test_rows_that_raise_are_named_and_the_rest_goes_on() -> None:
    def picky(frame):
        if (frame["note"] == "bad").any():
            raise KeyError("no rate")
        return frame

    rows = [(number, number, 1.0, "bad" if number in {5, 17} else "ok") for number in range(40)]
    result = staged(changes(rows), picky)
    assert [one.row for one in result.failed] == [5, 17]
    assert {one.error_class for one in result.failed} == {"KeyError"}
    assert len(result.rows) == 38
    assert result.kept.to_pylist() == [row for row in range(40) if row not in {5, 17}]


def test_dropped_rows_are_filtered_by_name_and_deletes_pass_by() -> None:
    def only_even(frame):
        assert frame["note"].notna().all(), "a delete must not be seen"
        return frame[frame["id"].isin([0, 2, 4])]

    rows = [(number, 1, 1.0, "x") for number in range(6)] + [(7, None, None, None)]
    result = staged(changes(rows, deletes={6}), only_even, untouched)
    assert result.rows.column(0).to_pylist() == [0, 2, 4]
    assert result.dropped.to_pylist() == [1, 3, 5]
    assert result.deleted.to_pylist() == [6]
    assert [(name.rpartition(".")[2], count) for name, count in result.dropped_by] == [
        ("only_even", 3)
    ]


def test_columns_are_added_and_dropped_as_declared() -> None:
    @transform(adds={"total": "decimal(6,2)"}, drops=["ratio"])
    def price(frame):
        total = pd.Series(pd.array([Decimal("1.50"), Decimal("99999.00")]), index=frame.index)
        return frame.drop(columns="ratio").assign(total=total)

    result = staged(changes([(1, 1, 1.0, "a"), (2, 2, 2.0, "b")]), price)
    assert result.rows.schema.names == ["id", "big", "note", "total"]
    assert result.rows.column("total").to_pylist() == [Decimal("1.50")]
    assert [(one.row, one.stage) for one in result.failed] == [(1, Stage.VALIDATE)]
    assert "column total does not fit decimal(6,2)" in result.failed[0].message


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda frame: None, "returned NoneType instead of a DataFrame"),
        (lambda frame: frame.drop(columns="id"), "lost the key column id"),
        (lambda frame: frame.drop(columns="note"), r"did not return column note.*drops=\['note'\]"),
        (lambda frame: frame.assign(extra=1), "returned column extra, which it does not declare"),
        (lambda frame: pd.concat([frame, frame]), "returned rows that it was not given"),
        (lambda frame: frame.set_index(frame["note"]), "returned rows that it was not given"),
    ],
)
def test_wrong_code_is_an_error_of_the_configuration(function, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        staged(changes([(1, 1, 1.0, "a"), (2, 2, 2.0, "b")]), function)


def test_a_changed_key_fails_the_record_alone() -> None:
    def shift(frame):
        return frame.assign(id=frame["id"].where(frame["note"] != "x", frame["id"] + 100))

    result = staged(changes([(1, 1, 1.0, "a"), (2, 2, 2.0, "x"), (3, 3, 3.0, "c")]), shift)
    assert [one.row for one in result.failed] == [1]
    assert "changed the key column id" in result.failed[0].message


def test_code_that_always_raises_stops_the_stream() -> None:
    def broken(frame):
        return frame["no such column"]

    rows = [(number, 1, 1.0, "x") for number in range(1_000)]
    with pytest.raises(EveryProbeFailedError, match="KeyError"):
        staged(changes(rows), broken)


def test_shuffled_rows_are_put_back_in_order() -> None:
    result = staged(changes(AWKWARD), lambda frame: frame.iloc[::-1])
    assert same(result.rows, AWKWARD)


def test_an_empty_batch_needs_no_transform() -> None:
    def never(frame):
        raise AssertionError("called without rows")

    assert len(staged(changes([]), never).rows) == 0


def test_folding_keeps_the_last_change_of_each_key() -> None:
    rows = [(1, 1, None, "a"), (2, 1, None, "b"), (1, 2, None, "c"), (1, None, None, None)]
    last, folded = fold(changes(rows, deletes={3}), keep_versions=False)
    assert last.to_pylist() == [1, 3]
    assert folded.to_pylist() == [0, 2]


def test_no_version_is_folded_away_where_the_target_keeps_them() -> None:
    rows = [(1, 1, None, "a"), (2, 1, None, "b"), (1, 2, None, "c"), (1, None, None, None)]
    columns = [pa.array(part, pa.int64()) for part in ([1] * 4, [1, 1, 2, 3], [0] * 4, [0] * 4)]
    versions = pa.RecordBatch.from_arrays(columns, schema=VERSION_SCHEMA)
    batch = replace(changes(rows, deletes={3}), versions=versions)
    last, folded = fold(batch, keep_versions=True)
    assert (last.to_pylist(), folded.to_pylist()) == ([0, 1, 2, 3], [])
    last, folded = fold(batch.take(pa.array([0, 2, 2, 1])), keep_versions=True)
    assert (last.to_pylist(), folded.to_pylist()) == ([0, 2, 3], [1])


def test_a_transform_is_loaded_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def clean(frame):\n    return frame\n")
    first = load("mine:clean", tmp_path)
    (tmp_path / "mine.py").write_text("def clean(frame):\n    return frame.copy()\n")
    assert load("mine:clean", tmp_path).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("clean", "is not of the form module:function"),
        ("nowhere:clean", "there is no module nowhere"),
        ("mine:missing", "module mine has no function missing"),
        ("broken:clean", "importing broken fails with ZeroDivisionError"),
    ],
)
def test_a_transform_that_cannot_be_loaded_says_why(tmp_path, reference, words) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigurationError, match=words):
        load(reference, tmp_path)


HELPED = "from helpers import factor\n\ndef clean(frame):\n    return frame.assign(big=factor)\n"


def with_helper(folder: Path, factor: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(HELPED)
    (folder / "helpers.py").write_text(f"factor = {factor}\n")
    return folder


def factor_of(step: Transform) -> object:
    rows = changes([(1, 1, 1.0, "a")])
    return stage(rows, Budget(10), (), steps=(step,)).rows.column("big")[0].as_py()


def test_a_helper_beside_a_transform_is_its_own(tmp_path: Path) -> None:
    path, modules = list(sys.path), set(sys.modules)
    first = load("mine:clean", with_helper(tmp_path / "one", 10))
    second = load("mine:clean", with_helper(tmp_path / "two", 200))
    assert [factor_of(first), factor_of(second)] == [10, 200]
    assert sys.path == path
    assert {"mine", "helpers"}.isdisjoint(set(sys.modules) - modules)


def test_a_module_of_that_name_from_elsewhere_is_left_in_peace(tmp_path, monkeypatch) -> None:
    other = ModuleType("helpers")
    monkeypatch.setitem(sys.modules, "helpers", other)
    assert factor_of(load("mine:clean", with_helper(tmp_path, 3))) == 3
    assert sys.modules["helpers"] is other


def test_a_mended_helper_is_changed_code(tmp_path: Path) -> None:
    before = load("mine:clean", with_helper(tmp_path, 1)).fingerprint
    assert load("mine:clean", with_helper(tmp_path, 1)).fingerprint == before
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert load("mine:clean", tmp_path).fingerprint == before
    assert load("mine:clean", with_helper(tmp_path, 20)).fingerprint != before


def test_a_package_beside_the_configuration(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rates.py").write_text("factor = 7\n")
    (package / "clean.py").write_text(HELPED.replace("from helpers", "from .rates"))
    step = load("shop.clean:clean", tmp_path)
    assert factor_of(step) == 7
    (package / "rates.py").write_text("factor = 80\n")
    assert load("shop.clean:clean", tmp_path).fingerprint != step.fingerprint


def test_rows_that_fail_only_together_are_named_as_records() -> None:
    def unique(frame):
        if frame["note"].duplicated().any():
            raise ValueError("notes twice")
        return frame

    rows = [(number, 1, 1.0, "same" if number in {3, 77} else str(number)) for number in (1, 3, 77)]
    with pytest.raises(StopError) as caught:
        staged(changes(rows), unique)
    message = str(caught.value)
    assert "Stream orders was stopped: records orders:3 and orders:77" in message
    assert "unique" in message and "notes twice" in message and "mend it" in message


def test_a_stop_names_the_stream_the_transform_and_a_next_step() -> None:
    def broken(frame):
        return frame["no such column"]

    batch = changes([(number, 1, 1.0, "x") for number in range(1_000)])
    for budget, kind in ((10_000, EveryProbeFailedError), (5, AttemptsSpentError)):
        with pytest.raises(kind, match=r"Stream orders .*broken.* Mend the transform, then run"):
            stage(batch, Budget(budget), (), steps=(from_function(broken),))


def test_what_does_not_fit_says_what_to_declare() -> None:
    @transform(adds={"small": "float32"})
    def share(frame):
        return frame.assign(small=frame["ratio"])

    result = staged(changes([(1, 1, 0.1, "a"), (2, 2, 0.5, "b")]), share)
    (failed,) = result.failed
    assert (failed.row, failed.stage) == (0, Stage.VALIDATE)
    assert "column small does not fit float32" in failed.message
    assert "declare float64" in failed.message
    assert result.rows.column("small").to_pylist() == [0.5]


def test_columns_of_another_kind_say_so() -> None:
    @transform(adds={"at": "timestamp"})
    def dated(frame):
        return frame.assign(at=pd.to_datetime(frame["big"], unit="s", utc=True))

    (failed,) = staged(changes([(1, 1, 0.1, "a")]), dated).failed
    assert "a timestamp with zone cannot stand for a timestamp without zone" in failed.message
    assert "declare timestamptz" in failed.message
