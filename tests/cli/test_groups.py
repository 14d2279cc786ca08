"""`rowtrail failures`, `retry` and `ignore` by groups: what has one cause is one decision."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from datetime import datetime

import pytest

from rowtrail import Pipeline
from rowtrail.checkpoints.errors import LedgerError
from rowtrail.connectors.errors import ConfigurationError
from tests.cli.place import Place

TRANSFORM = """
import pandas as pd

def picky(orders: pd.DataFrame) -> pd.DataFrame:
    for order in orders.itertuples():
        if order.note == "rate":
            raise LookupError(f"no rate for order {order.id} of '{order.note}'")
        if order.note == "size":
            raise ValueError(f"order {order.id} is too small")
    return orders
"""


@pytest.fixture
def place(place: Place) -> Place:
    """Three orders failed for one reason, two for another; twenty were loaded."""
    place.use_transform(TRANSFORM)
    place.put(*((number, 1, "rate") for number in (1, 2, 3)), *((n, 1, "size") for n in (4, 5)))
    place.put(*((number, 1, "good") for number in range(10, 30)))
    assert place.type("run").code == 3
    return place


def group_of(place: Place, key: int) -> str:
    """The id of the group whose first example is this order."""
    (group,) = [
        one["group"]
        for one in place.type("failures", "--ignored", "--json").document["groups"]
        if one["examples"][0] == f"orders:{key}"
    ]
    return str(group)


def commands(text: str) -> list[list[str]]:
    """What a person is told to type."""
    lines = (line.strip().removeprefix("Next").strip() for line in text.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("rowtrail ")]


# --- seeing them -------------------------------------------------------------------------------


def test_failures_of_one_cause_are_one_group(place: Place) -> None:
    answer = place.type("failures")
    assert answer.code == 0
    assert "2 groups of records are held back, 5 records failed." in answer.out
    first, second = re.findall(r"^[0-9a-f]{8}  orders: .*$", answer.out, re.MULTILINE)
    assert first.endswith("3 records failed") and second.endswith("2 records failed")
    assert "Cause    LookupError: no rate for order 3 of 'rate'" in answer.out
    assert "Such as  orders:1, orders:2, orders:3\n" in answer.out
    assert "Stage    transform" in answer.out
    assert re.search(r"Since    \d{4}-\d\d-\d\d \d\d:\d\d UTC, for under a minute\n", answer.out)


def test_what_is_advised_can_be_typed(place: Place) -> None:
    advised = commands(place.type("failures").out)
    assert [line[0] for line in advised] == ["retry", "retry", "ignore"] * 2
    for line, code in zip(advised, (3, 3, 0) * 2, strict=True):
        assert place.type(*line).code == code, line
    assert place.type("status").code == 0
    undo = commands(place.type("failures", "--ignored").out)
    assert [line[-1] for line in undo] == ["--undo"] * 2
    for line in undo:
        assert place.type(*line).code == 0
    assert place.type("failures", "--json").document["total"] == 5


def test_the_records_of_a_group(place: Place) -> None:
    answer = place.type("failures", "--group", group_of(place, 4))
    assert answer.out.startswith(f"{group_of(place, 4)}  orders: 2 records failed\n")
    assert re.findall(r"^orders:\d+", answer.out, re.MULTILINE) == ["orders:4", "orders:5"]
    few = place.type("failures", "--group", group_of(place, 1)[:5], "--limit", "2")
    assert "These are the oldest 2 of 3" in few.out


def test_all_records_one_by_one(place: Place) -> None:
    answer = place.type("failures", "--records")
    assert len(re.findall(r"^orders:\d+", answer.out, re.MULTILINE)) == 5
    assert "group" not in answer.out


def test_json_has_groups_and_records(place: Place) -> None:
    document = place.type("failures", "--json").document
    assert document["total"] == 5
    first, _ = document["groups"]
    assert first["group"] == first["fingerprint"][:8]
    counts = {name: first[name] for name in ("count", "failed", "waiting", "ignored")}
    assert counts == {"count": 3, "failed": 3, "waiting": 0, "ignored": 0}
    assert (first["stream"], first["stage"], first["error_class"]) == (
        "orders",
        "transform",
        "LookupError",
    )
    assert first["examples"] == ["orders:1", "orders:2", "orders:3"]
    assert datetime.fromisoformat(first["first_at"]) <= datetime.fromisoformat(first["last_at"])
    assert len(document["failures"]) == 5
    one = place.type("failures", "--group", group_of(place, 4), "--json").document
    assert (one["total"], len(one["groups"]), len(one["failures"])) == (2, 1, 2)
    assert {failure["fingerprint"] for failure in one["failures"]} == {
        one["groups"][0]["fingerprint"]
    }


def test_many_groups_are_cut_off_with_a_word(place: Place) -> None:
    answer = place.type("failures", "--limit", "1")
    assert "the largest 1 groups: --limit shows more" in answer.out
    assert len(re.findall(r"^[0-9a-f]{8}  orders: ", answer.out, re.MULTILINE)) == 1


# --- deciding about them -----------------------------------------------------------------------


def test_a_group_is_retried_and_no_other(place: Place) -> None:
    group = group_of(place, 1)
    place.put(*((number, 1, "fine") for number in (1, 2, 3, 4, 5)))
    dry = place.type("retry", "--group", group, "--from", "extract", "--dry-run")
    assert dry.code == 0 and "would be: 3 loaded" in dry.out
    assert place.loaded() == set(range(10, 30))
    answer = place.type("retry", "--group", group, "--from", "extract", "--reason", "mended")
    assert answer.code == 0 and "3 loaded" in answer.out
    assert place.loaded() == {1, 2, 3, *range(10, 30)}
    assert place.type("failures", "--json").document["total"] == 2
    assert (
        f"with group {group}, from stage extract: mended" in place.type("record", "orders", "2").out
    )


def test_a_group_is_replayed_and_no_other(place: Place) -> None:
    group = group_of(place, 1)
    captured = place.type("replay", "--group", group, "--from", "image")
    assert captured.code == 3 and "3 failed again" in captured.out
    place.put(*((number, 1, "fine") for number in (1, 2, 3, 4, 5)))
    dry = place.type("replay", "--group", group, "--dry-run")
    assert dry.code == 0 and "would be: 3 loaded" in dry.out
    assert place.loaded() == set(range(10, 30))
    answer = place.type("replay", "orders", "--group", group)
    assert answer.code == 0 and "3 loaded" in answer.out
    assert place.loaded() == {1, 2, 3, *range(10, 30)}


def test_a_group_that_fails_again_stays_the_same_group(place: Place) -> None:
    group = group_of(place, 1)
    answer = place.type("retry", "orders", "--group", group)
    assert answer.code == 3 and "3 failed again" in answer.out
    assert group_of(place, 1) == group


def test_a_request_for_a_group_waits_for_the_run_that_holds_the_lease(place: Place) -> None:
    """It is about the records that the group had when it was asked for."""
    from rowtrail.checkpoints.ledger import open_ledger

    group = group_of(place, 1)
    with closing(open_ledger(place.ledger, "shop")) as ledger:
        generation = ledger.leases.acquire("another-host:1")
        try:
            answer = place.type("retry", "--group", group, "--from", "extract", "--json")
            (request,) = answer.document["requests"]
            assert request["carried_out"] is False
        finally:
            ledger.leases.release(generation)
        (pending,) = ledger.decisions.pending()
        assert [one.key for one in pending.record_ids] == [(1,), (2,), (3,)]
    place.put((1, 1, "fine"), (2, 1, "fine"), (3, 1, "fine"))
    assert place.type("run").code == 3
    assert {1, 2, 3} <= place.loaded()


def test_a_group_is_ignored_and_taken_back(place: Place) -> None:
    group = group_of(place, 1)
    answer = place.type("ignore", "--group", group, "--reason", "test orders")
    assert answer.code == 0
    assert answer.out.startswith(f"orders, 3 records of group {group}")
    assert "ignored from now on (decision 1); --undo takes it back." in answer.out
    assert place.type("failures", "--json").document["total"] == 2
    assert re.search(
        r"ignored by \S+, with group \w+: test orders", place.type("record", "orders:2").out
    )
    again = place.type("ignore", "--group", group, "--reason", "test orders")
    assert again.code == 1
    assert f"Group {group} has no record that is failed now (3 ignored)" in again.err
    assert f"{group_of(place, 4)} (orders, 2 records)" in again.err
    undone = place.type("ignore", "orders", "--group", group, "--undo", "--json").document
    assert (undone["state"], undone["records"]) == ("failed", ["orders:1", "orders:2", "orders:3"])
    assert place.type("failures", "--json").document["total"] == 5


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("retry", "--group", "00"), 1, "There is no group 00, so nothing was done. The groups of"),
        (("ignore", "--group", "zz", "--reason", "x"), 1, "There is no group zz"),
        (("failures", "--group", "00"), 1, "There is no group 00"),
        (
            ("ignore", "orders", "--group", "00", "--undo"),
            1,
            "No record of stream orders is ignored",
        ),
        (("retry", "ordres", "--group", "00"), 2, "Its streams are orders"),
        (("retry", "orders", "1", "--group", "00"), 2, "a group has its records"),
        (("ignore", "orders", "1", "--group", "00", "--reason", "x"), 2, "a group has its records"),
        (("replay", "orders", "1", "--group", "00"), 2, "name records in different ways"),
        (("replay", "--group", "00", "--since", "1d"), 2, "name records in different ways"),
        (("replay", "--group", "00"), 1, "There is no group 00, so nothing was done"),
        (("replay", "ordres", "--group", "00"), 2, "Its streams are orders"),
        (("ignore", "--group", "00"), 2, "say why"),
        (("ignore", "--reason", "x"), 2, "name the records, or a group"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_groups(place: Place, line: tuple[str, ...], code: int, words: str) -> None:
    answer = place.type(*line)
    assert (answer.code, words in answer.err) == (code, True), answer.err
    assert place.type("failures", "--json").document["total"] == 5


def test_a_group_of_two_streams_needs_the_stream(place: Place) -> None:
    place.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY, note TEXT)")
    with closing(sqlite3.connect(place.source)) as connection, connection:
        connection.executemany(
            "INSERT INTO lines VALUES (?, ?)", [(7, "size"), *((n, "good") for n in range(20, 30))]
        )
    place.file.write_text(
        place.file.read_text() + '\n[streams.lines]\ntransforms = ["picky:picky"]\n'
    )
    assert place.type("run").code == 3
    group = group_of(place, 4)
    answer = place.type("retry", "--group", group)
    assert answer.code == 1
    assert (
        f"(lines, orders), so nothing was done. Name the stream as well: lines --group {group}"
        in (answer.err)
    )
    assert place.type("ignore", "lines", "--group", group, "--reason", "x").code == 0
    assert place.type("failures", "lines").out == "lines: no record is held back.\n"
    assert place.type("failures", "--json").document["total"] == 5


# --- from Python -------------------------------------------------------------------------------


def test_the_same_from_python(place: Place) -> None:
    shop = Pipeline.from_file(place.file)
    first, second = shop.failure_groups()
    assert (first.failed, second.failed) == (3, 2)
    place.put((1, 1, "fine"), (2, 1, "fine"), (3, 1, "fine"))
    (result,) = shop.retry(group=first.group, from_stage="extract")
    assert "3 loaded" in result.text
    assert "3 loaded" in shop.replay("orders", 1, 2, 3).text
    assert "2 failed again" in shop.replay(group=second.group, origin="image").text
    decision = shop.ignore(group=second.group, reason="test orders")
    assert [one.key for one in decision.record_ids] == [(4,), (5,)]
    assert shop.status().is_complete
    assert [one.ignored for one in shop.failure_groups("orders", ignored=True)] == [2]
    assert shop.unignore("orders", 4, 5).result == "2 changes failed"
    (only,) = shop.failure_groups()
    (stream,) = shop.status().streams
    assert (stream.held_back, stream.held_back_since) == (2, only.first_at)
    with pytest.raises(LedgerError, match="no group 00"):
        shop.retry(group="00")
    for wrong in (
        lambda: shop.retry("orders", 4, group=only.group),
        lambda: shop.ignore("orders", 4, group=only.group, reason="x"),
        lambda: shop.ignore("orders", reason="x"),
        lambda: shop.replay("orders", 4, group=only.group),
        lambda: shop.replay(group=only.group, where="1=1"),
    ):
        with pytest.raises(ConfigurationError, match="group"):
            wrong()
    shop.ignore(group=only.group, reason="test orders")
    assert shop.unignore("orders", group=only.group, reason="no").group == only.fingerprint


# --- the age of the oldest gap -----------------------------------------------------------------


def test_status_says_since_when(place: Place) -> None:
    with closing(sqlite3.connect(place.ledger)) as connection, connection:
        connection.execute(
            "UPDATE failures SET first_at = first_at - ? WHERE key_text = '5'",
            [(3 * 24 + 5) * 3_600 * 1_000_000],
        )
    since = min(one["first_at"] for one in place.type("failures", "--json").document["failures"])
    answer = place.type("status")
    table = " ".join(answer.out.partition("\n\n")[0].split())
    assert "complete except" in table and "oldest for 3" in table
    told = datetime.fromisoformat(since).strftime("%Y-%m-%d %H:%M:%S")
    assert f"5 records are held back, the oldest since {told} UTC" in answer.out
    (stream,) = place.type("status", "--json").document["streams"]
    assert (stream["state"], stream["held_back_since"]) == ("complete except 5", since)
    assert "for 3 days" in place.type("failures").out
    for key in (1, 4):
        place.type("ignore", "--group", group_of(place, key), "--reason", "x")
    (stream,) = place.type("status", "--json").document["streams"]
    assert (stream["state"], stream["held_back_since"]) == ("complete", None)


def test_columns_of_the_stream_are_no_values(place: Place) -> None:
    """`line_1` and `line_2` are told apart, although a word with digits is a value elsewhere."""
    place.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY, line_1 TEXT, line_2 TEXT)")
    (place.folder / "lines.py").write_text(
        "def strict(lines):\n"
        "    for line in lines.itertuples():\n"
        "        for name in ('line_1', 'line_2'):\n"
        "            if getattr(line, name) == '':\n"
        "                raise ValueError(f'{name} of sku-{line.id} is empty')\n"
        "    return lines\n"
    )
    with closing(sqlite3.connect(place.source)) as connection, connection:
        rows = [(1, "", "x"), (2, "", "x"), (3, "x", ""), *((n, "x", "x") for n in range(9, 30))]
        connection.executemany("INSERT INTO lines VALUES (?, ?, ?)", rows)
    section = '\n[streams.lines]\ntransforms = ["lines:strict"]\n'
    place.file.write_text(place.file.read_text() + section)
    place.type("run", "lines")
    groups = place.type("failures", "lines", "--json").document["groups"]
    assert [one["examples"] for one in groups] == [["lines:1", "lines:2"], ["lines:3"]]
