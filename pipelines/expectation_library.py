"""The one place that calls Great Expectations: imported when a stream has a suite, and kept quiet.

It is given DataFrames, never a database. One context is made for the process; nothing is written to
a disk, nothing is sent anywhere, and nothing that it prints or logs gets out, since it may hold
values of rows.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.suites import NEEDS

if TYPE_CHECKING:
    import pandas as pd

_LOCK = RLock()  # the context has room for one batch at a time
_LOGGER = logging.getLogger("great_expectations")
_PLACE = "rowtrail"
"""Under which an expectation's `meta` has its place: results come in an order of their own."""
_NEEDS_DATABASE = frozenset(
    (
        "unexpected_rows_expectation",
        "expect_query_results_to_match_comparison",
        "expect_table_row_count_to_equal_other_table",
    )
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one expectation said of a DataFrame."""

    place: int  # of the expectation among those asked
    success: bool
    rows: Sequence[int] | None  # labels of unexpected rows; None where it is about the whole
    observed: Any = None
    details: Any = None
    exception: str | None = None  # why it could not be asked


class Asked:
    """Some expectations, made once, that any number of DataFrames can be held to."""

    def __init__(self, built: Sequence[Any]) -> None:
        """`built`: what `build` gave, in the order of their places."""
        with _quiet():
            import great_expectations as gx

            self._suite = gx.ExpectationSuite(name=_PLACE, expectations=list(built))
            held = len(self._suite.expectations)
        if held != len(built):
            raise ConfigurationError(
                f"Great Expectations took {held} of {len(built)} expectations. Take out those that "
                f"are there twice."
            )

    def of(self, frame: pd.DataFrame) -> list[Answer]:
        """The answers in the order of the expectations."""
        form = {"result_format": "COMPLETE", "include_unexpected_rows": False}
        with _LOCK, _quiet():
            definition = _batches()
            batch = definition.get_batch(batch_parameters={"dataframe": frame})
            found = batch.validate(self._suite, result_format=form)
            # Else the context would keep the rows until the next ones come.
            none = definition.get_batch(batch_parameters={"dataframe": frame.iloc[:0].copy()})
            none.validate(_nothing())
        return sorted((_answer(one) for one in found.results), key=lambda answer: answer.place)


def build(kind: str, kwargs: Mapping[str, Any], place: int) -> Any:
    """An expectation of the library; raises ValueError, which says what is wrong with it."""
    if kind in _NEEDS_DATABASE:
        raise ValueError("it asks a database by SQL, and the rows are given as a DataFrame")
    with _quiet():
        _library()
        from great_expectations.exceptions.exceptions import ExpectationNotFoundError
        from great_expectations.expectations.registry import (
            get_expectation_impl,
            list_registered_expectation_implementations,
        )

        try:
            made = get_expectation_impl(kind)(**kwargs, meta={_PLACE: place})
        except ExpectationNotFoundError:
            known = list_registered_expectation_implementations()
            close = difflib.get_close_matches(kind, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"Great Expectations has none of this name{meant}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(_words(error)) from error
    for name, given in kwargs.items():
        _refuse_rounded(name, given, getattr(made, name, given))
    return made


def is_about_rows(built: Any) -> bool:
    """Whether each row answers for itself or for its value; else the whole of them does."""
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    kinds = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    return isinstance(built, kinds)


def _refuse_rounded(name: str, given: Any, taken: Any) -> None:
    """Great Expectations takes a bound as a double, and does not say so."""
    if isinstance(given, int) and isinstance(taken, float) and given != taken:
        raise ValueError(
            f"it would take {name} = {given} as {int(taken)}, since it has numbers as doubles; a "
            f"light check (`checks`) has them exact"
        )


def _answer(found: Any) -> Answer:
    result = found.result
    return Answer(
        place=found.expectation_config.meta[_PLACE],
        success=bool(found.success),
        rows=result.get("unexpected_index_list"),
        observed=result.get("observed_value"),
        details=result.get("details") or result.get("partial_unexpected_list"),
        exception=_exception(found.exception_info),
    )


def _exception(info: Mapping[str, Any]) -> str | None:
    """It is told for the expectation, or for each of the metrics that it needs."""
    told = [info] if "raised_exception" in info else list(info.values())
    raised = (one for one in told if isinstance(one, Mapping) and one.get("raised_exception"))
    return next((str(one.get("exception_message")) for one in raised), None)


def _words(error: Exception) -> str:
    """What is wrong with the arguments, each thing once."""
    listed = getattr(error, "errors", None)
    if listed is None:
        return f"{type(error).__name__}: {error}"
    told: dict[str, str] = {}
    for one in listed():
        place = ".".join(str(part) for part in one["loc"] if part != "__root__")
        told.setdefault(place, str(one["msg"]))
    return "; ".join(f"{place}: {words}" if place else words for place, words in told.items())


def _library() -> None:
    """Raises ConfigurationError where the package is missing."""
    try:
        import great_expectations  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"A stream has `expectations`, and a package is missing for them ({error.name}): "
            f"{NEEDS}"
        ) from None


@cache
def _batches() -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas(_PLACE).add_dataframe_asset(_PLACE)
    return asset.add_batch_definition_whole_dataframe(_PLACE)


@cache
def _nothing() -> Any:
    import great_expectations as gx

    return gx.ExpectationSuite(name="nothing", expectations=[])


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that the library says meanwhile reaches the terminal, a log or the user."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    handler, propagates = logging.NullHandler(), _LOGGER.propagate
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = False
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        _LOGGER.propagate = propagates
        _LOGGER.removeHandler(handler)
