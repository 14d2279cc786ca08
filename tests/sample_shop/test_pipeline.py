"""The sample pipeline from day one to the last mended record, through the real engine."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from rowtrail import Pipeline
from rowtrail.sample_data.compare import compare
from rowtrail.sample_data.day_two import POISONS, apply_day_two, mend
from rowtrail.sample_data.generate import SMALLEST, create_shop


def sample_pipeline(folder: Path) -> Pipeline:
    create_shop(folder / "shop.db", orders=SMALLEST)
    toml = files("rowtrail.sample_data") / "rowtrail.toml"
    (folder / "rowtrail.toml").write_text(toml.read_text())
    pipeline = Pipeline.from_file(folder / "rowtrail.toml")
    pipeline.install_capture()
    return pipeline


def differing(folder: Path) -> set[tuple[str, tuple]]:
    differences = compare(folder / "shop.db", folder / "warehouse.duckdb").differences
    return {(difference.table, difference.key) for difference in differences}


def test_the_sample_pipeline_holds_back_the_poisons_alone(tmp_path: Path) -> None:
    pipeline = sample_pipeline(tmp_path)
    first = pipeline.run()
    assert first.complete
    assert first.streams["orders"].counts.filtered > 0
    assert differing(tmp_path) == set()

    apply_day_two(tmp_path / "shop.db")
    second = pipeline.run()
    assert not second.complete
    assert {(failed.record, failed.stage) for failed in second.failed_records} == {
        (f"{poison.stream}:{','.join(map(str, poison.key))}", poison.stage) for poison in POISONS
    }
    assert differing(tmp_path) == {(poison.stream, poison.key) for poison in POISONS}


def test_each_poison_is_mended_and_retried_alone(tmp_path: Path) -> None:
    pipeline = sample_pipeline(tmp_path)
    pipeline.run()
    apply_day_two(tmp_path / "shop.db")
    pipeline.run()
    left = {(poison.stream, poison.key) for poison in POISONS}
    for poison in POISONS:
        mend(tmp_path / "shop.db", poison)
        pipeline.retry(poison.stream, poison.key, from_stage="extract")
        left.remove((poison.stream, poison.key))
        assert differing(tmp_path) == left
    last = pipeline.run()
    assert last.complete
    assert differing(tmp_path) == set()
