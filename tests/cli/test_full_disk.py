"""A full disk, for real: a small tmpfs under the target, or under the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.place import FILE, Place
from tests.small_disk import resize, small_disk

ROWS = 20_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def fill(place: Place) -> None:
    """Rows that do not compress to fewer bytes than the disk has."""
    place.sql(
        "INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {ROWS}) SELECT i, 1, hex(randomblob(500)) FROM n"
    )


def test_of_the_target(place: Place, disk: Path) -> None:
    fill(place)
    place.target = disk / "target.duckdb"
    place.write(FILE, destination=f'"duckdb:///{place.target}"')
    answer = place.type("run")
    assert answer.code == 1
    told = answer.out + answer.err
    assert "disk is full" in told and "itself is at fault" not in told
    assert place.type("failures").out == "No record is held back.\n"
    resize(disk, "200m")
    assert place.type("run").code == 0
    assert len(place.loaded()) == ROWS


def test_of_the_ledger(place: Place, disk: Path) -> None:
    place.ledger = disk / "shop.ledger"
    place.write(FILE.replace("[defaults]", f'ledger = "{place.ledger}"\n\n[defaults]'))
    place.put((0, 0, "before"))
    assert place.type("run").code == 0
    (disk / "ballast").write_bytes(b"x" * 4_000_000)
    resize(disk, "4m")
    fill(place)
    answer = place.type("run")
    assert answer.code == 1
    told = answer.out + answer.err
    assert str(place.ledger) in told and "the disk is full" in told
    assert "itself is at fault" not in told
    (disk / "ballast").unlink()
    resize(disk, "200m")
    assert place.type("run").code == 0
    assert len(place.loaded()) == ROWS + 1
