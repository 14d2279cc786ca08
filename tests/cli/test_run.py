"""`rowtrail run` and `rowtrail status`, as a person reads them."""

from __future__ import annotations

from contextlib import closing

import pytest

from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.config import load_pipeline
from rowtrail.pipelines.run import run_pipeline
from tests.cli.place import FILE, Place
from tests.pipelines.crashing import Crash, CrashAt

TWO = FILE + "\n[streams.people]\n"


@pytest.fixture
def two(place: Place) -> Place:
    """Two streams with rows."""
    place.sql("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
    place.sql("INSERT INTO people VALUES (1, 'Ann')")
    place.put((1, 1, "a"))
    place.write(TWO)
    return place


def test_a_complete_run(two: Place) -> None:
    answer = two.type("run")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith("Complete, in ")
    assert [line.split()[:3] for line in answer.out.splitlines()[2:4]] == [
        ["orders", "complete", "1"],
        ["people", "complete", "1"],
    ]
    status = two.type("status")
    assert status.code == 0 and "was complete." in status.out


def test_a_run_with_failed_records_is_never_plain_green(spoiled: Place) -> None:
    answer = spoiled.type("run")
    assert answer.code == 3
    assert "complete except 1" in answer.out
    assert answer.out.splitlines()[-1].startswith("Complete except 1 record, in ")
    assert "`rowtrail record orders:2` tells why" in answer.out
    status = spoiled.type("status")
    assert status.code == 3
    assert "complete except 1" in status.out
    assert "`rowtrail failures orders` says why" in status.out


def test_many_failed_records_are_not_all_told(place: Place) -> None:
    place.use_transform()
    place.put(*((number, 1, "bad") for number in range(12)), *((n, 1, "x") for n in range(50, 70)))
    answer = place.type("run")
    assert answer.code == 3
    assert answer.out.count("failed at transform") == 10
    assert "`rowtrail failures orders` lists all 12" in answer.out


def test_a_stream_that_stops_does_not_stop_the_others(two: Place) -> None:
    two.type("init", "--capture", "--yes")
    two.write(TWO, install_capture="false")
    two.sql("DROP TABLE orders")
    answer = two.type("run")
    assert answer.code == 1
    assert (
        "Failed: 1 stream stopped, as told above. The others are as the table says." in answer.out
    )
    assert [line.split()[:3] for line in answer.out.splitlines()[2:4]] == [
        ["orders", "stopped", "0"],
        ["people", "complete", "1"],
    ]


def test_only_the_streams_that_are_named(two: Place) -> None:
    document = two.type("run", "people", "--json").document
    assert list(document["streams"]) == ["people"]
    status = two.type("status")
    assert status.code == 3 and "never loaded" in status.out
    unknown = two.type("run", "nobody")
    assert unknown.code == 2 and "Its streams are orders, people." in unknown.err


def test_a_stream_is_read_anew_on_request(two: Place) -> None:
    two.type("run")
    document = two.type("run", "--resnapshot", "orders", "--json").document
    assert document["streams"]["orders"]["counts"]["loaded"] == 1
    assert document["streams"]["people"]["counts"]["loaded"] == 0


def test_many_deletes_stop_the_stream_until_they_are_allowed(place: Place) -> None:
    place.put(*((number, 1, "x") for number in range(200)))
    place.type("run")
    place.sql("DELETE FROM orders WHERE id < 150")
    stopped = place.type("run")
    assert stopped.code == 1
    assert "--allow-deletes 100%" in stopped.out
    assert len(place.loaded()) == 200
    status = place.type("status")
    assert status.code == 1 and "orders is stopped: " in status.out
    assert place.type("run", "--allow-deletes", "much").code == 2
    assert place.type("run", "--allow-deletes", "100%").code == 0
    assert place.loaded() == place.expected()


def test_status_before_the_first_run(place: Place) -> None:
    answer = place.type("status")
    assert answer.code == 3
    assert "never loaded" in answer.out and "has never been run" in answer.out
    document = place.type("status", "--json").document
    assert (document["last_run"], document["exit_code"]) == (None, 3)
    assert document["streams"][0]["state"] == "never loaded"


def test_status_after_a_first_run_that_was_cut_off(place: Place) -> None:
    """Never plain green while rows are missing."""
    place.put(*((number, 1, "x") for number in range(1, 6)))
    place.write(FILE + "batch_rows = 2\n")
    with pytest.raises(Crash):
        run_pipeline(load_pipeline(place.file), faults=CrashAt(Point.CLOSED))
    with closing(open_ledger(place.ledger, "shop")) as ledger:
        held = ledger.leases.current()
        assert held is not None
        ledger.leases.release(held.generation)
    status = place.type("status")
    assert status.code == 3
    assert "half loaded" in status.out and "`rowtrail run` goes on with it" in status.out
    assert "was cut off. What it had committed stays" in status.out
    assert place.type("run").code == 0
    assert place.type("status").code == 0
    assert place.loaded() == place.expected()


def test_a_request_is_not_the_last_run(spoiled: Place) -> None:
    before = spoiled.type("status", "--json").document["last_run"]
    spoiled.type("replay", "orders", "1")
    assert spoiled.type("status", "--json").document["last_run"] == before
