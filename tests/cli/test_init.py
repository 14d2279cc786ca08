"""`rowtrail init`: a first pipeline file, and capture at the source."""

from __future__ import annotations

import tomllib

import pytest

from rowtrail.pipelines.config import load_pipeline
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
    assert "2 streams: my lines, orders" in answer.out
    assert "rowtrail check" in answer.out
    assert set(tomllib.loads(fresh.file.read_text())["streams"]) == {"my lines", "orders"}
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
