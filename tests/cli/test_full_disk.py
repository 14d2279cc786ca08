"""A full disk, for real: a small tmpfs under the target, or under the ledger."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.place import FILE, Place

ROWS = 20_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 8 MB. Skips where only an administrator may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def fill(place: Place) -> None:
    """Rows that do not compress to fewer bytes than the disk has."""
    place.sql(
        "INSERT INTO orders WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {ROWS}) SELECT i, 1, hex(randomblob(500)) FROM n"
    )


def test_of_the_target(place: Place, small_disk: Path) -> None:
    fill(place)
    place.target = small_disk / "target.duckdb"
    place.write(FILE, destination=f'"duckdb:///{place.target}"')
    answer = place.type("run")
    assert answer.code == 1
    told = answer.out + answer.err
    assert "disk is full" in told and "itself is at fault" not in told
    assert place.type("failures").out == "No record is held back.\n"
    resize(small_disk, "200m")
    assert place.type("run").code == 0
    assert len(place.loaded()) == ROWS


def test_of_the_ledger(place: Place, small_disk: Path) -> None:
    place.ledger = small_disk / "shop.ledger"
    place.write(FILE.replace("[defaults]", f'ledger = "{place.ledger}"\n\n[defaults]'))
    place.put((0, 0, "before"))
    assert place.type("run").code == 0
    (small_disk / "ballast").write_bytes(b"x" * 4_000_000)
    resize(small_disk, "4m")
    fill(place)
    answer = place.type("run")
    assert answer.code == 1
    told = answer.out + answer.err
    assert str(place.ledger) in told and "disk is full" in told
    assert "itself is at fault" not in told
    (small_disk / "ballast").unlink()
    resize(small_disk, "200m")
    assert place.type("run").code == 0
    assert len(place.loaded()) == ROWS + 1
