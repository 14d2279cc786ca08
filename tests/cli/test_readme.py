"""The README's section on a failed record, and pages that are scenarios, followed word by word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rowtrail.cli import demo
from tests import readme_steps


@pytest.mark.parametrize(
    "page", ["README.md", "docs/schemas.md", "docs/checks.md", "docs/history.md"]
)
def test_what_is_shown_is_what_happens(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        readme_steps.section()
        if page == "README.md"
        else (readme_steps.ROOT / page).read_text("utf-8")
    )
    shown = readme_steps.steps(text)
    assert len(shown) > 10
    monkeypatch.chdir(tmp_path)
    demo.demo(tmp_path / "demo")
    # `$PWD/../.venv/bin` of the first step is that of a clone.
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    assert os.access(tmp_path / ".venv" / "bin" / "rowtrail", os.X_OK)
    told = readme_steps.answers([command for command, _ in shown], tmp_path)
    assert [
        (command, readme_steps.steady(answer))
        for (command, _), answer in zip(shown, told, strict=True)
    ] == [(command, readme_steps.steady(answer)) for command, answer in shown]
