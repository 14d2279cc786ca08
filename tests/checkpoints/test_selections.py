"""A selection says one thing, and says it in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rowtrail.checkpoints.selections import Selection
from tests.checkpoints.desk import NOON


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"run_id": "x", "where": "y"},
        {"since": NOON},
        {"until": NOON},
        {"where": "x", "until": NOON},
    ],
)
def test_a_selection_is_one_thing(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a selection is a run, a span of time or a condition"):
        Selection(**parts)  # type: ignore[arg-type]


def test_a_selection_completes_a_sentence() -> None:
    span = Selection(since=NOON, until=NOON + timedelta(hours=1))
    assert str(span) == "loaded or failed from 2024-01-31 12:00:00 UTC to 2024-01-31 13:00:00 UTC"
    assert str(Selection(run_id="7")) == "that run 7 took up"
    assert str(Selection(where="id > 1")) == "where id > 1"
