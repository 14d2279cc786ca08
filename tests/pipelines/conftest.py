from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["trigger", "cursor", "snapshot"])
def capture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["soft", "hard"])
def deletes(request: pytest.FixtureRequest) -> str:
    return str(request.param)
