"""A stream's Great Expectations suites, held to whole batches; failing rows are told one by one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.pipelines.checking import (
    LONGEST_VALUE,
    Broken,
    column_at_target,
    redacts,
    told_value,
)
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.definition import StreamDefinition
from rowtrail.pipelines.expectation_frames import frame_of, rounded_bound
from rowtrail.pipelines.expectation_library import Answer, Asked, build, is_about_rows
from rowtrail.pipelines.masking import MASK
from rowtrail.pipelines.redaction import Redaction
from rowtrail.pipelines.suites import Expectation

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_COLUMNS = ("column", "column_A", "column_B", "column_list")
_BOUNDS = ("min_value", "max_value")
_MAY_BE_MISSING = "expect_column_to_exist"
"""That a column may not be there is what it is about."""


@dataclass(frozen=True, kw_only=True)
class AboutBatch:
    """What an expectation of a whole batch said of it, where it was broken."""

    check: str  # `expectation expect_column_mean_to_be_between of column amount (min_value = 0)`
    file: str  # the suite's
    severity: Severity
    observed: str  # what the batch has, in words


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an expectation said of some rows, met or not."""

    check: str
    severity: Severity
    success: bool
    unexpected: int | None  # rows; None where it is about them all
    observed: str | None  # where it is about them all


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a batch of rows broke."""

    rows: tuple[Broken, ...] = ()
    batch: tuple[AboutBatch, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Expectations that are asked of one DataFrame."""

    places: tuple[int, ...]
    asked: Asked
    compared: frozenset[str]  # columns that are held against each other


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The expectations of one stream, built for the columns that it loads."""

    stream: str
    expectations: tuple[Expectation, ...]
    whole: tuple[Group, ...]  # all of them
    of_rows: tuple[Group, ...]  # those that each row answers for itself

    def look(self, rows: pa.RecordBatch, redaction: Redaction, *, whole: bool) -> Found:
        """Asks the rows; without `whole` only what each of them answers for itself.

        Raises ConfigurationError for an expectation that cannot be asked of them.
        """
        answers = self.answers(rows, redaction, whole=whole)
        found: list[Broken] = []
        batch: list[AboutBatch] = []
        for one, answer in answers:
            if answer.rows is None:
                if not answer.success and whole:
                    batch.append(_about_batch(one, answer, rows, redaction))
            elif answer.rows:
                found.append(_broken(one, answer, rows, redaction))
        return Found(rows=tuple(found), batch=tuple(batch))

    def told(self, rows: pa.RecordBatch, redaction: Redaction) -> list[Told]:
        """What each expectation says of the rows, in order. Raises ConfigurationError."""
        return [
            Told(
                check=words_of(one),
                severity=one.severity,
                success=answer.success,
                unexpected=None if answer.rows is None else len(answer.rows),
                observed=_seen(one, answer, rows, redaction) if answer.rows is None else None,
            )
            for one, answer in self.answers(rows, redaction, whole=True)
        ]

    def answers(
        self, rows: pa.RecordBatch, redaction: Redaction, *, whole: bool
    ) -> list[tuple[Expectation, Answer]]:
        """What each expectation says of the rows, in order. Raises ConfigurationError."""
        found: list[Answer] = []
        for group in (self.whole if whole else self.of_rows) if len(rows) else ():
            frame, exact = frame_of(rows, group.compared)
            for place in group.places:
                _refuse_inexact(self.stream, self.expectations[place], exact)
            found += group.asked.of(frame)
        found.sort(key=lambda answer: answer.place)
        pairs = [(self.expectations[answer.place], answer) for answer in found]
        for one, answer in pairs:
            if answer.exception is not None:
                why = redaction.masked(answer.exception, rows, quoted=True)
                raise _not_askable(self.stream, one, " ".join(why.split()))
        return pairs


def expected(stream: StreamDefinition, source: TableSchema, target: TableSchema) -> Expected | None:
    """The stream's suites for rows of the target's schema; None where it has none.

    Raises ConfigurationError for what is no expectation, and for one on a column that does not
    reach the target.
    """
    listed = [one for suite in stream.expectations for one in suite.expectations]
    if not listed:
        return None
    fitting = [_with_columns(stream, one, source, target) for one in listed]
    built = []
    for place, one in enumerate(fitting):
        try:
            built.append(build(one.type, one.kwargs, place))
        except ValueError as error:
            raise _not_askable(stream.name, one, str(error)) from error
    of_rows = [place for place, one in enumerate(built) if is_about_rows(one)]
    return Expected(
        stream=stream.name,
        expectations=tuple(fitting),
        whole=_groups(fitting, built, range(len(built))),
        of_rows=_groups(fitting, built, of_rows),
    )


def _groups(
    fitting: Sequence[Expectation], built: Sequence[Any], places: Iterable[int]
) -> tuple[Group, ...]:
    """Those about several columns by themselves: the others see columns as they are."""
    groups: dict[bool, list[int]] = {}
    for place in places:
        groups.setdefault(len(fitting[place].columns) > 1, []).append(place)
    return tuple(
        Group(
            places=tuple(found),
            asked=Asked([built[place] for place in found]),
            compared=frozenset(name for place in found for name in fitting[place].columns)
            if several
            else frozenset(),
        )
        for several, found in groups.items()
    )


def words_of(one: Expectation) -> str:
    """`expectation NAME of column amount (min_value = 0)`."""
    arguments = [
        f"{name} = {_written(value)}" for name, value in one.kwargs.items() if name not in _COLUMNS
    ]
    told = f" ({', '.join(arguments)})" if arguments else ""
    about = f" of {_columns(one)}" if one.columns else ""
    return f"expectation {one.type}{about}{told}"


def _observed_words(answer: Answer) -> str:
    """What the whole had, as text; in quotes, by which it is told from words."""
    if answer.observed is not None:
        return _quoted(answer.observed)
    return _quoted(answer.details) if answer.details else "otherwise"


def _with_columns(
    stream: StreamDefinition, one: Expectation, source: TableSchema, target: TableSchema
) -> Expectation:
    """With its columns as the target spells them, and dates as moments where they are such."""
    if one.type == _MAY_BE_MISSING:
        return one
    spelled = {
        name: column_at_target(
            stream, name, source, target, f"expects `{one.type}`", thing="expectation"
        )
        for name in one.columns
    }
    kwargs = {
        name: _spelled(value, spelled) if name in _COLUMNS else value
        for name, value in one.kwargs.items()
    }
    types = [target.column(name).type for name in spelled.values()]
    if types and all(pa.types.is_timestamp(one) and one.tz is None for one in types):
        kwargs |= {name: _moment(kwargs[name]) for name in _BOUNDS if name in kwargs}
    return replace(one, kwargs=kwargs)


def _spelled(value: Any, spelled: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return spelled[value]
    return [spelled[name] for name in value]


def _moment(bound: Any) -> Any:
    """A day stands for its beginning; a date cannot be compared with a moment."""
    day = bound.isoformat() if type(bound) is date else bound
    return f"{day}T00:00:00" if isinstance(day, str) and _DAY.fullmatch(day) else bound


def _refuse_inexact(stream: str, one: Expectation, exact: Collection[str]) -> None:
    """Python does not take 0.1 for the double that stands for it."""
    bound = rounded_bound(one.kwargs)
    column = next((name for name in one.columns if name in exact), None)
    if bound is not None and column is not None:
        raise _not_askable(
            stream,
            one,
            f"column {column} has values with more digits than a double, and {bound} would be "
            f"compared as a double; a light check (`checks`) has it exact",
        )


def _broken(one: Expectation, answer: Answer, rows: pa.RecordBatch, redaction: Redaction) -> Broken:
    numbers = np.unique(np.array(answer.rows, dtype=np.int64))
    # With `mostly` it can be met although some rows are not as expected.
    met = answer.success or one.severity is Severity.WARN
    arguments = words_of(one).partition(" (")
    told = f"{arguments[1]}{arguments[2]}"
    verb = "breaks" if len(one.columns) == 1 else "break"
    return Broken(
        check=words_of(one),
        severity=Severity.WARN if met else Severity.FAIL,
        rows=pa.array(numbers),
        words=f"{_columns(one)} {verb} the expectation {one.type}{told}: ",
        observed=partial(_observed, one, rows, redaction),
    )


def _observed(one: Expectation, rows: pa.RecordBatch, redaction: Redaction, row: int) -> str:
    told = [
        told_value(rows.column(name)[row], redacted=redacts([name], redaction.columns))
        for name in one.columns
    ]
    return f"its value is {told[0]}" if len(told) == 1 else f"its values are {', '.join(told)}"


def _about_batch(
    one: Expectation, answer: Answer, rows: pa.RecordBatch, redaction: Redaction
) -> AboutBatch:
    return AboutBatch(
        check=words_of(one),
        file=one.file,
        severity=one.severity,
        observed=_seen(one, answer, rows, redaction),
    )


def _seen(one: Expectation, answer: Answer, rows: pa.RecordBatch, redaction: Redaction) -> str:
    """What the whole has, without what redacted columns have."""
    if redacts(one.columns, redaction.columns):
        return MASK
    words = _observed_words(answer)
    # A transform may have put a redacted value into any column; how many rows there are is none.
    return redaction.masked(words, rows, quoted=True) if one.columns else words


def _not_askable(stream: str, one: Expectation, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Stream {stream} has the {words_of(one)} in {one.file}, which cannot be asked of its "
        f"rows: {why.rstrip('.')}. Correct it there, or take it out."
    )


def _columns(one: Expectation) -> str:
    listed = [f"column {one.columns[0]}"] if len(one.columns) == 1 else []
    if len(one.columns) > 1:
        listed = [f"columns {', '.join(one.columns[:-1])} and {one.columns[-1]}"]
    return listed[0] if listed else "the table"


def _written(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _quoted(value: Any) -> str:
    text = str(value.item() if isinstance(value, np.generic) else value)
    return repr(text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…")


def breaker_words(stream: str, broken: Sequence[AboutBatch]) -> str:
    """Why the stream is stopped."""
    told = "; ".join(f"{one.check} ({one.file}), it has {one.observed}" for one in broken)
    files = " or ".join(dict.fromkeys(one.file for one in broken))
    return (
        f"Stream {stream} was stopped: the rows of a batch together break the {told}. Nothing of "
        f"the batch was loaded. Mend the source, or correct {files}, then run again."
    )
