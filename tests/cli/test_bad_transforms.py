"""Transforms that are wrong: bad data costs its record, broken code stops the stream."""

from __future__ import annotations

import pytest

from tests.cli.place import FILE, PICKY, Place

SOUND = "def picky(orders):\n    return orders\n"


def stops(place: Place, code: str, *words: str) -> None:
    """A run over three orders stops with these words, loads and fails none; mended, it loads."""
    place.put((1, 1, "a"), (2, 2, "b"), (3, 3, "c"))
    place.use_transform(code)
    answer = place.type("run")
    assert answer.code == 1, answer.out
    for word in ("picky:picky", *words):
        assert word in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert place.loaded() == set()
    assert place.type("failures").out == "No record is held back.\n"
    assert place.type("status").code == 1
    place.use_transform(SOUND)
    assert place.type("run").code == 0
    assert place.loaded() == {1, 2, 3}


def test_one_that_raises_for_a_record_fails_that_record(place: Place) -> None:
    place.use_transform()
    place.put((1, 1, "good"), (2, 2, "bad"), (3, 3, "good"))
    answer = place.type("run")
    assert answer.code == 3
    assert "orders:2 failed at transform: NoRateError: there is no rate for it" in answer.out
    assert place.loaded() == {1, 3}


def test_one_that_raises_for_every_record_stops_the_stream(place: Place) -> None:
    place.put(*((number, number, "x") for number in range(100)))
    place.use_transform("def picky(orders):\n    raise KeyError('amuont')\n")
    answer = place.type("run")
    assert answer.code == 1
    assert "every record that was tried fails alike" in answer.out and "amuont" in answer.out
    assert place.type("failures").out == "No record is held back.\n"
    place.use_transform(SOUND)
    assert place.type("run").code == 0
    assert place.loaded() == place.expected()


@pytest.mark.parametrize("value", ["None", "[1, 2]", "orders['id']"])
def test_one_that_returns_no_dataframe(place: Place, value: str) -> None:
    stops(place, f"def picky(orders):\n    return {value}\n", "instead of a DataFrame")


def test_one_that_loses_the_key_column(place: Place) -> None:
    code = "def picky(orders):\n    return orders.drop(columns='id')\n"
    stops(place, code, "lost the key column id")


def test_one_that_loses_another_column(place: Place) -> None:
    code = "def picky(orders):\n    return orders.drop(columns='note')\n"
    stops(place, code, "did not return column note", "@transform(drops=['note'])")


def test_one_that_makes_rows_up(place: Place) -> None:
    code = "import pandas as pd\ndef picky(orders):\n    return pd.concat([orders, orders])\n"
    stops(place, code, "rows that it was not given")


def test_one_that_changes_a_key_fails_that_record(place: Place) -> None:
    code = "def picky(orders):\n    return orders.assign(id=orders['id'].replace({2: 20}))\n"
    place.put((1, 1, "a"), (2, 2, "b"), (3, 3, "c"))
    place.use_transform(code)
    answer = place.type("run")
    assert answer.code == 3
    words = "orders:2 failed at transform: transform picky:picky changed the key column id"
    assert words in answer.out
    assert place.loaded() == {1, 3}


@pytest.mark.parametrize(
    ("code", "reference", "words"),
    [
        (None, "picky:picky", "there is no module picky"),
        (SOUND, "picky:fussy", "has no function fussy"),
        (SOUND, "picky", "is not of the form module:function"),
        ("picky = 3\n", "picky:picky", "has no function picky"),
        ("import no_such_package\n", "picky:picky", "there is no module no_such_package"),
        ("def picky(:\n", "picky:picky", "SyntaxError"),
        ("raise OSError('no key ring')\n", "picky:picky", "OSError: no key ring"),
    ],
    ids=[
        "no file",
        "no function",
        "no name",
        "no callable",
        "a missing package",
        "syntax",
        "raises",
    ],
)
def test_one_that_cannot_be_imported(
    place: Place, code: str | None, reference: str, words: str
) -> None:
    if code is not None:
        place.use_transform(code)
    place.put((1, 1, "a"))
    place.write(FILE.replace("\n[streams.orders]\n", PICKY).replace("picky:picky", reference))
    for command in ("run", "check", "retry"):
        answer = place.type(command)
        assert (answer.code, answer.out) == (2, "")
        assert words in answer.err and "line 11, streams.orders.transforms" in answer.err
    assert not place.ledger.exists() and not place.target.exists()


def test_values_that_no_longer_fit_their_column_fail_alone(place: Place) -> None:
    body = 'orders["amount"].where(orders["note"] != "bad", orders["amount"] * 1_000_000_000)'
    place.use_transform(f"def picky(orders):\n    return orders.assign(amount={body})\n")
    place.put((1, 1, "good"), (2, 2, "bad"), (3, 3, "good"))
    answer = place.type("run")
    assert answer.code == 3
    assert "orders:2 failed at " in answer.out and "not fit in precision 10" in answer.out
    assert place.loaded() == {1, 3}


def test_values_of_several_types_stop_the_stream_with_the_column(place: Place) -> None:
    code = "def picky(orders):\n    return orders.assign(note=[3.5, 'b', 'c'][: len(orders)])\n"
    place.put((1, 1, "a"), (2, 2, "b"), (3, 3, "c"))
    place.use_transform(code)
    answer = place.type("run")
    assert answer.code == 1
    assert "column note has values of several types" in answer.out
    assert place.loaded() == set()


def test_what_a_transform_prints_is_no_answer(place: Place) -> None:
    place.use_transform(
        "print('imported')\ndef picky(orders):\n    print('called')\n    return orders"
    )
    place.put((1, 1, "a"))
    answer = place.type("run", "--json")
    assert answer.document["streams"]["orders"]["counts"]["loaded"] == 1
    assert "imported" in answer.err and "called" in answer.err
