"""`rowtrail replay` of many records, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.place import Place

CHOSEN = "orders: {} chosen"


@pytest.fixture
def shop(place: Place) -> Place:
    """Nine orders, loaded by one run."""
    place.put(*((n, n, "x") for n in range(1, 10)))
    assert place.type("run").code == 0
    return place


def last_run(place: Place) -> str:
    (run,) = {
        entry["run_id"]
        for entry in place.type("record", "orders", "1", "--json").document["trail"]
        if entry["run_id"]
    }
    return str(run)


def test_each_way_to_choose_records(shop: Place, tmp_path: Path) -> None:
    run = last_run(shop)
    file = tmp_path / "keys.txt"
    file.write_text("1\n\n3\r\n3\n", encoding="utf-8")
    for options, number, chosen in (
        (("2", "4"), 2, "2 records are"),
        (("--keys-from", str(file)), 2, "2 records are"),
        (("--run", "last"), 9, f"9 records are chosen (that run {run} took up)"),
        (("--run", run[:20]), 9, f"9 records are chosen (that run {run} took up)"),
        (("--since", "1h"), 9, "9 records are chosen (loaded or failed from"),
        (("--where", "amount > 7"), 2, "2 records are chosen (where amount > 7)"),
        (("--where", "amount > 70"), 0, "0 records are chosen (where amount > 70)"),
    ):
        answer = shop.type("replay", "orders", *options)
        assert answer.code == 0, answer.err
        assert f"{number} loaded" in answer.out if number else "nothing to replay" in answer.out
        assert f"orders: {chosen}" in answer.err


def test_how_many_are_chosen_is_told_by_a_dry_run_and_in_json(shop: Place) -> None:
    answer = shop.type("replay", "orders", "--where", "id < 4", "--dry-run")
    assert "3 records are chosen" in answer.err
    assert answer.out.startswith("Dry run, orders: replay from the row at the source: would be: ")
    (request,) = shop.type("replay", "orders", "--where", "id < 4", "--json").document["requests"]
    assert (request["chosen"], request["carried_out"]) == (3, True)


def test_keys_from_standard_input(shop: Place) -> None:
    answer = shop.spawn("replay", "orders", "--keys-from", "-", typed="5\n6\n")
    assert (answer.code, answer.out) == (
        0,
        "Request 1, orders: replay from the row at the source: 2 loaded.\n",
    )


def test_mistakes_in_a_file_name_their_lines_and_nothing_is_done(
    shop: Place, tmp_path: Path
) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("1\ntwo\n3\n\n1,2\n", encoding="utf-8")
    for command in ("replay", "retry"):
        answer = shop.type(command, "orders", "--keys-from", str(file))
        assert answer.code == 2
        assert "Nothing was done, for" in answer.err
        assert "Line 2: two is no key of stream orders" in answer.err
        assert "Line 5: 1,2 is no key of stream orders" in answer.err
    assert "replay" not in shop.type("record", "orders", "1").out
    file.write_bytes(b"1\n\xff\n")
    assert "line 2 of" in shop.type("replay", "orders", "--keys-from", str(file)).err
    file.write_bytes(b"\n\n")
    answer = shop.type("replay", "orders", "--keys-from", str(file))
    assert (answer.code, "there is no key in it" in answer.err) == (2, True)
    answer = shop.type("replay", "orders", "--keys-from", str(tmp_path / "none.txt"))
    assert (answer.code, "No such file" in answer.err) == (2, True)
    file.write_text("\n".join(f"no {n}" for n in range(9)), encoding="utf-8")
    assert "And 4 lines more." in shop.type("replay", "orders", "--keys-from", str(file)).err


def test_failed_records_are_retried_from_a_file(spoiled: Place, tmp_path: Path) -> None:
    spoiled.put((2, 2, "mended"))
    file = tmp_path / "keys.txt"
    file.write_text("2\n", encoding="utf-8-sig")
    answer = spoiled.type("retry", "orders", "--keys-from", str(file), "--from", "extract")
    assert (answer.code, answer.out) == (
        0,
        "Request 1, orders: retry from the row at the source: 1 loaded.\n",
    )
    assert spoiled.loaded() == {1, 2}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("replay", "orders"), "name the records by their keys, or choose them by"),
        (("replay", "orders", "1", "--where", "id = 1"), "KEY and --where name records in"),
        (("replay", "orders:1", "--where", "id = 1"), "KEY and --where name records in"),
        (("replay", "orders", "--run", "x", "--since", "1h"), "--run and --since name records"),
        (("replay", "orders", "--keys-from", "-", "1"), "KEY and --keys-from name records"),
        (("replay", "orders", "1", "--until", "1h"), "it is the end of --since"),
        (("replay", "orders", "--since", "yesterday"), "'yesterday' is no moment: write a date"),
        (("replay", "orders", "--since", "1h", "--until", "2h"), "nothing lies between"),
        (("replay", "orders", "--since", "9999999999w"), "is no moment"),
        (("replay", "orders", "--run", "17"), "knows no run 17"),
        (("replay", "orders", "--where", "id = "), "cannot evaluate the condition `id = `"),
        (("replay", "orders", "--where", "id = 1;"), "Write one SQL expression"),
        (("replay", "orders", "1", "--from", "load"), "'load' is neither source nor image"),
        (("retry", "--keys-from", "-"), "say of which stream the keys are"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage(shop: Place, line: tuple[str, ...], words: str) -> None:
    answer = shop.type(*line)
    assert answer.code == 2
    assert words in answer.err


def test_times_are_utc_or_have_a_zone(shop: Place) -> None:
    assert "9 records are chosen" in shop.type("replay", "orders", "--since", "2024-01-31").err
    answer = shop.type(
        "replay", "orders", "--since", "2024-01-31T08:30+02:00", "--until", "2024-02-01 00:00"
    )
    assert "from 2024-01-31 06:30:00 UTC to 2024-02-01 00:00:00 UTC" in answer.out
    assert answer.out.startswith("Request 2, orders: nothing to replay: there are no records")


def test_an_image_is_replayed_and_what_has_none_is_told(spoiled: Place) -> None:
    spoiled.put((2, 2, "mended"))
    answer = spoiled.type("replay", "orders", "--since", "1h", "--from", "image")
    assert answer.code == 3
    assert "replay from the captured image: 1 failed again. 2 records were left" in answer.out
    assert spoiled.type("replay", "orders", "2", "--from", "source").code == 0
    assert spoiled.loaded() == {1, 2}


def test_a_dry_run_tells_what_would_differ(spoiled: Place) -> None:
    spoiled.put((1, 15, "x" * 50), (4, 4, "a new one"))
    spoiled.sql("UPDATE orders SET note = NULL WHERE id = 3")
    answer = spoiled.type("replay", "orders", "--where", "id > 0", "--dry-run")
    assert answer.code == 3, "one would fail again"
    assert answer.out == (
        "Dry run, orders: replay from the row at the source: would be: 3 loaded, 1 failed again.\n"
        "At the target: 1 failed again, 1 updated, 2 inserted.\n"
        "orders:2 would fail at transform: NoRateError: there is no rate for it\n"
        f"orders:1 would be updated: amount 1.00 → 15.00, note good → {'x' * 39}…\n"
        "orders:3 would be inserted: id = 3, amount = 3.00, note = NULL\n"
        "orders:4 would be inserted: id = 4, amount = 4.00, note = a new one\n"
    )
    document = spoiled.type("replay", "orders", "1", "2", "--dry-run", "--json").document
    (request,) = document["requests"]
    assert request["decision_id"] is None and request["chosen"] == 2
    told = request["differences"]
    assert told["counts"] == {
        "failed again": 1,
        "deleted": 0,
        "filtered": 0,
        "updated": 1,
        "inserted": 0,
        "superseded": 0,
        "unchanged": 0,
    }
    failed, updated = told["examples"]
    assert (failed["record"], failed["becomes"]) == ("orders:2", "failed again")
    assert (failed["stage"], failed["error_class"]) == ("transform", "NoRateError")
    assert updated["columns"] == [
        {"column": "amount", "now": "1.00", "after": "15.00"},
        {"column": "note", "now": "good", "after": "x" * 50},
    ]
    assert spoiled.loaded() == {1}


def test_a_dry_run_tells_of_deletes_and_counts_the_rest(shop: Place) -> None:
    shop.sql("DELETE FROM orders WHERE id = 3")
    shop.put(*((n, n, "x") for n in range(10, 20)))
    answer = shop.type("replay", "orders", "--run", "last", "--dry-run")
    assert "At the target: 1 deleted, 8 unchanged." in answer.out
    assert "orders:3 would be deleted: the source has it no more\n" in answer.out
    assert "orders:1 would stay as it is\n" in answer.out
    shop.type("run")
    answer = shop.type("replay", "orders", "--since", "1h", "--dry-run")
    assert "At the target: 19 unchanged." in answer.out
    assert answer.out.endswith("… and 9 records more.\n")
    assert shop.type("retry", "--dry-run").out == "Nothing to retry: no record is failed.\n"
