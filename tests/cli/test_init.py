"""`rowtrail init`: a first pipeline file, and capture at the source."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from rowtrail.cli.setup import _name_of
from rowtrail.connectors import registry
from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.sqlite import SqliteSource
from rowtrail.pipelines.config import load_pipeline
from rowtrail.pipelines.table_names import stream_name
from tests.cli.place import FILE, Place

URLS = ("sqlite:///source.db", "duckdb:///target.duckdb")


def triggers(place: Place) -> int:
    (row,) = place.sql("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'")
    return int(row[0])


@pytest.fixture
def fresh(place: Place) -> Place:
    """No pipeline file yet; tables that can be streams, and some that cannot."""
    place.file.unlink()
    place.sql(
        'CREATE TABLE "my lines" ("order id" INTEGER, n INTEGER, PRIMARY KEY ("order id", n))'
    )
    place.sql("CREATE TABLE journal (line TEXT)")
    place.sql("CREATE TABLE shapes (id INTEGER PRIMARY KEY, outline GEOMETRY)")
    return place


def test_a_file_is_written_that_can_be_run(fresh: Place) -> None:
    fresh.put((1, 1, "a"))
    answer = fresh.type("init", *URLS)
    assert answer.code == 0
    lines = stream_name("my lines")
    assert f"2 streams: {lines}, orders" in answer.out
    assert "rowtrail check" in answer.out
    assert tomllib.loads(fresh.file.read_text())["streams"] == {
        lines: {"table": "my lines"},
        "orders": {},
    }
    assert load_pipeline(fresh.file).name == "source"
    assert fresh.type("init", "--capture", "--yes").code == 0
    assert fresh.type("check").code == 0
    assert fresh.type("run").code == 0
    assert fresh.loaded() == fresh.expected() == {1}


def test_tables_that_cannot_be_streams_are_named_with_the_reason(fresh: Place) -> None:
    answer = fresh.type("init", *URLS)
    assert "Left out: journal." in answer.out and "no primary key" in answer.out
    assert "Left out: shapes." in answer.out and "outline" in answer.out
    assert "# [streams.journal]\n# left out: " in fresh.file.read_text()
    assert fresh.type("init", *URLS, "-p", "b.toml", "--json").document["left_out"].keys() == {
        "journal",
        "shapes",
    }


def test_a_source_without_any_table_for_it_leaves_no_file(fresh: Place) -> None:
    for table in ("orders", "my lines", "shapes"):
        fresh.sql(f'DROP TABLE "{table}"')
    answer = fresh.type("init", *URLS)
    assert answer.code == 2
    assert "no table that can be a stream" in answer.err and "journal" in answer.err
    assert not fresh.file.exists()


def test_a_file_that_is_there_is_left_alone(place: Place) -> None:
    answer = place.type("init", *URLS)
    assert answer.code == 2
    assert "there already and was not changed" in answer.err
    assert place.file.read_text() == FILE


def test_urls_start_at_the_current_folder_even_for_a_file_elsewhere(fresh: Place) -> None:
    (fresh.folder / "jobs").mkdir()
    assert fresh.type("init", *URLS, "-p", "jobs/nightly.toml", "--name", "nightly").code == 0
    definition = load_pipeline(fresh.folder / "jobs" / "nightly.toml")
    assert definition.source == f"sqlite:///{fresh.source}"
    assert definition.name == "nightly"


SECRET = "s3cret%21Pa55"


class Server(SqliteSource):
    """A database with users: `server://user:password@host/file`; it has a log of its own."""

    captures = (Capture.LOG, Capture.TRIGGER, Capture.SNAPSHOT)

    def __init__(self, url: str) -> None:
        assert f":{SECRET}@" in url, "opened with the password itself"
        super().__init__(f"sqlite:///{Path(url.partition('?')[0]).name}")

    def describe(self, stream: StreamSpec) -> TableSchema:
        assert (stream.capture, stream.log) == (Capture.LOG, "rowtrail_source")
        return super().describe(replace(stream, capture=Capture.TRIGGER))


@pytest.fixture
def server(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the source behind a password."""
    known = {**registry._BUILT_IN["source"], "server": (__name__, "Server", None)}
    monkeypatch.setattr(registry, "_BUILT_IN", {**registry._BUILT_IN, "source": known})
    return f"server://etl:{SECRET}@db.example.org/source.db?sslmode=require"


def test_the_best_capture_that_the_source_offers_is_written(fresh: Place, server: str) -> None:
    answer = fresh.type("init", server, URLS[1], "--json")
    assert answer.document["capture"] == "log"
    text = fresh.file.read_text()
    assert 'capture = "log" # or trigger, snapshot\n' in text
    assert tomllib.loads(text)["defaults"]["capture"] == "log"


def test_a_source_that_says_nothing_has_triggers(
    fresh: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteSource, "captures", (Capture.TRIGGER,))
    assert fresh.type("init", *URLS).code == 0
    assert 'capture = "trigger"\n' in fresh.file.read_text()


def test_a_password_is_not_written_into_the_file(
    fresh: Place, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROWTRAIL_SOURCE_PASSWORD", raising=False)
    answer = fresh.type("init", server, "duckdb:///w.duckdb?password=0ther")
    text = fresh.file.read_text()
    assert answer.code == 0
    assert (
        "Export ROWTRAIL_SOURCE_PASSWORD and ROWTRAIL_DESTINATION_PASSWORD first, each as it stood"
    ) in answer.out
    for secret in (SECRET, "0ther"):
        assert secret not in text + answer.out + answer.err
    assert tomllib.loads(text)["pipeline"]["source"] == (
        "server://etl:${ROWTRAIL_SOURCE_PASSWORD}@db.example.org/source.db?sslmode=require"
    )
    assert "ROWTRAIL_SOURCE_PASSWORD is not set" in fresh.type("check").err
    monkeypatch.setenv("ROWTRAIL_SOURCE_PASSWORD", SECRET)
    monkeypatch.setenv("ROWTRAIL_DESTINATION_PASSWORD", "0ther")
    assert load_pipeline(fresh.file).source == server


def test_a_variable_in_the_url_stays_one(
    fresh: Place, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    url = server.replace(SECRET, "${SHOP_PASSWORD}")
    answer = fresh.type("init", url, URLS[1])
    assert answer.code == 0 and "Export" not in answer.out
    assert tomllib.loads(fresh.file.read_text())["pipeline"]["source"] == url
    fresh.file.unlink()
    monkeypatch.delenv("SHOP_PASSWORD")
    assert "variable SHOP_PASSWORD is not set" in fresh.type("init", url, URLS[1]).err


def test_a_url_without_a_database_gives_no_password_as_a_name() -> None:
    assert _name_of(f"postgresql://etl:{SECRET}@db") == "pipeline"
    assert _name_of(f"postgresql://etl:{SECRET}@db/shop?x=1") == "shop"


def test_tables_may_be_called_anything(fresh: Place) -> None:
    names = ["a]b", 'say "x"', "new\nline", "del\x7f", "größe", "# no comment", "'quoted'", "a.b"]
    for number, name in enumerate(names):
        key = " PRIMARY KEY" if number % 2 else ""
        quoted = name.replace('"', '""')
        fresh.sql(f'CREATE TABLE "{quoted}" (id INTEGER{key})')
    fresh.sql('CREATE TABLE "pay${HOME}" (id INTEGER PRIMARY KEY)')
    assert fresh.type("init", *URLS).code == 0
    streams = load_pipeline(fresh.file).streams
    assert {stream.table for stream in streams} == {*names[1::2], "orders", "my lines"}
    assert all(stream.name == stream_name(stream.table) for stream in streams)
    text = fresh.file.read_text()
    # What is left out becomes a stream by taking the signs of comments away.
    for mark in ("# [streams.", "# table ="):
        text = text.replace(mark, mark[2:])
    found = tomllib.loads(text)["streams"]
    tables = {section.get("table", name) for name, section in found.items()}
    assert tables == {*names, "orders", "my lines", "journal", "shapes", "pay${HOME}"}


@pytest.mark.parametrize(
    "line",
    [(), URLS[:1], (*URLS, "--capture"), ("--capture", "--remove-capture")],
    ids=["nothing", "no destination", "both", "make and remove"],
)
def test_what_is_to_be_done_must_be_clear(place: Place, line: tuple[str, ...]) -> None:
    answer = place.type("init", *line)
    assert answer.code == 2
    assert "give one of these" in answer.err


def test_the_sql_is_shown_before_it_is_asked_about(place: Place) -> None:
    answer = place.spawn("init", "--capture", typed="n\n")
    assert answer.code == 1
    assert "CREATE TRIGGER" in answer.out
    assert answer.out.index("CREATE TRIGGER") < answer.out.index("at the source? [y/N]")
    assert "Nothing was changed." in answer.err
    assert triggers(place) == 0
    agreed = place.spawn("init", "--capture", typed="y\n")
    assert agreed.code == 0 and "Done: " in agreed.out
    assert triggers(place) == 3
    again = place.type("init", "--capture")
    assert again.code == 0 and "Nothing to do" in again.out


def test_capture_is_removed_the_same_way(place: Place) -> None:
    place.type("init", "--capture", "--yes")
    assert place.spawn("init", "--remove-capture", typed="").code == 1
    assert triggers(place) == 3
    answer = place.type("init", "--remove-capture", "--yes")
    assert answer.code == 0 and "DROP TRIGGER" in answer.out
    assert triggers(place) == 0
    left = {name for (name,) in place.sql("SELECT name FROM sqlite_schema")}
    assert left - {"sqlite_sequence"} == {"orders"}  # SQLite's own, which nobody can drop


def test_with_json_nobody_is_asked(place: Place) -> None:
    refused = place.type("init", "--capture", "--json")
    assert refused.code == 2 and "add --yes" in refused.document["error"]
    assert triggers(place) == 0
    done = place.type("init", "--capture", "--json", "--yes")
    assert done.code == 0
    assert any("CREATE TRIGGER" in statement for statement in done.document["executed"])
