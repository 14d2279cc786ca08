"""Tables of as many columns as SQLite has, of which one row has a value that does not fit."""

from __future__ import annotations

import pytest

from rowtrail import Pipeline, Stream
from tests.pipelines.copied_table import CopiedTable


def wide(table: CopiedTable, columns: int) -> Pipeline:
    listed = ", ".join(f"c{number} INTEGER" for number in range(1, columns))
    table.change(
        f"CREATE TABLE wide (id INTEGER PRIMARY KEY, {listed})",
        "INSERT INTO wide (id, c1, c998) VALUES (1, 11, 12), (2, 21, NULL), (3, 31, 32)",
        f"UPDATE wide SET c{columns - 1} = id, c{columns - 2} = CASE id WHEN 3 THEN 'x' END",
    )
    return Pipeline(
        name="test",
        source=table.source,
        destination=table.target,
        ledger=table.folder / "ledger.db",
        streams=[Stream("wide", capture="snapshot")],
    )


@pytest.mark.parametrize("each_pair", ["sqlite-duckdb", "sqlite-postgres"], indirect=True)
@pytest.mark.parametrize("columns", [1_500, 2_000])
def test_all_columns_arrive(each_pair: CopiedTable, columns: int) -> None:
    pipeline = wide(each_pair, columns)
    if each_pair.target.startswith("postgresql:") and columns == 2_000:
        (found,) = pipeline.compare_schemas()
        assert "would have 2,005 columns" in found.problem
        assert pipeline.run().streams["wide"].error == found.problem
        return
    result = pipeline.run()
    (failed,) = result.failed_records
    assert failed.record == "wide:3" and f"c{columns - 2}" in failed.message
    assert each_pair.ask_target(f"SELECT id, c1, c998, c{columns - 1} FROM wide ORDER BY id") == [
        (1, 11, 12, 1),
        (2, 21, None, 2),
    ]
    (found,) = pipeline.compare_schemas()
    assert len(found.columns) == columns and not found.loses
    each_pair.change("UPDATE wide SET c2 = 7 WHERE id = 2")
    assert pipeline.run().streams["wide"].counts.loaded == 1
    assert each_pair.ask_target("SELECT c2 FROM wide WHERE id = 2") == [(7,)]
