"""`rowtrail replay --from archive`, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.place import FILE, PICKY, Place

ARCHIVE = FILE.replace("[defaults]", 'archive = "kept"\n\n[defaults]\nbatch_rows = 2\n')
TWO = ARCHIVE + "\n[streams.lines]\n"


@pytest.fixture
def archived(place: Place) -> Place:
    """Three orders and a line, loaded and archived; orders in two batches of rows."""
    place.write(TWO)
    place.sql("CREATE TABLE lines (id INTEGER PRIMARY KEY, note TEXT)")
    place.sql("INSERT INTO lines VALUES (1, 'a')")
    place.put((1, 1, "a"), (2, 2, "b"), (3, 3, "c"))
    assert place.type("run").code == 0
    return place


def files(place: Place, stream: str) -> list[Path]:
    return sorted((place.folder / "kept" / "shop" / stream).rglob("*.parquet"))


def test_a_new_target_is_made_of_it_and_the_next_run_goes_on(archived: Place) -> None:
    assert len(files(archived, "orders")) >= 2
    archived.target.unlink()
    away = archived.source.rename(archived.folder / "away.db")
    answer = archived.type("replay", "--all", "--from", "archive", "--reason", "disk lost")
    assert answer.code == 0, answer.err
    assert "orders: rebuilt from the archive: 3 loaded" in answer.out
    assert "lines: rebuilt from the archive: 1 loaded" in answer.out
    assert "The archive begins at" in answer.out
    away.rename(archived.source)
    archived.put((4, 4, "d"))
    document = archived.type("run", "--json").document
    assert document["complete"] and document["streams"]["orders"]["counts"]["loaded"] == 1
    assert archived.loaded() == archived.expected()
    assert archived.type("record", "orders", "1").out.count("loaded") >= 2, "both are in the trail"


def test_one_stream_or_several(archived: Place) -> None:
    document = archived.type("replay", "lines", "--from", "archive", "--json").document
    assert [one["stream"] for one in document["streams"]] == ["lines"]
    document = archived.type("replay", "lines", "orders", "--from", "archive", "--json").document
    assert [one["stream"] for one in document["streams"]] == ["lines", "orders"]
    assert document["streams"][1]["counts"]["loaded"] == 3
    assert document["streams"][1]["complete"] is True


def test_records_of_one_stream(archived: Place) -> None:
    for line in (("orders", "2"), ("orders:2",)):
        answer = archived.type("replay", *line, "--from", "archive", "--json")
        assert answer.document["streams"][0]["counts"]["loaded"] == 1
    both = archived.type("replay", "orders", "2", "lines", "--from", "archive")
    assert both.code == 2 and "lines names a stream" in both.err


def test_records_of_a_file_or_of_a_group(archived: Place) -> None:
    keys = archived.folder / "keys.txt"
    keys.write_text("1\n3\n")
    line = ("replay", "orders", "--keys-from", str(keys), "--from", "archive", "--json")
    assert archived.type(*line).document["streams"][0]["counts"]["loaded"] == 2
    archived.use_transform(
        "def picky(orders):\n"
        "    if (orders['note'] == 'bad').any():\n"
        "        raise ValueError('bad')\n"
        "    return orders\n"
    )
    archived.write(TWO.replace("\n[streams.orders]\n", PICKY))
    archived.put((4, 4, "bad"), *((number, 1, "good") for number in range(5, 30)))
    assert archived.type("run").code == 3
    (group,) = archived.type("failures", "--json").document["groups"]
    line = ("replay", "--group", group["group"], "--from", "archive", "--json")
    answer = archived.type(*line)
    assert answer.code == 3 and answer.document["streams"][0]["failed"] == ["orders:4"]
    (archived.folder / "picky.py").write_text("def picky(orders):\n    return orders\n")
    assert archived.type(*line).document["streams"][0]["counts"]["loaded"] == 1
    assert archived.loaded() == archived.expected()


def test_what_is_lost_is_told_with_exit_code_3(archived: Place) -> None:
    damaged = files(archived, "orders")[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    answer = archived.type("replay", "orders", "--from", "archive")
    assert answer.code == 3
    told = " ".join(answer.out.split())
    assert "is damaged" in told and "with 2 records" in told and "1 loaded" in told
    document = archived.type("replay", "orders", "--from", "archive", "--json").document
    assert document["streams"][0]["complete"] is False
    assert damaged.name in document["streams"][0]["lost"][0]


def test_a_range_of_time(archived: Place) -> None:
    late = archived.type("replay", "orders", "--from", "archive", "--since", "2999-01-01")
    assert late.code == 0 and "no change" in late.out
    early = archived.type(
        "replay", "orders", "--from", "archive", "--until", "2001-01-01T10:00+02:00", "--json"
    )
    assert early.document["streams"][0]["counts"]["loaded"] == 0
    all_of_it = archived.type("replay", "orders", "--from", "archive", "--since", "2001-01-01")
    assert "3 loaded" in all_of_it.out


def test_a_dry_run_changes_nothing(archived: Place) -> None:
    before = len(files(archived, "orders"))
    answer = archived.type("replay", "orders", "--from", "archive", "--dry-run")
    assert answer.code == 0 and "Dry run, orders: replay from the archive: would be: 3" in (
        answer.out
    )
    assert len(files(archived, "orders")) == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--from", "archive"), "name streams, or add --all"),
        (("orders", "--all", "--from", "archive"), "name streams, or add --all"),
        (("orders", "--from", "archive", "--since", "soon"), "'soon'"),
        (("orders", "--where", "1=1", "--from", "archive"), "the archive is not asked so"),
        (("orders", "1", "--all"), "only for --from archive"),
        (("--keys-from", "-", "--from", "archive"), "say of which stream the keys are"),
        (("orders", "1", "--group", "00", "--from", "archive"), "in different ways"),
        (("--all", "--group", "00", "--from", "archive"), "are records of one stream"),
        (("nowhere", "--group", "00", "--from", "archive"), "no stream nowhere"),
        (("nowhere", "--from", "archive"), "no stream nowhere"),
        ((), "name the stream"),
    ],
)
def test_wrong_usage(archived: Place, line: tuple[str, ...], words: str) -> None:
    answer = archived.type("replay", *line)
    assert answer.code == 2
    assert words in " ".join(answer.err.split())


def test_without_an_archive(place: Place) -> None:
    place.put((1, 1, "a"))
    assert place.type("run").code == 0
    answer = place.type("replay", "orders", "--from", "archive")
    assert answer.code == 2 and "has no archive. Set `archive`" in " ".join(answer.err.split())


def test_parquet_is_imported_where_it_is_used(archived: Place) -> None:
    """A command that only asks the ledger answers as fast as without an archive."""
    done = archived.spawn("status", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    assert "rowtrail.pipelines.config" in done.err
    assert "pyarrow.parquet" not in done.err and "fsspec" not in done.err


def test_a_relative_path_starts_at_the_pipeline_file(archived: Place) -> None:
    assert files(archived, "orders"), "in the folder of the file, not of the process"
    archived.write(TWO + "archive = false\n")
    before = len(files(archived, "lines"))
    archived.sql("INSERT INTO lines VALUES (2, 'b')")
    assert archived.type("run").code == 0
    assert len(files(archived, "lines")) == before


def test_old_batches_are_pruned_as_a_person_says(archived: Place) -> None:
    archived.put((4, 4, "d"))
    archived.type("run")
    before = files(archived, "orders")
    line = ("prune", "--archive", "--older-than", "0d", "orders")
    told = archived.type(*line, "--dry-run").out
    assert "Archive of batches read before " in told
    assert "orders  archived batches with 3 records" in told
    assert "makes no new target" in told and "--resnapshot orders" in told
    assert files(archived, "orders") == before
    answer = archived.type(*line, "--yes", "--json")
    (count,) = answer.document["pruned"]
    assert (count["stream"], count["number"]) == ("orders", len(before) - 1)
    assert files(archived, "orders") == before[-1:]
    assert len(files(archived, "lines")) > 0
    (pruned,) = archived.type("record", "orders", "1", "--json").document["pruned"]
    assert pruned["what"] == "archive"
    assert archived.type(*line, "--yes").out.endswith("There are none.\n")


def test_old_batches_are_pruned_as_the_settings_say(archived: Place) -> None:
    settings = TWO.replace("[defaults]", '[retention]\narchive = "1d"\n\n[defaults]')
    archived.write(settings)
    assert "Pruned" not in archived.type("run").err
    before = files(archived, "orders")
    for path in before[:-1]:
        sequence, opened, rest = path.name.split("_", 2)
        path.rename(path.with_name(f"{sequence}_2001{opened[4:]}_{rest}"))
    archived.put((4, 4, "d"))
    archived.write(settings.replace('"1d"', '"2d"'))
    assert "Pruned" not in archived.type("run").err, "it was looked at today"
    answer = archived.type("prune", "--yes")
    assert answer.code == 0 and "archived batches with 3 records" in answer.out
    assert len(files(archived, "orders")) == 2, "the last before, and the new one"


def test_a_retention_of_no_archive_is_a_mistake(place: Place) -> None:
    place.write(FILE.replace("[defaults]", '[retention]\narchive = "1d"\n\n[defaults]'))
    answer = place.type("run")
    assert answer.code == 2
    assert "retention.archive" in answer.err and "there is no archive" in answer.err
    place.write(FILE)
    place.put((1, 1, "a"))
    assert place.type("run").code == 0
    assert "has no archive" in place.type("prune", "--archive", "--older-than", "1d").err
