"""Sources that cannot be read: each is told clearly, nothing is lost, and mending it is enough."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.cli.place import FILE, Place

KEYLESS = "CREATE TABLE journal (line TEXT)"


def refuses(place: Place, code: int, *words: str) -> None:
    """`run` and `check` answer with that exit code and these words, and leave no half-made file."""
    for command in ("run", "check"):
        answer = place.type(command)
        told = answer.out + answer.err
        assert answer.code == code, told
        assert "Traceback" not in told and "itself is at fault" not in told
        for word in words:
            assert word in told
        assert "Complete, in" not in told


def works_again(place: Place) -> None:
    place.put((7, 7, "later"))
    answer = place.type("run")
    assert answer.code == 0, answer.err
    assert place.loaded() == place.expected()


def test_a_missing_file(place: Place) -> None:
    place.put((1, 1, "a"))
    place.type("run")
    away = place.source.rename(place.folder / "away.db")
    refuses(place, 2, str(place.source), "Check the source's URL")
    assert not place.source.exists(), "an empty database must not be made"
    away.rename(place.source)
    works_again(place)


def test_a_file_that_is_no_database(place: Place) -> None:
    place.source.write_text("id,amount\n1,2\n")
    refuses(place, 2, str(place.source), "no SQLite database")
    assert place.source.read_text() == "id,amount\n1,2\n"


def test_a_folder(place: Place) -> None:
    place.source.unlink()
    place.source.mkdir()
    refuses(place, 2, str(place.source), "is not a file")


def test_a_corrupt_database(place: Place) -> None:
    place.put(*((number, number, "x" * 200) for number in range(2_000)))
    place.type("run")
    sound = place.source.read_bytes()
    place.source.write_bytes(sound[:4096] + b"\xff" * 40_960 + sound[45_056:])
    place.ledger.with_suffix(".copy").write_bytes(place.ledger.read_bytes())
    answer = place.type("run", "--resnapshot", "orders")
    told = answer.out + answer.err
    assert answer.code == 1
    assert str(place.source) in told and "corrupt" in told and "integrity_check" in told
    assert len(place.loaded()) == 2_000, "what is at the target stays"
    place.source.write_bytes(sound)
    works_again(place)


def test_a_locked_database(place: Place) -> None:
    place.put((1, 1, "a"))
    place.type("run")
    with closing(sqlite3.connect(place.source, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = place.spawn("run")  # POSIX locks say nothing to their own process
    assert answer.code == 1
    assert str(place.source) in answer.err and "Another process holds its lock" in answer.err
    works_again(place)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("source.db", "it has no scheme"),
        ("oracle://db/shop", "oracle:// is not a source"),
        ("sqlite://source.db", "sqlite:///shop.db"),
        ("sqlite:///", "sqlite:///shop.db"),
        ("sqlite:///source.db?mode=ro", "without options"),
        ("duckdb:///target.duckdb", "duckdb:// is not a source"),
    ],
)
def test_a_wrong_url(place: Place, url: str, words: str) -> None:
    place.write(FILE, source=f'"{url}"')
    refuses(place, 2, words)
    assert not place.target.exists()


def test_a_key_with_an_unknown_column(place: Place) -> None:
    place.write(FILE + 'key = ["nummer"]\n')
    refuses(place, 1, "nummer", "orders")


def test_an_unknown_cursor_column(place: Place) -> None:
    place.write(FILE + 'capture = "cursor"\ncursor = "changed"\n')
    refuses(place, 1, "changed", "orders")


def test_an_unknown_table(place: Place) -> None:
    place.write(FILE + 'table = "ordres"\n')
    refuses(place, 1, "There is no table ordres", "orders")


def test_a_table_without_a_key(place: Place) -> None:
    place.sql(KEYLESS)
    place.sql("INSERT INTO journal VALUES ('one')")
    place.put((1, 1, "a"))
    place.write(FILE + "\n[streams.journal]\n")
    refuses(place, 1, "journal has no primary key", "`key`")
    assert place.loaded() == {1}, "the other stream went on"


def test_a_key_that_is_not_unique(place: Place) -> None:
    place.put((1, 1, "same"), (2, 2, "same"))
    place.write(FILE + 'key = ["note"]\n')
    refuses(place, 1, "not unique")
