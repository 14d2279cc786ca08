"""A password, in a URL or from the environment, is in no output, log or file of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rowtrail.connectors import registry
from rowtrail.connectors.errors import TransientError
from rowtrail.connectors.sources.sqlite import SqliteSource
from rowtrail.pipelines import retrying
from tests.cli.place import FILE, Place

SECRET = "s3cret-Pa55"
URL = f"oracle://user:{SECRET}@db.example.org/shop"
COMMANDS = (
    ("check",), ("run",), ("status",), ("failures",), ("record", "orders", "1"), ("retry",),
    ("replay", "orders", "1"), ("ignore", "orders", "1", "--reason", "x"), ("init", "--capture"),
    ("stream", "pause", "orders"), ("ledger", "rebuild"),
)  # fmt: skip


class VaultSource(SqliteSource):
    """Takes `vault://user:password@host/file`, as databases with users do."""

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(f"sqlite:///{Path(url.rpartition('/')[2])}")


class BrokenSource:
    """A driver that puts the URL into its error, and a connector that lets it through."""

    def __init__(self, url: str) -> None:
        raise ConnectionError(f"could not connect to {url}")


class LostSource:
    """A connector that cannot reach its database, and says so as it should."""

    def __init__(self, url: str) -> None:
        raise TransientError(f"The database at {url.rpartition('@')[2]} does not answer.")


@pytest.fixture
def vault(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The same source behind a URL with a password."""
    use(monkeypatch, "VaultSource")
    monkeypatch.setenv("VAULT_PASSWORD", SECRET)
    place.write(FILE, source='"vault://user:${VAULT_PASSWORD}@db.example.org/source.db"')
    yield place


def use(monkeypatch: pytest.MonkeyPatch, factory: str) -> None:
    known = {**registry._BUILT_IN["source"], "vault": (__name__, factory, None)}
    monkeypatch.setattr(registry, "_BUILT_IN", {**registry._BUILT_IN, "source": known})


def says_nothing(place: Place, *line: str) -> str:
    answer = place.type(*line)
    assert SECRET not in answer.out + answer.err
    return answer.out + answer.err


def files_say_nothing(place: Place) -> None:
    looked = [path for path in place.folder.rglob("*") if path.is_file()]
    assert place.ledger in looked and place.target in looked
    for path in looked:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("how", [(), ("--json",), ("--debug",)], ids=["plain", "json", "debug"])
def test_in_the_file_under_an_unknown_scheme(
    place: Place, command: tuple[str, ...], how: tuple[str, ...]
) -> None:
    place.write(FILE, source=f'"{URL}"')
    told = says_nothing(place, *command, *how)
    assert "oracle:// is not a source" in told


@pytest.mark.parametrize("line", [f'"{URL}', f'["{URL}"]', f'{{ url = "{URL}" }}'])
def test_in_a_file_with_mistakes(place: Place, line: str) -> None:
    place.write(FILE, source=line)
    assert "rowtrail.toml" in says_nothing(place, "run", "--debug")


def test_on_the_command_line(place: Place) -> None:
    says_nothing(place, "init", URL, "duckdb:///w.duckdb", "-p", "new.toml", "--debug")
    says_nothing(
        place, "init", f"sqlite://user:{SECRET}@host/x.db", "duckdb:///w.duckdb", "-p", "n"
    )
    says_nothing(
        place, "init", "sqlite:///source.db", f"duckdb://user:{SECRET}@host/x", "-p", "new"
    )
    says_nothing(place, "run", URL)


def test_from_the_environment_in_a_whole_life(vault: Place) -> None:
    vault.put((1, 1, "a"), (2, "no number", "b"))
    assert "complete except 1" in says_nothing(vault, "run")
    for command in COMMANDS:
        says_nothing(vault, *command)
    says_nothing(vault, "stream", "resume", "orders")
    says_nothing(vault, "ledger", "backup", "copy.ledger")
    vault.sql("DROP TABLE orders")
    says_nothing(vault, "run")
    says_nothing(vault, "run", "--json")
    says_nothing(vault, "run", "--debug")
    files_say_nothing(vault)


@pytest.mark.parametrize("factory", ["BrokenSource", "LostSource"])
def test_in_what_a_driver_says(vault: Place, monkeypatch: pytest.MonkeyPatch, factory: str) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0)
    monkeypatch.setattr(retrying, "OPENING_PATIENCE", 0)
    vault.put((1, 1, "a"))
    vault.type("run")
    use(monkeypatch, factory)
    for command in COMMANDS:
        for how in ((), ("--json",), ("--debug",)):
            says_nothing(vault, *command, *how)
    assert "db.example.org/source.db" in says_nothing(vault, "run")
    files_say_nothing(vault)


def test_a_missing_variable_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    place.write(FILE, source=f'"oracle://user:${{NO_SUCH_PASSWORD}}:{SECRET}@h/d"')
    told = says_nothing(place, "run")
    assert "line 3, pipeline.source: the environment variable NO_SUCH_PASSWORD is not set" in told
