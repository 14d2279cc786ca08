"""Tables without a key, for every pair: refused with what to do, and what is said there works."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Breakers, Pipeline, Stream
from tests.pipelines.copied_table import CopiedTable

_VIEW = re.compile(r"(CREATE VIEW .*?); or leave the table out")
_KEY = re.compile(r"with key = \[(.*?)\]:")


def make(table: CopiedTable) -> None:
    """Rows that are the same three times, twice and once; one is of NULLs."""
    more = ", doc json, at timestamptz" if is_server(table.source) else ""
    table.change(f"CREATE TABLE journal (what text, size float{more})")
    table.change(
        "INSERT INTO journal (what, size) VALUES "
        "('a', 0.1), ('a', 0.1), ('a', 0.1), ('b', NULL), ('b', NULL), (NULL, NULL), ('c', 1e300)"
    )


def is_server(url: str) -> bool:
    return url.startswith("postgresql:")


def pipeline(world: CopiedTable, table: str = "journal", **settings: Any) -> Pipeline:
    return Pipeline(
        name="test",
        source=world.source,
        destination=world.target,
        ledger=world.folder / "ledger.db",
        streams=[
            Stream(table, name="journal", **{"capture": "snapshot", **settings}),
            Stream("orders", capture="snapshot"),
        ],
        breakers=Breakers(deleted_share=1.0, failed_share=1.0),
    )


def refusal(table: CopiedTable, capture: str = "snapshot") -> str:
    """What a run says; `rowtrail schema` says the same, and the other stream is loaded."""
    made = pipeline(table, capture=capture, cursor="size")
    result = made.run()
    assert result.streams["orders"].error is None
    error = result.streams["journal"].error
    assert error is not None and "journal has no primary key" in error
    assert made.compare_schemas("journal")[0].problem in error
    return error


def keyed(table: CopiedTable, **settings: Any) -> Pipeline:
    """A pipeline that reads the view which the message tells."""
    told = refusal(table)
    view, key = _VIEW.search(told), _KEY.search(told)
    assert view is not None and key is not None
    table.change(view[1])
    names = [name.strip('"') for name in key[1].split(", ")]
    return pipeline(table, "journal_keyed", key=names, **settings)


def live(table: CopiedTable) -> Counter[Any]:
    found = table.ask_target("SELECT what, size FROM journal WHERE _rowtrail_deleted_at IS NULL")
    return Counter(found)


def at_source(table: CopiedTable) -> Counter[Any]:
    return Counter(table.ask("SELECT what, size FROM journal"))


@pytest.mark.parametrize("capture", ["log", "trigger", "cursor", "snapshot"])
def test_refused_under_each_capture(each_pair: CopiedTable, capture: str) -> None:
    if capture == "log" and not is_server(each_pair.source):
        pytest.skip("SQLite has no log that could be read")
    make(each_pair)
    error = refusal(each_pair, capture)
    for words in ("Set `key` of stream journal", "CREATE VIEW", "leave the table out"):
        assert words in error
    assert ("ADD COLUMN row_id" in error) is is_server(each_pair.source)
    assert "such as key" not in error


def test_a_unique_index_is_named(each_pair: CopiedTable) -> None:
    each_pair.change(
        'CREATE TABLE journal (what text NOT NULL, "a b" int NOT NULL, size int UNIQUE)',
        'CREATE UNIQUE INDEX whole ON journal (what, "a b")',
        "CREATE UNIQUE INDEX part ON journal (what) WHERE size > 5",
        "INSERT INTO journal VALUES ('x', 1, NULL), ('x', 2, NULL)",
    )
    told = refusal(each_pair)
    assert 'such as key = ["what", "a b"], which its unique index guards' in told
    assert pipeline(each_pair, key=["what", "a b"]).run().complete
    assert each_pair.ask_target("SELECT count(*) FROM journal") == [(2,)]


def test_equal_rows_are_records_of_their_own(each_pair: CopiedTable) -> None:
    make(each_pair)
    made = keyed(each_pair, batch_rows=2)  # so that equal rows come on two pages
    assert made.run().complete
    assert live(each_pair) == at_source(each_pair)
    assert live(each_pair)["a", 0.1] == 3
    row = "ctid" if is_server(each_pair.source) else "rowid"
    one = f"{row} = (SELECT min({row}) FROM journal WHERE what ="
    each_pair.change(f"DELETE FROM journal WHERE {one} 'a')")
    each_pair.change(f"UPDATE journal SET size = 2 WHERE {one} 'b')")
    each_pair.change("UPDATE journal SET what = 'now' WHERE what IS NULL")
    each_pair.change("INSERT INTO journal (what, size) VALUES ('c', 1e300), ('d', -0.5)")
    assert made.run().complete
    assert live(each_pair) == at_source(each_pair)
    assert live(each_pair)["a", 0.1] == live(each_pair)["c", 1e300] == 2
    before = made.run().streams["journal"].counts
    assert (before.loaded, before.deleted) == (0, 0), "what has not changed is not read again"
    each_pair.change("DELETE FROM journal")
    assert made.run(allow_deletes=1.0).complete
    assert live(each_pair) == Counter()


def test_one_of_equal_rows_fails_and_is_fetched(each_pair: CopiedTable) -> None:
    """By its key, as any other record; the row that is equal to it is not touched."""

    def picky(frame):
        mended = Path(each_pair.folder, "mended").exists()
        if not mended and (frame["what"] == "b").any():
            raise ValueError("bad row")
        return frame

    make(each_pair)
    made = keyed(each_pair, transforms=[picky])
    result = made.run()
    assert len(result.failed_records) == 2
    assert live(each_pair)["b", None] == 0
    Path(each_pair.folder, "mended").touch()
    record = result.failed_records[0].record.partition(":")[2]
    parts = record.split(",")
    key = (parts[0].strip('"'), int(parts[1])) if len(parts) > 1 else int(record)
    made.retry("journal", key, from_stage="extract")
    assert live(each_pair)["b", None] == 1
    made.retry("journal", from_stage="extract")
    assert live(each_pair) == at_source(each_pair)


def test_a_pattern_leaves_such_a_table_out(each_pair: CopiedTable) -> None:
    make(each_pair)
    made = Pipeline(
        name="test",
        source=each_pair.source,
        destination=each_pair.target,
        ledger=each_pair.folder / "ledger.db",
        streams=[Stream("*", capture="snapshot")],
    )
    result = made.run()
    assert list(result.streams) == ["orders"] and result.streams["orders"].error is None
    assert "journal has no primary key" in result.left_out["journal"]
