"""Rowtrail: incremental ELT with replay of single records.

The names below are loaded when they are first used, so that the command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rowtrail.api import Pipeline
    from rowtrail.pipelines.definition import Breakers, Retention
    from rowtrail.pipelines.results import RunResult, StreamResult
    from rowtrail.pipelines.transforms import transform
    from rowtrail.stream import Stream

__version__ = "0.1.0"
__all__ = ["Breakers", "Pipeline", "Retention", "RunResult", "Stream", "StreamResult", "transform"]

_HOMES = {
    "Pipeline": "rowtrail.api",
    "Stream": "rowtrail.stream",
    "Breakers": "rowtrail.pipelines.definition",
    "Retention": "rowtrail.pipelines.definition",
    "RunResult": "rowtrail.pipelines.results",
    "StreamResult": "rowtrail.pipelines.results",
    "transform": "rowtrail.pipelines.transforms",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rowtrail' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
