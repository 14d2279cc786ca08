"""Every type of PostgreSQL ends equal, held back by name, or refused by name; and docs/ say so."""

from __future__ import annotations

import pytest

from tests.postgres_server import GivenServer, PostgresServer
from tests.types.matrix import Matrix, observe
from tests.types.page import PAGE, render
from tests.types.postgres_types import CASES, EXTENSIONS


@pytest.fixture(scope="module")
def matrix(
    postgres_server: PostgresServer | GivenServer, tmp_path_factory: pytest.TempPathFactory
) -> Matrix:
    with postgres_server.database() as source, postgres_server.database() as target:
        return observe(source, target, tmp_path_factory.mktemp("types"))


def test_every_type_of_the_server_has_a_case(matrix: Matrix) -> None:
    assert matrix.missing == set()


@pytest.mark.parametrize("destination", ["DuckDB", "PostgreSQL"])
def test_every_value_is_equal_or_held_back_or_its_column_refused(
    matrix: Matrix, destination: str
) -> None:
    problems = {
        column: outcome.problems
        for (column, where), outcome in matrix.outcomes.items()
        if where == destination and outcome.problems
    }
    assert problems == {}
    assert sum(where == destination for _, where in matrix.outcomes) == len(matrix.cases) > 90


def test_what_has_no_number_or_time_of_its_own_is_held_back(matrix: Matrix) -> None:
    for column, value in (
        ("numeric_12_2", "NaN"),
        ("date", "infinity"),
        ("timestamp_with_time_zone", "-infinity"),
        ("time", "24:00:00"),
    ):
        assert value in matrix.outcomes[column, "DuckDB"].held_back


def test_the_page_says_what_was_seen(matrix: Matrix) -> None:
    """Where the server has all that the page was made with; another one has other types."""
    if len(matrix.cases) < len(CASES) or matrix.version // 10_000 != 15:
        pytest.skip(f"the page is of PostgreSQL 15 with {', '.join(EXTENSIONS)}")
    assert render(matrix) == PAGE.read_text(encoding="utf-8"), "write it: python -m tests.types"
