"""Finds the connector for a URL by its scheme."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from rowtrail.connectors.base import Destination, Fence, Source
from rowtrail.connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

# scheme -> (module, factory, extra). Modules are imported when a URL asks for them.
_SOURCES = {
    "sqlite": ("rowtrail.connectors.sources.sqlite", "SqliteSource", None),
}
_DESTINATIONS = {
    "duckdb": ("rowtrail.connectors.destinations.duckdb", "DuckdbDestination", None),
}
_GROUPS = {"source": "rowtrail.sources", "destination": "rowtrail.destinations"}


def open_source(url: str) -> Source:
    """Opens the source at `url`. Raises ConfigurationError for an unknown scheme."""
    return cast("Source", _factory("source", url)(url))


def open_destination(url: str, fence: Fence | None = None) -> Destination:
    """Opens the destination at `url`; without a fence for reading only."""
    return cast("Destination", _factory("destination", url)(url, fence))


def _factory(kind: str, url: str) -> Callable[..., object]:
    scheme = url.split(":", 1)[0].split("+", 1)[0].lower() if "://" in url else ""
    table = _SOURCES if kind == "source" else _DESTINATIONS
    if scheme in table:
        module, name, extra = table[scheme]
        try:
            return cast("Callable[..., object]", getattr(import_module(module), name))
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"The {kind} {scheme}:// needs the Python package {error.name}. "
                f"Install it with: pip install 'rowtrail[{extra or scheme}]'"
            ) from error
    others = {entry.name: entry for entry in entry_points(group=_GROUPS[kind])}
    if scheme in others:
        return cast("Callable[..., object]", others[scheme].load())
    known = ", ".join(f"{name}://" for name in sorted({*table, *others}))
    what = f"{scheme}:// is not a {kind} that Rowtrail knows" if scheme else "it has no scheme"
    raise ConfigurationError(
        f"The {kind}'s URL cannot be used: {what}. Known here: {known}. "
        f"For another database, install the package that brings its connector."
    )
