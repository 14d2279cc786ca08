"""`rowtrail failures`: which records are held back, and why."""

from __future__ import annotations

from tests.cli.place import TRANSFORM, Place

LONG = "a reason that is much longer than any cell of a table can be on eighty columns " * 2


def test_each_record_is_listed_with_stage_time_and_cause(spoiled: Place) -> None:
    answer = spoiled.type("failures")
    assert answer.code == 0
    (line,) = [line for line in answer.out.splitlines() if line.startswith("orders:2")]
    assert "transform" in line and "NoRateError" in line
    assert "1 record is held back." in answer.out
    assert "rowtrail record orders 2" in answer.out


def test_nothing_held_back_is_said(place: Place) -> None:
    place.put((1, 1, "a"))
    place.type("run")
    assert place.type("failures").out == "No record is held back.\n"
    assert place.type("failures", "orders").out == "orders: no record is held back.\n"
    assert place.type("failures", "--json").document == {
        "total": 0,
        "groups": [],
        "failures": [],
    }


def test_long_causes_wrap_at_80_columns(place: Place) -> None:
    place.use_transform(TRANSFORM.replace("there is no rate for it", LONG))
    place.put(*((number, 1, "bad") for number in range(1, 4)), (9, 1, "good"))
    place.type("run")
    for line in (("failures", "--records"), ("run",), ("status",)):
        table = place.type(*line).out.partition("\n\n")[0]
        assert max(map(len, table.splitlines())) <= 80
    words = " ".join(place.type("failures", "--records").out.split())
    assert "eighty columns" in words


def test_the_limit_is_told(place: Place) -> None:
    place.use_transform()
    place.put(*((number, 1, "bad") for number in range(1, 6)), *((n, 1, "good") for n in (7, 8, 9)))
    place.type("run")
    answer = place.type("failures", "--records", "--limit", "2")
    assert answer.out.count("NoRateError") == 2
    assert "the oldest 2 of 5" in answer.out
    document = place.type("failures", "--limit", "2", "--json").document
    assert document["total"] == 5
    assert [one["record_id"] for one in document["failures"]] == ["orders:1", "orders:2"]


def test_ignored_records_are_listed_on_request(spoiled: Place) -> None:
    spoiled.type("ignore", "orders", "2", "--reason", "a test order")
    assert spoiled.type("failures").out == "No record is held back.\n"
    assert "ignored" in spoiled.type("failures", "--ignored").out
    (one,) = spoiled.type("failures", "--ignored", "--json").document["failures"]
    assert (one["record_id"], one["state"]) == ("orders:2", "ignored")


def test_an_unknown_stream_is_refused_with_the_known_ones(spoiled: Place) -> None:
    answer = spoiled.type("failures", "ordres")
    assert answer.code == 2
    assert "no stream ordres. Its streams are orders." in answer.err


def test_no_code_of_the_user_is_needed_to_ask(spoiled: Place) -> None:
    (spoiled.folder / "picky.py").write_text("import no_such_package\n")
    for line in (("failures",), ("record", "orders", "2"), ("status",)):
        assert spoiled.type(*line).code in (0, 3)
    assert spoiled.type("ignore", "orders", "2", "--reason", "broken").code == 0
    assert "no_such_package" in spoiled.type("run").err


def test_asking_makes_no_ledger(place: Place) -> None:
    for line in (
        ("failures",),
        ("record", "orders", "1"),
        ("retry",),
        ("stream", "pause", "orders"),
    ):
        answer = place.type(*line)
        assert answer.code == 2
        assert "has no ledger" in answer.err and "rowtrail ledger rebuild" in answer.err
    assert place.type("status").code == 3
    assert not place.ledger.exists()
