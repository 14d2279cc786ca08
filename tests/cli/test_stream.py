"""`rowtrail stream` and `rowtrail ledger`: decisions about whole streams, and the checkpoints."""

from __future__ import annotations

import stat

import pytest

from tests.cli.place import FILE, Place


@pytest.fixture
def loaded(place: Place) -> Place:
    place.put((1, 1, "a"))
    place.type("run")
    return place


def test_a_paused_stream_is_left_out_until_it_is_resumed(loaded: Place) -> None:
    assert loaded.type("stream", "pause", "orders").out.startswith("orders is paused")
    loaded.put((2, 2, "b"))
    run = loaded.type("run")
    assert run.code == 3
    assert "paused" in run.out and "rowtrail stream resume orders" in run.out
    assert loaded.loaded() == {1}
    status = loaded.type("status")
    assert status.code == 3 and "paused" in status.out
    assert loaded.type("stream", "resume", "orders").code == 0
    assert loaded.type("run").code == 0
    assert loaded.loaded() == {1, 2}


def test_a_resnapshot_reads_the_table_anew(loaded: Place) -> None:
    answer = loaded.type("stream", "resnapshot", "orders", "--json")
    assert answer.document == {"stream": "orders", "done": "resnapshot"}
    status = loaded.type("status")
    assert status.code == 3 and "to be read anew" in status.out
    assert loaded.type("run", "--json").document["streams"]["orders"]["counts"]["loaded"] == 1


def test_a_stream_is_dropped_once_it_has_left_the_file(loaded: Place) -> None:
    still = loaded.type("stream", "drop", "orders", "--yes")
    assert still.code == 2
    assert "is still one of the pipeline" in still.err
    loaded.write(FILE.replace("[streams.orders]", '[streams.sales]\ntable = "orders"'))
    assert loaded.spawn("stream", "drop", "orders", typed="n\n").code == 1
    assert loaded.type("stream", "drop", "orders", "--json").code == 2
    assert loaded.type("stream", "drop", "orders", "--yes").code == 0
    assert loaded.type("stream", "drop", "orders", "--yes").code == 2
    assert loaded.loaded() == {1}


@pytest.mark.parametrize("action", ["pause", "resume", "resnapshot"])
def test_only_streams_of_the_pipeline_can_be_decided_about(loaded: Place, action: str) -> None:
    answer = loaded.type("stream", action, "ordres")
    assert answer.code == 2
    assert "Its streams are orders." in answer.err


def test_the_ledger_is_backed_up_and_never_over_another_file(loaded: Place) -> None:
    answer = loaded.type("ledger", "backup", "copy.ledger")
    assert answer.code == 0
    copy = loaded.folder / "copy.ledger"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    before = copy.read_bytes()
    again = loaded.type("ledger", "backup", "copy.ledger")
    assert again.code == 1 and "not overwritten" in again.err
    assert copy.read_bytes() == before
    json = loaded.type("ledger", "backup", "other.ledger", "--json")
    assert json.document == {"file": "other.ledger"}


def test_a_lost_ledger_is_rebuilt_from_the_target(spoiled: Place) -> None:
    refused = spoiled.type("ledger", "rebuild")
    assert refused.code == 2 and "never overwrites" in refused.err
    spoiled.ledger.unlink()
    answer = spoiled.type("ledger", "rebuild")
    assert answer.code == 0
    assert "1 failed records are known again" in answer.out or "1 failed record" in answer.out
    failures = spoiled.type("failures", "--json").document
    assert [one["record_id"] for one in failures["failures"]] == ["orders:2"]
    spoiled.put((2, 2, "mended"))
    assert spoiled.type("retry", "orders", "2", "--from", "extract").code == 0
    assert spoiled.type("run").code == 0
    assert spoiled.loaded() == {1, 2}


def test_a_renamed_stream_goes_on(spoiled: Place) -> None:
    old = spoiled.file.read_text("utf-8")
    refused = spoiled.type("stream", "rename", "orders", "sales")
    assert refused.code == 2 and "sales" in refused.err
    spoiled.write(old.replace("[streams.orders]", '[streams.sales]\ntable = "orders"'))
    refused = spoiled.type("stream", "rename", "orders", "sales")
    assert refused.code == 2 and 'Add `target = "orders"`' in refused.err
    spoiled.write(
        old.replace("[streams.orders]", '[streams.sales]\ntable = "orders"\ntarget = "orders"')
    )
    assert spoiled.type("stream", "rename", "nothing", "sales").code == 2
    answer = spoiled.type("stream", "rename", "orders", "sales")
    assert (answer.code, answer.out) == (
        0,
        "orders is sales from now on; the next run goes on from its position.\n",
    )
    assert spoiled.query("SELECT record FROM _rowtrail_gaps") == [("sales:2",)]
    spoiled.put((2, 2, "mended"), (4, 4, "new"))
    run = spoiled.type("run", "--json").document["streams"]["sales"]
    assert (run["counts"]["loaded"], run["error"]) == (2, None)
    assert "failed at stage transform" in spoiled.type("record", "sales", "2").out
    assert spoiled.query("SELECT record FROM _rowtrail_gaps") == []
    assert spoiled.loaded() == {1, 2, 4}
    assert spoiled.type("stream", "rename", "orders", "sales").code == 2


def test_backfill(place: Place) -> None:
    place.put((1, 1, "one"), (2, 2, "two"))
    place.type("run")
    place.sql("ALTER TABLE orders ADD COLUMN place TEXT DEFAULT 'here'")
    assert "rowtrail stream backfill orders place" in place.type("run").err
    assert place.query("SELECT place FROM orders ORDER BY id") == [(None,), (None,)]
    answer = place.type("stream", "backfill", "orders", "place", "--dry-run")
    assert answer.code == 0 and "2" in answer.out
    assert place.query("SELECT place FROM orders ORDER BY id") == [(None,), (None,)]
    answer = place.type("stream", "backfill", "orders", "place")
    assert answer.code == 0, answer.err
    assert place.query("SELECT place FROM orders ORDER BY id") == [("here",), ("here",)]
    assert "backfill of column place" in place.type("record", "orders", "1").out
    document = place.type("stream", "backfill", "orders", "place", "--json").document
    assert document["requests"][0]["failed"] == []
    answer = place.type("stream", "backfill", "orders", "nothing")
    assert answer.code == 2 and "Column nothing of stream orders cannot be filled" in answer.err
