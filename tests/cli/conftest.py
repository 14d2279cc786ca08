from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.place import Place


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A folder with a small source and a pipeline file, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return Place(tmp_path, capsys)


@pytest.fixture
def spoiled(place: Place) -> Place:
    """After a run in which order 2 failed at its transform, order 3 was left out, 1 was loaded."""
    place.use_transform()
    place.put((1, 1, "good"), (2, 2, "bad"), (3, 3, "test"))
    assert place.type("run").code == 3
    return place
