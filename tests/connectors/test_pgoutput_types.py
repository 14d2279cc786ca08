"""Values of each type, by way of the log and as the driver gives them: they must be the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from rowtrail.connectors.capture.pgoutput_scan import LogScan
from rowtrail.connectors.capture.pgoutput_tuples import decode
from rowtrail.connectors.capture.postgres_text import cast_text
from tests.connectors.pgoutput_database import Database

TYPES: list[tuple[str, pa.DataType, list[str]]] = [
    ("bool", pa.bool_(), ["true", "false"]),
    ("int2", pa.int16(), ["-32768", "32767", "0"]),
    ("int4", pa.int32(), ["-2147483648", "2147483647"]),
    ("int8", pa.int64(), ["-9223372036854775808", "9223372036854775807"]),
    ("oid", pa.int64(), ["0", "4294967295"]),
    ("float4", pa.float32(), ["0.1", "-0", "1e-45", "3.4028235e38", "Infinity", "-Infinity"]),
    ("float8", pa.float64(), ["0.1", "-0", "5e-324", "1.7976931348623157e308", "-Infinity"]),
    ("numeric(12, 2)", pa.decimal128(12, 2), ["9999999999.99", "-0.01", "0", "1.5"]),
    ("numeric(38, 10)", pa.decimal128(38, 10), ["9999999999999999999999999999.9999999999", "-1"]),
    ("numeric", pa.decimal128(38, 10), ["12345.678", "1e27", "-0.0000000001"]),
    ("date", pa.date32(), ["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"]),
    ("time", pa.time64("us"), ["00:00", "23:59:59.999999", "12:34:56.7"]),
    ("timestamp", pa.timestamp("us"), ["0001-01-01 00:00", "2024-02-29 12:34:56.000001"]),
    ("timestamptz", pa.timestamp("us", tz="UTC"), ["9999-12-31 12:00+05:30", "1960-01-01 00:00"]),
    ("bytea", pa.binary(), [r"\x", r"\x00ff", "abc"]),
    ("text", pa.string(), ["", "ä\n\t", "𝄞", "NULL", "\\"]),
    ("bpchar(4)", pa.string(), ["a", "abcd"]),
]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize(("kind", "data_type", "values"), TYPES, ids=[row[0] for row in TYPES])
def test_the_log_and_the_driver_agree(
    database: Database, kind: str, data_type: pa.DataType, values: list[str]
) -> None:
    database.run(f"CREATE TABLE t (a int PRIMARY KEY, v {kind})")
    database.start("FOR TABLE t")
    with database.connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO t VALUES (%s, %s::text::{kind})".encode(),
            [*enumerate(values), (len(values), None)],
        )
    column = decoded(database)
    array, bad = cast_text(column, data_type, kind.partition("(")[0])
    assert bad is None
    given = [value for (value,) in database.rows("SELECT v FROM t ORDER BY a")]
    if kind == "float4":  # the driver makes it the float of its text
        given = [None if value is None else float(np.float32(str(value))) for value in given]
    assert array.to_pylist() == given
    if pa.types.is_floating(data_type):  # -0.0 equals 0.0
        assert list(map(repr, array.to_pylist())) == list(map(repr, given))


@pytest.mark.parametrize(
    "kind", ["uuid", "jsonb", "int[]", "interval", "inet", "xml", "int4range", "timetz", "mood"]
)
def test_other_types_are_the_text_that_a_read_gives(database: Database, kind: str) -> None:
    values = {
        "uuid": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "jsonb": '{"b": [1, null], "a": "ä"}',
        "int[]": "{1,NULL,3}",
        "interval": "1 year 2 days 3.5 seconds",
        "inet": "1.2.3.4",
        "xml": '<?xml version="1.0"?><a/>',
        "int4range": "[1,5]",
        "timetz": "12:00+02",
        "mood": "sad",
    }
    database.run(
        "CREATE TYPE mood AS ENUM ('sad')", f"CREATE TABLE t (a int PRIMARY KEY, v {kind})"
    )
    database.start("FOR TABLE t")
    database.connection.execute(
        f"INSERT INTO t VALUES (1, %s::text::{kind})".encode(), [values[kind]]
    )
    [(text,)] = database.rows("SELECT format('%s', v) FROM t")
    assert decoded(database).to_pylist() == [text]


def decoded(database: Database) -> pa.Array:
    """The values of column v in the log."""
    scan = LogScan()
    found = []
    for batch in database.batches():
        scanned = scan.scan(batch)
        rows = batch.filter(pa.array(scanned.layouts == 0))
        found.append(decode(scan.layouts[0], rows).new["v"].values)
    return pa.concat_arrays(found)
