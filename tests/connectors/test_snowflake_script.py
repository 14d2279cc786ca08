"""What is said to Snowflake, word by word: the parts that what stands in for it does not check.

That statements carry a query tag, that COPY gives up at the first error, that DDL comes before the
transaction: fakesnow takes all of it, and minds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from rowtrail.connectors.base import Deletes
from rowtrail.connectors.destinations import snowflake_staging
from rowtrail.connectors.destinations.snowflake_sql import Connected
from rowtrail.connectors.destinations.snowflake_staging import make_table, put
from rowtrail.connectors.errors import RecordError, TransientError

from .builders import FENCE, NOW, delete, load_of, orders, receipt_of, upsert
from .snowflake_warehouse import SnowflakeWarehouse

NEWER = (
    '(t."_ROWTRAIL_EPOCH" > s."E" OR (t."_ROWTRAIL_EPOCH" = s."E" AND '
    '(t."_ROWTRAIL_POSITION" > s."P" OR (t."_ROWTRAIL_POSITION" = s."P" AND '
    '(t."_ROWTRAIL_ORDINAL" > s."O" OR (t."_ROWTRAIL_ORDINAL" = s."O" AND '
    '(t."_ROWTRAIL_REVISION" > s."R" OR (t."_ROWTRAIL_REVISION" = s."R" AND TRUE))))))))'
)
BATCH = [
    'DESCRIBE TABLE "PUBLIC"."ORDERS"',
    'CREATE OR REPLACE TRANSIENT TABLE "PUBLIC"."STAGING" ("C0" NUMBER(19,0), "C1" VARCHAR, '
    '"E" NUMBER(19,0), "P" NUMBER(19,0), "O" NUMBER(19,0), "R" NUMBER(19,0), "N" NUMBER(19,0), '
    '"GONE" BOOLEAN, "FILTERED" BOOLEAN)',
    'PUT \'file://0000.parquet\' @"PUBLIC"."_ROWTRAIL_STAGE"/LEDGER/FOLDER AUTO_COMPRESS=FALSE '
    "OVERWRITE=TRUE",
    "BEGIN",
    'UPDATE "PUBLIC"."_ROWTRAIL_OWNER" SET written_at = CURRENT_TIMESTAMP WHERE pipeline = ? '
    "AND ledger_id = ? AND generation = ?",
    'SELECT batch_id, superseded FROM "PUBLIC"."_ROWTRAIL_RECEIPTS" WHERE batch_id = ? '
    "OR (pipeline = ? AND stream = ? AND sequence = ?)",
    'COPY INTO "PUBLIC"."STAGING" FROM @"PUBLIC"."_ROWTRAIL_STAGE"/LEDGER/FOLDER/ '
    "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE) "
    "MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT",
    'SELECT "N", BURIED, NEWER FROM (SELECT s."N", False AS BURIED, '
    f'{NEWER} AS NEWER FROM "PUBLIC"."STAGING" AS s JOIN "PUBLIC"."ORDERS" AS t '
    'ON t."ID" = s."C0" UNION ALL SELECT s."N", True AS BURIED, '
    f'{NEWER} AS NEWER FROM "PUBLIC"."STAGING" AS s '
    'JOIN "PUBLIC"."_ROWTRAIL_TOMBSTONES_ORDERS" AS t ON t."ID" = s."C0") AS f '
    "WHERE BURIED OR NEWER",
    'MERGE INTO "PUBLIC"."_ROWTRAIL_TOMBSTONES_ORDERS" AS t USING '
    '(SELECT s.*, s."GONE" AS BURY FROM "PUBLIC"."STAGING" AS s) AS s ON t."ID" = s."C0" '
    f"WHEN MATCHED AND NOT {NEWER} AND NOT s.BURY THEN DELETE "
    f"WHEN MATCHED AND NOT {NEWER} THEN UPDATE SET "
    '"_ROWTRAIL_EPOCH" = s."E", "_ROWTRAIL_POSITION" = s."P", "_ROWTRAIL_ORDINAL" = s."O", '
    '"_ROWTRAIL_REVISION" = s."R", "_ROWTRAIL_FILTERED" = s."FILTERED", '
    "\"_ROWTRAIL_DELETED_AT\" = '2024-05-17T12:30:00+00:00'::TIMESTAMP_TZ "
    'WHEN NOT MATCHED AND s.BURY THEN INSERT ("ID", "_ROWTRAIL_EPOCH", "_ROWTRAIL_POSITION", '
    '"_ROWTRAIL_ORDINAL", "_ROWTRAIL_REVISION", "_ROWTRAIL_FILTERED", "_ROWTRAIL_DELETED_AT") '
    'VALUES (s."C0", s."E", s."P", s."O", s."R", s."FILTERED", '
    "'2024-05-17T12:30:00+00:00'::TIMESTAMP_TZ)",
    'MERGE INTO "PUBLIC"."ORDERS" AS t USING "PUBLIC"."STAGING" AS s ON t."ID" = s."C0" '
    f'WHEN MATCHED AND NOT {NEWER} AND s."GONE" THEN DELETE '
    f'WHEN MATCHED AND NOT {NEWER} THEN UPDATE SET "NOTE" = s."C1", "_ROWTRAIL_EPOCH" = s."E", '
    '"_ROWTRAIL_POSITION" = s."P", "_ROWTRAIL_ORDINAL" = s."O", "_ROWTRAIL_REVISION" = s."R" '
    'WHEN NOT MATCHED AND NOT s."GONE" THEN INSERT ("ID", "NOTE", "_ROWTRAIL_EPOCH", '
    '"_ROWTRAIL_POSITION", "_ROWTRAIL_ORDINAL", "_ROWTRAIL_REVISION") '
    'VALUES (s."C0", s."C1", s."E", s."P", s."O", s."R")',
    'INSERT INTO "PUBLIC"."_ROWTRAIL_RECEIPTS" (…)',
    'UPDATE "PUBLIC"."_ROWTRAIL_WATERMARKS" SET loaded_up_to = '
    "coalesce(CAST(? AS TIMESTAMPTZ), loaded_up_to), gaps = (SELECT count(*) FROM "
    '"PUBLIC"."_ROWTRAIL_GAPS" WHERE table_name = ?), updated_at = ? WHERE table_name = ?',
    "COMMIT",
    'REMOVE @"PUBLIC"."_ROWTRAIL_STAGE"/LEDGER/FOLDER/',
]

Said = list[tuple[str, Any]]


@pytest.fixture
def warehouse(snowflake_url: str) -> SnowflakeWarehouse:
    return SnowflakeWarehouse(snowflake_url)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Each statement with what goes beside it."""
    all_of_them: Said = []
    execute, put = Connected._execute, Connected.put

    def executing(work: Connected, sql: str, parameters: Sequence[object]) -> Any:
        all_of_them.append((sql, work._more))
        return execute(work, sql, parameters)

    def putting(work: Connected, name: str, stage: str, data: Any) -> None:
        sql = f"PUT 'file://{name}' {stage} AUTO_COMPRESS=FALSE OVERWRITE=TRUE"
        all_of_them.append((sql, work._more))
        put(work, name, stage, data)

    monkeypatch.setattr(Connected, "_execute", executing)
    monkeypatch.setattr(Connected, "put", putting)
    return all_of_them


def without_names(sql: str) -> str:
    sql = re.sub(r"_ROWTRAIL_STAGING_\w+", "STAGING", sql)
    sql = re.sub(r"/[0-9a-f]{12}/[0-9a-f]{32}", "/LEDGER/FOLDER", sql)
    return re.sub(r'(INSERT INTO "PUBLIC"\."_ROWTRAIL_RECEIPTS") .*', r"\1 (…)", sql)


def test_the_script_of_a_batch(warehouse: SnowflakeWarehouse, said: Said) -> None:
    target = orders(Deletes.HARD)
    warehouse.alter(target)
    first, second = (receipt_of(sequence=number) for number in (1, 2))
    warehouse.write(load_of(target, upsert(1, id=1, note="a"), receipt=first))
    destination = warehouse.open()
    said.clear()
    rows = [upsert(2, id=1, note="b"), delete(2, id=2)]
    try:
        destination.write(load_of(target, *rows, receipt=second))
    finally:
        assert [without_names(sql) for sql, _ in said] == BATCH
        destination.close()
    assert destination.cost.statements > len(BATCH)
    assert destination.cost.staged_bytes > 0


def test_each_statement_of_a_batch_is_tagged(warehouse: SnowflakeWarehouse, said: Said) -> None:
    target = orders()
    warehouse.alter(target)
    assert {more["QUERY_TAG"] for _, more in said} == {"rowtrail;pipeline=shop"}
    destination = warehouse.open()
    said.clear()
    destination.write(load_of(target, upsert(1, id=1, note="a")))
    tags = {more["QUERY_TAG"] for _, more in said}
    destination.close()
    assert tags == {"rowtrail;pipeline=shop;run=run-1;stream=orders"}


@pytest.mark.parametrize("deletes", list(Deletes))
def test_what_is_staged_is_removed(warehouse: SnowflakeWarehouse, deletes: Deletes) -> None:
    """The file after its batch, whatever became of that, and the tables with the destination."""
    target = orders(deletes)
    warehouse.alter(target)
    batch = load_of(target, upsert(1, id=1, note="a"))
    warehouse.write(batch)
    warehouse.write(batch)
    warehouse.write(load_of(target, upsert(2, id=1, note="b")), probe=True)
    warehouse.run("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
    with pytest.raises(RecordError):
        warehouse.write(load_of(target, upsert(3, id=1, note=None)))
    assert warehouse.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"') == []
    tables = warehouse.query("SELECT table_name FROM information_schema.tables")
    assert not [name for (name,) in tables if "STAGING" in name]


@pytest.mark.parametrize("removed", ["0000", ""], ids=["one file", "all files"])
def test_a_staged_file_that_is_gone_is_missed(
    warehouse: SnowflakeWarehouse, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    """COPY takes what is there, be it nothing, for a success."""
    target = orders()
    warehouse.alter(target)
    monkeypatch.setattr(snowflake_staging, "PART_BYTES", 1)
    load = load_of(target, upsert(1, id=1, note="a"), upsert(1, id=2, note="b"))
    put = Connected.put

    def putting(work: Connected, name: str, stage: str, data: Any) -> None:
        put(work, name, stage, data)
        work.run(f"REMOVE {stage}/{removed}")

    with monkeypatch.context() as patched, pytest.raises(TransientError, match="of 2 rows from"):
        patched.setattr(Connected, "put", putting)
        warehouse.write(load)
    assert warehouse.notes() == {}
    assert warehouse.write(load) == [False, False]
    assert warehouse.notes() == {1: "a", 2: "b"}


def test_a_value_that_the_table_refuses_leaves_nothing(warehouse: SnowflakeWarehouse) -> None:
    target = orders()
    warehouse.alter(target)
    warehouse.run("ALTER TABLE orders ALTER COLUMN note SET NOT NULL")
    destination = warehouse.open()
    try:
        with pytest.raises(RecordError) as caught:
            destination.write(load_of(target, upsert(1, id=1, note="a"), upsert(1, id=2)))
        assert caught.value.column == "NOTE"
        destination.write(load_of(target, upsert(1, id=1, note="a")))
    finally:
        destination.close()
    assert warehouse.notes() == {1: "a"}


def test_a_session_that_is_gone_is_opened_anew(warehouse: SnowflakeWarehouse) -> None:
    target = orders()
    warehouse.alter(target)
    destination = warehouse.open()
    try:
        destination.write(load_of(target, upsert(1, id=1, note="a")))
        assert destination._connection is not None
        destination._connection.close()
        destination.write(load_of(target, upsert(1, id=2, note="b")))
    finally:
        destination.close()
    assert warehouse.notes() == {1: "a", 2: "b"}


def test_what_a_killed_writer_has_left_is_gone_with_the_next_claim(
    warehouse: SnowflakeWarehouse,
) -> None:
    """But not what writers of other pipelines are at work with."""
    target = orders()
    warehouse.alter(target)
    pipelines = [FENCE, replace(FENCE, pipeline="other", ledger_id="ledger-2")]
    for fence in pipelines:
        destination = warehouse.open(fence)
        load = load_of(target, upsert(1, id=1, note="a"))
        with destination._reading("stop in the midst of it") as work:
            make_table(work, destination._staging(), load)
            put(work, destination._new_folder(), load, NOW)
        destination._let_go()
    assert len(left(warehouse)) == 4
    with closing(warehouse.open()):
        assert len(left(warehouse)) == 2
    with closing(warehouse.open(pipelines[1])):
        assert left(warehouse) == []


def left(warehouse: SnowflakeWarehouse) -> list[str]:
    """Files in the stage, and staging tables."""
    files = [row[0] for row in warehouse.query('LIST @"PUBLIC"."_ROWTRAIL_STAGE"')]
    tables = warehouse.query("SELECT table_name FROM information_schema.tables")
    return [*files, *(name for (name,) in tables if "STAGING" in name)]


def test_a_large_batch_goes_as_several_files(
    warehouse: SnowflakeWarehouse, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = orders()
    warehouse.alter(target)
    monkeypatch.setattr(snowflake_staging, "PART_BYTES", 150)
    rows = [upsert(1, id=number, note=f"note {number}") for number in range(10)]
    warehouse.write(load_of(target, *rows))
    files = [sql for sql, _ in said if sql.startswith("PUT ")]
    assert [sql.split("'")[1] for sql in files] == [
        f"file://{number:04}.parquet" for number in range(len(files))
    ]
    assert 2 < len(files) < 10
    assert warehouse.notes() == {number: f"note {number}" for number in range(10)}


def test_two_uploads_at_most_are_kept_and_none_in_the_end(warehouse: SnowflakeWarehouse) -> None:
    target = orders()
    warehouse.alter(target)
    loads = [load_of(target, upsert(n, id=n, note=f"{n}")) for n in range(1, 5)]
    destination = warehouse.open()
    for load in loads[:3]:
        destination.upload(load, "run-1")
    assert len(left(warehouse)) == 2
    destination.write(loads[2])  # from what was uploaded last: what came before it was not needed
    destination.upload(loads[3], "run-1")
    assert len([file for file in left(warehouse) if ".parquet" in file]) == 1
    destination.close()
    assert left(warehouse) == []
    assert warehouse.notes() == {3: "3"}
