"""docs/types.md says what the connectors' tables say, and each type of them has a home."""

from __future__ import annotations

from tests.types.overview import PAGE, render


def test_the_page_is_what_the_connectors_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "python -m tests.types.overview"


def test_every_type_has_a_home_at_each_destination() -> None:
    assert "`none`" not in render()
