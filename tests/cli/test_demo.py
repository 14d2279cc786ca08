"""`rowtrail demo`: the whole story, and its last line."""

from __future__ import annotations

from tests.cli.place import Place


def test_the_demo_ends_with_source_and_target_equal(place: Place) -> None:
    answer = place.spawn("demo", "shown")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].startswith("Source and target are equal: ")
    assert "orders:42 is out of date in the warehouse" in answer.out
    assert "orders:42 is in the warehouse" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 100


def test_the_demo_touches_no_folder_of_somebody_else(place: Place) -> None:
    answer = place.type("demo", str(place.folder))
    assert answer.code == 2
    assert "files that are not a demo's" in answer.err and "source.db" in answer.err
    assert place.source.exists()
    file = place.type("demo", str(place.source))
    assert file.code == 2 and "is a file" in file.err


def test_a_pipeline_with_the_demo_s_file_names_is_not_touched(place: Place) -> None:
    """They are the names that everybody uses."""
    real = place.folder / "real"
    real.mkdir()
    for name in ("shop.db", "rowtrail.toml"):
        (real / name).write_text("precious")
    answer = place.type("demo", str(real))
    assert answer.code == 2 and "files that are not a demo's" in answer.err
    assert (real / "shop.db").read_text() == (real / "rowtrail.toml").read_text() == "precious"


def test_a_demo_that_cannot_be_made(place: Place) -> None:
    answer = place.type("demo", "/dev/null/demo")
    assert answer.code == 2 and "cannot be made in /dev/null/demo" in answer.err
