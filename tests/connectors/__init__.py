"""Tests of what talks to databases. What several of them share explains failed assertions, too."""

import pytest

pytest.register_assert_rewrite(
    "tests.connectors.follower",
    "tests.connectors.postgres_database",
    "tests.connectors.source_conformance",
    "tests.connectors.sqlite_database",
)
