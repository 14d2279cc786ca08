"""`rowtrail record --compare`: one record at the source and at the target, column by column."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rowtrail.cli import compare as telling
from tests.cli.place import Answer, Place


def told(answer: Answer) -> str:
    """What it says of both sides, with each run of blanks as one."""
    return " ".join(answer.out.partition("What is there now:")[2].split())


def compared(place: Place, key: int) -> dict[str, Any]:
    document = place.type("record", "orders", str(key), "--compare", "--json").document
    found: dict[str, Any] = document["comparison"]
    return found


def by_column(found: dict[str, Any]) -> dict[str, tuple[object, object, object]]:
    return {one["column"]: (one["source"], one["target"], one["equal"]) for one in found["columns"]}


def test_a_record_that_is_the_same(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "1", "--compare")
    assert answer.code == 0
    assert answer.out.startswith("orders:1 is in the warehouse")
    words = told(answer)
    assert 'id 1 1 equal amount 1.00 1.00 equal note "good" "good" equal' in words
    assert "Source and target are equal in all columns that both have." in words
    assert "comes with the next one" not in words
    assert "comparison" not in spoiled.type("record", "orders", "1", "--json").document


def test_a_record_that_has_changed_since(spoiled: Place) -> None:
    spoiled.put((1, 7, None))
    found = compared(spoiled, 1)
    assert by_column(found) == {
        "id": (1, 1, True),
        "amount": ("7.00", "1.00", False),
        "note": (None, "good", False),
    }
    assert found["different"] == ["amount", "note"]
    assert found["source"]["version"] >= found["target"]["version"]
    words = told(spoiled.type("record", "orders", "1", "--compare"))
    assert 'note NULL "good" different' in words
    assert "2 columns are different: amount, note." in words
    assert "rowtrail run orders" in words and "rowtrail replay orders 1 --dry-run" in words


def test_a_failed_record_is_read_on_both_sides(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "2", "--compare")
    assert answer.code == 0
    assert "Target has no such row, nor a trace of one" in told(answer)
    assert told(answer).endswith("The target lacks the row.")
    assert by_column(compared(spoiled, 2))["note"] == ("bad", None, None)


@pytest.mark.parametrize("deletes", ["soft", "hard"])
def test_a_deleted_record(place: Place, deletes: str) -> None:
    place.file.write_text(place.file.read_text() + f'deletes = "{deletes}"\n')
    place.put((1, 1, "first"), (2, 1, "x"))
    place.type("run")
    place.sql("DELETE FROM orders WHERE id = 1")
    early = place.type("record", "orders", "1", "--compare")
    assert "Source has no such row Target has the row, version 1." in told(early)
    assert "The target still has a row that the source has not." in told(early)
    place.type("run")
    answer = place.type("record", "orders", "1", "--compare")
    assert answer.code == 0
    assert re.search(r"had the row, until it was deleted there on 2\S+ \S+ UTC", told(answer))
    assert ("its last values are still there" in told(answer)) == (deletes == "soft")
    assert told(answer).endswith("Neither side has the row.")
    found = compared(place, 1)
    assert (found["source"]["state"], found["target"]["state"]) == ("absent", "deleted")
    assert found["target"]["deleted_at"] is not None
    rows = {"note": (None, "first", None)} if deletes == "soft" else {}
    assert {name: one for name, one in by_column(found).items() if name == "note"} == rows


def test_a_record_that_a_transform_left_out(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "3", "--compare")
    assert "has it left out since" in told(answer) and "when a transform dropped" in told(answer)
    assert compared(spoiled, 3)["target"]["state"] == "filtered"


def test_a_record_that_was_never_seen(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "99", "--compare")
    assert answer.code == 1
    assert "The ledger has never seen orders:99." in answer.out
    assert told(answer).endswith("Neither side has the row.")
    spoiled.put((99, 1, "new"))
    late = spoiled.type("record", "orders", "99", "--compare")
    assert late.code == 1
    assert 'note "new" only at the source' in told(late)


def test_a_side_that_does_not_answer_is_told(spoiled: Place) -> None:
    spoiled.source.rename(spoiled.folder / "away.db")
    answer = spoiled.type("record", "orders", "1", "--compare")
    assert answer.code == 1
    assert "Source could not be asked: " in told(answer)
    assert 'note "good" only at the target' in told(answer)
    (spoiled.folder / "away.db").rename(spoiled.source)
    spoiled.target.rename(spoiled.folder / "away.duckdb")
    answer = spoiled.type("record", "orders", "1", "--compare")
    assert answer.code == 1
    assert "Target could not be asked: " in told(answer) and "does not exist yet" in told(answer)
    assert 'note "good" only at the source' in told(answer)


def test_a_row_that_the_source_cannot_represent(place: Place) -> None:
    place.put((1, "many", "x"), *((number, 1, "x") for number in range(2, 9)))
    assert place.type("run").code == 3
    answer = place.type("record", "orders", "1", "--compare")
    assert "has a row that the stream cannot take: Column amount" in told(answer)
    assert "many" not in told(answer)


def test_columns_of_one_side_only(place: Place) -> None:
    place.put((1, 1, "x"))
    place.type("run")
    place.sql("ALTER TABLE orders ADD COLUMN size INTEGER DEFAULT 5")
    place.sql("ALTER TABLE orders DROP COLUMN note")
    found = compared(place, 1)
    assert by_column(found) == {
        "id": (1, 1, True),
        "amount": ("1.00", "1.00", True),
        "size": (5, None, None),
        "note": (None, "x", None),
    }
    words = told(place.type("record", "orders", "1", "--compare"))
    assert "size 5 only at the source" in words and 'note "x" only at the target' in words


def test_long_values_are_cut_off_for_people(place: Place) -> None:
    place.put((1, 1, "x" * 5_000))
    place.type("run")
    words = told(place.type("record", "orders", "1", "--compare"))
    assert "(5,002 characters)" in words
    assert len(words) < 5 * telling.LONGEST + 1_000
    assert by_column(compared(place, 1))["note"] == ("x" * 5_000, "x" * 5_000, True)


def test_values_of_redacted_columns_are_not_shown(spoiled: Place) -> None:
    """Whether they are equal is."""
    spoiled.file.write_text(spoiled.file.read_text() + 'redact = ["Note"]\n')
    spoiled.put((1, 1, "secret"))
    answer = spoiled.type("record", "orders", "1", "--compare")
    assert "note (redacted) (redacted) different" in told(answer)
    document = spoiled.type("record", "orders", "1", "--compare", "--json").out
    assert "secret" not in answer.out + document and '"good"' not in answer.out + document
    assert by_column(compared(spoiled, 1))["note"] == (None, None, False)


def test_nothing_is_changed_by_looking(spoiled: Place) -> None:
    before = spoiled.ledger.read_bytes(), spoiled.target.read_bytes()
    spoiled.put((1, 5, "other"))
    spoiled.type("record", "orders", "1", "--compare")
    assert (spoiled.ledger.read_bytes(), spoiled.target.read_bytes()) == before
