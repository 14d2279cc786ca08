"""docs/types.md says what the connectors' tables say, and each type of them has a home."""

from __future__ import annotations

from tests.types.overview import PAGE, render


def test_the_page_is_what_the_connectors_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "python -m tests.types.overview"


def test_every_type_has_a_home_at_each_destination() -> None:
    assert "`none`" not in render()


def test_a_pair_that_cannot_be_is_shown_as_refused() -> None:
    """Bytes are no numbers, in either database, and no kind becomes each other one."""
    page = render()
    (sqlite,) = [line for line in page.splitlines() if line.startswith("| `BLOB`, `TINYBLOB`")][1:]
    (postgres,) = [line for line in page.splitlines() if line.startswith("| `bytea` |")][1:]
    for line in (sqlite, postgres):
        assert [cell.strip() for cell in line.split("|")[2:-1]] == [
            *[""] * 6,
            "fits",
            "yes",
            *[""] * 5,
        ]
    assert "| a blob | | | | | | fits | | | | |" in page
