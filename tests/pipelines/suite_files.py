"""Suites of Great Expectations, written as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def expectation(kind: str, severity: str | None = None, **kwargs: Any) -> dict[str, Any]:
    """One expectation as a suite's file has it; `kind` without `expect_`."""
    made: dict[str, Any] = {"type": f"expect_{kind}", "kwargs": kwargs, "meta": {"notes": "mine"}}
    return made if severity is None else {**made, "severity": severity}


def write_suite(path: Path, *expectations: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"name": path.stem, "expectations": expectations}), "utf-8")
    return path
