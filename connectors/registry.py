"""Finds the connector for a URL by its scheme."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from rowtrail.connectors.base import Capabilities, Destination, Fence, Source
from rowtrail.connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

# scheme -> (module, factory, extra). Modules are imported when a URL asks for them.
_BUILT_IN: Mapping[str, Mapping[str, tuple[str, str, str | None]]] = {
    "source": {
        "sqlite": ("rowtrail.connectors.sources.sqlite", "SqliteSource", None),
        "postgresql": ("rowtrail.connectors.sources.postgres", "PostgresSource", "postgres"),
        "postgres": ("rowtrail.connectors.sources.postgres", "PostgresSource", "postgres"),
        "snowflake": ("rowtrail.connectors.sources.snowflake", "SnowflakeSource", "snowflake"),
    },
    "destination": {
        "duckdb": ("rowtrail.connectors.destinations.duckdb", "DuckdbDestination", None),
        "postgresql": (
            "rowtrail.connectors.destinations.postgres",
            "PostgresDestination",
            "postgres",
        ),
        "postgres": (
            "rowtrail.connectors.destinations.postgres",
            "PostgresDestination",
            "postgres",
        ),
        "snowflake": (
            "rowtrail.connectors.destinations.snowflake",
            "SnowflakeDestination",
            "snowflake",
        ),
    },
}
_GROUPS = {"source": "rowtrail.sources", "destination": "rowtrail.destinations"}


def open_source(url: str) -> Source:
    """Opens the source at `url`. Raises ConfigurationError for an unknown scheme."""
    return cast("Source", _factory("source", url)(url))


def open_destination(url: str, fence: Fence | None = None) -> Destination:
    """Opens the destination at `url`; without a fence for reading only."""
    return cast("Destination", _factory("destination", url)(url, fence))


def capabilities_of(url: str) -> Capabilities:
    """What the destination at `url` can do; it is not opened."""
    return cast("type[Destination]", _factory("destination", url)).capabilities


def known_scheme(kind: str, url: str) -> str:
    """The scheme of a URL; raises ConfigurationError when no connector of that kind has it.

    `kind` is `source` or `destination`. Nothing is imported and nothing is opened.
    """
    scheme = url.split(":", 1)[0].split("+", 1)[0].lower() if "://" in url else ""
    if scheme in _BUILT_IN[kind]:
        return scheme
    names = sorted({*_BUILT_IN[kind], *(entry.name for entry in entry_points(group=_GROUPS[kind]))})
    if scheme in names:
        return scheme
    what = f"{scheme}:// is not a {kind} that Rowtrail knows" if scheme else "it has no scheme"
    raise ConfigurationError(
        f"The {kind}'s URL cannot be used: {what}. Known here: "
        f"{', '.join(f'{name}://' for name in names)}. For another database, install the package "
        f"that brings its connector."
    )


def _factory(kind: str, url: str) -> Callable[..., object]:
    scheme = known_scheme(kind, url)
    if scheme not in _BUILT_IN[kind]:
        (entry,) = entry_points(group=_GROUPS[kind], name=scheme)
        return cast("Callable[..., object]", entry.load())
    module, name, extra = _BUILT_IN[kind][scheme]
    try:
        return cast("Callable[..., object]", getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The {kind} {scheme}:// needs the Python package {error.name}. "
            f"Install it with: pip install 'rowtrail{f'[{extra}]' if extra else ''}'"
        ) from error
