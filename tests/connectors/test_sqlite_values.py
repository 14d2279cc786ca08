"""SQLite's dynamic typing: what fits a column's declaration, and what is held back by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, ReadState, StreamSpec
from rowtrail.connectors.changes import Changes, Operation, Rejected
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.type_names import KNOWN
from tests.connectors.follower import DictKnown, Follower, reported
from tests.connectors.sqlite_database import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    with closing(SqliteDatabase(tmp_path / "source.db")) as database:
        yield database


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.SNAPSHOT, **settings}
    return StreamSpec(**chosen)


def values_of(
    database: SqliteDatabase, declared: str, literals: list[str], as_type: str | None = None
) -> tuple[pa.DataType, list[Any], dict[int, Rejected]]:
    """The type of a column declared so, its values that fit, and the rows that do not, by row."""
    database.run(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})",
        *(f"INSERT INTO t VALUES ({n}, {literal})" for n, literal in enumerate(literals)),
    )
    chosen = stream(types={"v": as_type} if as_type else {})
    follower = Follower(chosen)
    with database.source() as source:
        follower.read(source)
        data_type = source.describe(chosen).column("v").type
    fitting = [row["v"] for row in follower.live().values()]
    return data_type, fitting, {key[0]: rejected for key, rejected in follower.rejected.items()}


TOP = 2**63 - 1
CASES = [
    # declared, as type, Arrow type, literals that fit with their values, literals that do not
    (
        "INTEGER",
        None,
        pa.int64(),
        {"NULL": None, "-9223372036854775808": -TOP - 1, f"{TOP}": TOP, "'12'": 12, "3.0": 3},
        ["1.5", "'x'", "''", "x'00'", "9e99"],
    ),
    ("UNSIGNED BIG INT", None, pa.int64(), {"7": 7}, ["18446744073709551615"]),
    ("INT", "int16", pa.int16(), {"-32768": -32768, "32767": 32767}, ["32768", "-32769", "'a'"]),
    (
        "VARCHAR(3)",
        None,
        pa.string(),
        {"'é😀 '": "é😀 ", "12": "12", "''": "", "NULL": None, "'a' || char(0) || 'b'": "a\0b"},
        ["x'6162'", "CAST(x'ff' AS TEXT)", "CAST(x'61ff62' AS TEXT)", "CAST(x'eda080' AS TEXT)"],
    ),
    (
        "DOUBLE PRECISION",
        None,
        pa.float64(),
        {"1": 1.0, "0.1": 0.1, "9e999": float("inf"), "-9e999": -float("inf"), "NULL": None},
        ["'x'", "x'00'"],
    ),
    (
        "NUMERIC",
        None,
        pa.float64(),
        {"9007199254740992": 2.0**53, "1.5": 1.5, "'2.5'": 2.5},
        ["9007199254740993", f"{TOP}", "'x'"],
    ),
    ("REAL", "float32", pa.float32(), {"0.5": 0.5, "NULL": None}, ["0.1", "1e300", "'x'"]),
    ("BLOB", None, pa.binary(), {"x'00ff'": b"\x00\xff", "x''": b"", "NULL": None}, ["'a'", "1"]),
    ("BOOLEAN", None, pa.bool_(), {"0": False, "1": True, "NULL": None}, ["2", "-1", "'true'"]),
    (
        "DATE",
        None,
        pa.date32(),
        {"'2024-02-29'": date(2024, 2, 29), "'9999-12-31'": date.max, "'0001-01-01'": date.min},
        ["'2024-02-30'", "'0000-01-01'", "'2024-2-3'", "'2024-01-01 00:00:00'", "19000", "''"],
    ),
    (
        "DATETIME",
        None,
        pa.timestamp("us"),
        {
            "'2024-01-31 10:00:00'": datetime(2024, 1, 31, 10),
            "'2024-01-31T10:00:00.123456'": datetime(2024, 1, 31, 10, 0, 0, 123456),
            "'2024-01-31 10:00:00.5'": datetime(2024, 1, 31, 10, 0, 0, 500000),
            "'2024-01-31'": datetime(2024, 1, 31),
        },
        ["1706695200", "2460340.9", "'2024-01-31 10:00:00.1234567'", "'now'", "x'00'"],
    ),
    (
        "TIMESTAMP WITH TIME ZONE",
        None,
        pa.timestamp("us", tz="UTC"),
        {
            "'2024-01-31 10:00:00+02:00'": datetime(2024, 1, 31, 8, tzinfo=UTC),
            "'2024-01-31T10:00:00Z'": datetime(2024, 1, 31, 10, tzinfo=UTC),
        },
        ["'2024-01-31 10:00:00'", "5"],
    ),
    (
        "TIME",
        None,
        pa.time64("us"),
        {"'10:20:30'": time(10, 20, 30), "'23:59:59.5'": time(23, 59, 59, 500000), "NULL": None},
        ["'25:00:00'", "3600", "CAST(x'ff' AS TEXT)"],
    ),
    (
        "DECIMAL(10, 2)",
        None,
        pa.decimal128(10, 2),
        {
            "19.99": Decimal("19.99"),
            "5": Decimal("5.00"),
            "'7.10'": Decimal("7.10"),
            "-0.01": Decimal("-0.01"),
            "99999999.99": Decimal("99999999.99"),
            "NULL": None,
        },
        ["0.001", "100000000", "0.1 + 0.2", "9e999", "'x'", "x'31'"],
    ),
    (
        "NUMERIC(20)",
        None,
        pa.decimal128(20, 0),
        {f"{TOP}": Decimal(TOP), "9007199254740993": Decimal(2**53 + 1), "1e18": Decimal(10**18)},
        ["1.5"],
    ),
    (
        "TEXT",
        "decimal(20,3)",
        pa.decimal128(20, 3),
        {"'12345678901234567.125'": Decimal("12345678901234567.125"), "'1'": Decimal("1.000")},
        ["'1.0001'", "'one'", "x'31'"],
    ),
    (
        "INTEGER_OR_TEXT",
        "text",
        pa.string(),
        {
            "9001": "9001",
            "'9001'": "9001",
            "'x1'": "x1",
            "1.5": "1.5",
            "1e300": "1.0e+300",
            "9e999": "9.0e+999",
            "NULL": None,
        },
        ["x'00'", "CAST(x'ff' AS TEXT)"],
    ),
    ("", "text", pa.string(), {"'1'": "1"}, ["1", "1.5", "x'00'"]),
]


@pytest.mark.parametrize(
    ("declared", "as_type", "wanted", "fits", "rejects"),
    CASES,
    ids=[f"{case[0]} as {case[1]}" if case[1] else case[0] for case in CASES],
)
def test_what_fits_and_what_does_not(
    database: SqliteDatabase,
    declared: str,
    as_type: str | None,
    wanted: pa.DataType,
    fits: dict[str, Any],
    rejects: list[str],
) -> None:
    literals = [*rejects, *fits]
    data_type, values, rejected = values_of(database, declared, literals, as_type)
    assert data_type == wanted
    assert values == list(fits.values())
    assert sorted(rejected) == list(range(len(rejects)))
    for misfit in rejected.values():
        assert misfit.column == "v"
        assert "Column v" in misfit.message
        assert misfit.image.num_rows == 1
        assert misfit.image.schema.names == ["id", "v"]


def test_every_double_survives_as_text(database: SqliteDatabase) -> None:
    """The rendering of reals tells all of them apart, neighbours too."""
    doubles = [0.1, 0.1 + 2**-56, 1 / 3, 5e-324, 1.7976931348623157e308, 123456789.123456789, 1e22]
    assert len(set(doubles)) == len(doubles)
    literals = [repr(double) for double in doubles]
    _, values, rejected = values_of(database, "NUMERIC", literals, "text")
    assert rejected == {}
    assert [float(value) for value in values] == doubles


def test_a_misfit_holds_the_raw_row(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, r REAL, s TEXT, b BLOB, d DATE)",
        "INSERT INTO t VALUES (1, 'bad', 0.1, CAST(x'ff' AS TEXT), x'00', NULL)",
    )
    rejected = only_rejected(database, stream())
    assert (rejected.key, rejected.column, rejected.operation) == ((1,), "n", Operation.UPDATE)
    assert rejected.image.to_pylist() == [
        {"id": 1, "n": "bad", "r": 0.1, "s": b"\xff", "b": b"\x00", "d": None}
    ]
    assert "bad" not in rejected.message
    assert "text" in rejected.message


def test_a_time_with_a_zone_says_which_type_takes_it(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME)",
        "INSERT INTO t VALUES (1, '2024-01-31T10:00:00Z')",
    )
    message = only_rejected(database, stream()).message
    assert 'types."at" = "timestamptz"' in message
    assert '"text"' in message


def test_one_misfit_does_not_cost_its_page(database: SqliteDatabase) -> None:
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
    database.run(*(f"INSERT INTO t VALUES ({n}, {n})" for n in range(1, 100)))
    database.run("UPDATE t SET n = 'x' WHERE id IN (7, 50)")
    follower = Follower(stream(batch_rows=40))
    with database.source() as source:
        follower.read(source)
        assert sorted(follower.rejected) == [(7,), (50,)]
        assert len(follower.live()) == 97
        # Held back and not changed since: not reported again.
        again = follower.read(source)
    assert [item.rejected for item in again] == [()] * len(again)
    database.run("UPDATE t SET n = 'y' WHERE id = 7", "UPDATE t SET n = 5 WHERE id = 50")
    with database.source() as source:
        follower.read(source)
    assert follower.rejected[(7,)].image.to_pylist() == [{"id": 7, "n": "y"}]
    assert follower.live()[(50,)] == {"id": 50, "n": 5}
    database.run("DELETE FROM t WHERE id = 7")
    with database.source() as source:
        follower.read(source)
    assert follower.rejected == {}


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
def test_a_null_in_the_key_is_held_back_by_name(database: SqliteDatabase, capture: Capture) -> None:
    database.run(
        "CREATE TABLE t (a TEXT, b INTEGER, seen INTEGER, PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES (NULL, NULL, 1), ('x', NULL, 2), ('x', 1, 3), (NULL, 2, 4)",
    )
    chosen = stream(capture=capture, cursor="seen", batch_rows=2)
    with database.source() as source:
        if capture is Capture.TRIGGER:
            source.execute(source.capture_plan([chosen]))
        problems = source.preflight([chosen])
        follower = Follower(chosen)
        items = follower.read(source)
    assert follower.live() == {("x", 1): {"a": "x", "b": 1, "seen": 3}}
    rejected = [found for item in items for found in item.rejected]
    assert {(found.key, found.column) for found in rejected} == {
        ((None, None), "a"),
        (("x", None), "b"),
        ((None, 2), "a"),
    }
    assert len(rejected) == 3
    assert all("is NULL" in found.message for found in rejected)
    assert any("3 rows" in problem.message and not problem.fatal for problem in problems)


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
def test_keys_of_other_storage_classes(database: SqliteDatabase, capture: Capture) -> None:
    """Without an INTEGER PRIMARY KEY a key column holds anything; pages go across all of it."""
    database.run(
        "CREATE TABLE t (k INT PRIMARY KEY, seen INTEGER) WITHOUT ROWID",
        "INSERT INTO t VALUES (1, 1), (2.5, 1), (3, 1), ('a', 1), ('b', 1), (x'00', 1), (9, 1), "
        "(CAST(x'ff' AS TEXT), 1), (CAST(x'fe' AS TEXT), 1)",
    )
    chosen = stream(capture=capture, cursor="seen", batch_rows=1)
    with database.source() as source:
        if capture is Capture.TRIGGER:
            source.execute(source.capture_plan([chosen]))
        follower = Follower(chosen)
        follower.read(source)
    assert sorted(follower.live()) == [(1,), (3,), (9,)]
    assert set(follower.rejected) == {
        (2.5,), ("a",), ("b",), (b"\x00",), (b"\xff",), (b"\xfe",)
    }  # fmt: skip
    database.run("DELETE FROM t WHERE k = 3")
    with database.source() as source:
        follower.read(source)
    assert sorted(follower.live()) == [(1,), (9,)]


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR])
def test_a_page_of_which_no_key_fits_deletes_nothing(
    database: SqliteDatabase, capture: Capture
) -> None:
    """Text sorts before blobs."""
    database.run(
        "CREATE TABLE t (k BLOB PRIMARY KEY, seen INTEGER) WITHOUT ROWID",
        "INSERT INTO t VALUES ('a', 1), ('b', 1), (x'01', 1), (x'02', 1)",
    )
    follower = Follower(stream(capture=capture, cursor="seen", batch_rows=1))
    with database.source() as source:
        follower.read(source)
        assert sorted(follower.live()) == [(b"\x01",), (b"\x02",)]
        assert reported(follower.read(source)) == []


KEYS = [
    ("INTEGER_OR_TEXT", "text", ["9", "10", "'a'", "'B'", "1.5", "-3"]),
    ("TEXT COLLATE NOCASE", None, ["'b'", "'A'", "'C'", "'é'"]),
    ("DATE", None, ["'2024-01-02'", "'1999-12-31'", "'9999-12-31'"]),
    ("TIMESTAMP", None, ["'2024-01-02 00:00:00'", "'2024-01-02 00:00:00.500000'"]),
    ("DECIMAL(10,2)", None, ["10", "9.99", "-1.5", "100"]),
    ("BOOLEAN", None, ["1", "0"]),
    ("REAL", None, ["0.1", "-1e300", "5"]),
    ("BLOB", None, ["x'ff'", "x'00'", "x''"]),
    ("NUMERIC(30)", None, ["9007199254740993", "9007199254740992", "1"]),
]


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
@pytest.mark.parametrize(("declared", "as_type", "literals"), KEYS, ids=[case[0] for case in KEYS])
def test_keys_of_every_type(
    database: SqliteDatabase,
    capture: Capture,
    declared: str,
    as_type: str | None,
    literals: list[str],
) -> None:
    """Paged, fetched, deleted and inserted again."""
    database.run(
        f"CREATE TABLE t (k {declared} PRIMARY KEY NOT NULL, seen INTEGER)",
        *(f"INSERT INTO t VALUES ({literal}, 1)" for literal in literals),
    )
    chosen = stream(
        capture=capture, cursor="seen", batch_rows=1, types={"k": as_type} if as_type else {}
    )
    with database.source() as source:
        if capture is Capture.TRIGGER:
            source.execute(source.capture_plan([chosen]))
        follower = Follower(chosen)
        follower.read(source)
        assert len(follower.live()) == len(literals)
        keys = pa.table(
            {
                "k": pa.array(
                    [key for (key,) in follower.live()], source.describe(chosen).column("k").type
                )
            }
        ).to_batches()[0]
        fetched = source.fetch(chosen, keys, follower.state(source))
        assert fetched.operations.to_pylist() == [Operation.UPDATE] * len(literals)
        assert fetched.keys() == keys
    database.run(f"DELETE FROM t WHERE k = {literals[0]}")
    with database.source() as source:
        follower.read(source)
        assert len(follower.live()) == len(literals) - 1
    database.run(f"INSERT INTO t VALUES ({literals[0]}, 2)")
    with database.source() as source:
        follower.read(source)
    assert len(follower.live()) == len(literals)
    assert follower.rejected == {}


def test_a_changed_case_of_a_key_without_case(database: SqliteDatabase) -> None:
    """For the source it is the same key, for the target another one."""
    database.run(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v TEXT) WITHOUT ROWID",
        "INSERT INTO t VALUES ('a', 'x'), ('b', 'y')",
    )
    chosen = stream(capture=Capture.TRIGGER)
    with database.source() as source:
        source.execute(source.capture_plan([chosen]))
        follower = Follower(chosen)
        follower.read(source)
    database.run("UPDATE t SET k = 'A' WHERE k = 'a'", "INSERT OR REPLACE INTO t VALUES ('B', 'z')")
    with database.source() as source:
        follower.read(source)
    assert sorted(follower.live()) == [("A",), ("B",)]


@pytest.mark.parametrize(
    ("declared", "types", "words"),
    [
        ("", {}, ["t.v", "no declared type", 'types."v"']),
        ("INTEGER_OR_TEXT", {}, ["t.v", "INTEGER_OR_TEXT", 'types."INTEGER_OR_TEXT"']),
        ("DECIMAL(40,2)", {}, ["t.v", "DECIMAL(40,2)"]),
        ("TEXT", {"v": "strange"}, ["t.v", "strange", "int64"]),
        ("BLOB", {"v": "decimal(99,2)"}, ["t.v", "decimal(99,2)", "not a type"]),
    ],
)
def test_a_type_that_says_too_little(
    database: SqliteDatabase, declared: str, types: dict[str, str], words: list[str]
) -> None:
    database.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})")
    with database.source() as source, pytest.raises(ConfigurationError) as caught:
        source.describe(stream(types=types))
    assert all(word in str(caught.value) for word in words)


NAMES = tuple(name.replace("P,S", "9,3") for name in KNOWN)
SAMPLES = [
    *("0", "1", "1.5", "9.25", "'x'", "x'00'", "'12.5'"),
    *("'2024-01-31'", "'10:00:00'", "'2024-01-31 10:00:00'", "'2024-01-31 10:00:00Z'"),
]
"""Of these some fit each type that the column can be read as."""


@pytest.mark.parametrize(
    ("declared", "strict"),
    [
        *((word, False) for word in ("INTEGER", "NUMERIC", "REAL", "TEXT", "BLOB", "DATE")),
        *((word, True) for word in ("INT", "REAL", "TEXT", "BLOB", "ANY")),
    ],
)
def test_what_a_column_cannot_be_read_as_is_refused(
    database: SqliteDatabase, declared: str, strict: bool
) -> None:
    """Refused before the run is what no value could be read as; of all else some value is."""
    strictly = "STRICT" if strict else ""
    database.run(f"CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared}) {strictly}")
    for sample in SAMPLES:
        with suppress(sqlite3.IntegrityError):
            database.run(f"INSERT INTO t (v) VALUES ({sample})")
    refused = set()
    for name in NAMES:
        chosen = stream(types={"v": name})
        follower = Follower(chosen)
        with database.source() as source:
            try:
                source.describe(chosen)
            except ConfigurationError as error:
                refused.add(name)
                assert f"t.v is declared {declared}, which cannot be read as {name}" in str(error)
                assert 'types."v"' in str(error)
                assert [one.message for one in source.preflight([chosen])] == [str(error)]
                continue
            follower.read(source)
        assert any(row["v"] is not None for row in follower.live().values()), name
    numbers = {"boolean", "int16", "int32", "int64", "float32", "float64", "decimal(9,3)"}
    times = {"date", "time", "timestamp", "timestamptz"}
    whole = {"boolean", "int16", "int32", "int64"}
    expected = {
        "INT": times | {"blob"},
        "REAL": whole | (times | {"blob"} if strict else set()),
        "TEXT": numbers - {"decimal(9,3)"} | ({"blob"} if strict else set()),
        "BLOB": numbers | times | ({"text"} if strict else set()),
    }
    assert refused == expected.get(declared, set())


def test_a_view_may_bring_what_its_first_part_would_not(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE a (id INTEGER, v TEXT)",
        "CREATE TABLE b (id INTEGER, v INTEGER)",
        "INSERT INTO b VALUES (1, 7)",
        "CREATE VIEW t AS SELECT * FROM a UNION ALL SELECT * FROM b",
    )
    chosen = stream(key=("id",), types={"v": "int64"})
    follower = Follower(chosen)
    with database.source() as source:
        follower.read(source)
    assert [row["v"] for row in follower.live().values()] == [7]


def test_types_by_column_and_by_declared_type(database: SqliteDatabase) -> None:
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, a INT_OR_TEXT, B int_or_text, c MONEY)")
    types = {"Int_Or_Text": "text", "b": "int64", "money": "decimal(12,4)"}
    with database.source() as source:
        schema = source.describe(stream(types=types))
    assert [column.type for column in schema.columns] == [
        pa.int64(),
        pa.string(),
        pa.int64(),
        pa.decimal128(12, 4),
    ]


@pytest.mark.parametrize(
    ("declared", "types"),
    [("TIMESTAMPTZ", {}), ("TIME", {}), ("TEXT", {"k": "decimal(5,2)"})],
)
def test_a_key_that_does_not_sort(
    database: SqliteDatabase, declared: str, types: dict[str, str]
) -> None:
    database.run(f"CREATE TABLE t (k {declared} PRIMARY KEY, v TEXT)")
    with (
        database.source() as source,
        pytest.raises(ConfigurationError, match=r't\.k .*types\."k" = "text"'),
    ):
        source.describe(stream(types=types))


def test_text_keys_of_a_database_in_utf_16(database: SqliteDatabase) -> None:
    database.path.unlink()
    database.run("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER)")
    database.run(
        "CREATE TABLE u (k INTEGER PRIMARY KEY, s TEXT)", "INSERT INTO u VALUES (1, 'é😀')"
    )
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="UTF-16le"):
            source.describe(stream())
        follower = Follower(stream(table="u"))
        follower.read(source)
    assert follower.live() == {(1,): {"k": 1, "s": "é😀"}}


def test_a_column_with_a_name_of_ours_is_refused(database: SqliteDatabase) -> None:
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, _Rowtrail_x TEXT)")
    with database.source() as source:
        with pytest.raises(ConfigurationError, match="_Rowtrail_x"):
            source.describe(stream())
        assert source.describe(stream(exclude=("_rowtrail_x",))).names == ("id",)


def test_generated_columns_are_read_like_others(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, double INTEGER AS (n * 2), "
        "kept TEXT AS ('n' || n) STORED)",
        "INSERT INTO t (id, n) VALUES (1, 21)",
    )
    follower = Follower(stream())
    with database.source() as source:
        follower.read(source)
    assert follower.live() == {(1,): {"id": 1, "n": 21, "double": 42, "kept": "n21"}}


def test_a_table_of_many_columns_and_of_only_nulls(database: SqliteDatabase) -> None:
    kinds = ["INTEGER", "TEXT", "REAL", "BLOB", "DATE", "DATETIME", "DECIMAL(9,3)", "BOOLEAN"]
    columns = [f"c{n} {kinds[n % len(kinds)]}" for n in range(300)]
    database.run(
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, {', '.join(columns)})",
        "INSERT INTO t (id) VALUES (1), (2)",
        "INSERT INTO t (id, c299) VALUES (3, 3.5)",
    )
    follower = Follower(stream())
    with database.source() as source:
        follower.read(source)
    assert {value for n in (1, 2) for value in list(follower.live()[(n,)].values())[1:]} == {None}
    assert sorted(follower.rejected) == [] or follower.rejected[(3,)].column == "c299"


def test_views_with_a_key(database: SqliteDatabase) -> None:
    database.run(
        "CREATE TABLE base (id INTEGER PRIMARY KEY, n INTEGER)",
        "INSERT INTO base VALUES (1, 10), (2, 20), (3, 30)",
        "CREATE VIEW t AS SELECT id, n FROM base WHERE n > 10",
    )
    with database.source() as source:
        assert source.tables() == ["base", "t"]
        with pytest.raises(ConfigurationError, match="no primary key"):
            source.describe(stream())
        with pytest.raises(ConfigurationError, match="view"):
            source.describe(stream(capture=Capture.TRIGGER, key=("id",)))
        follower = Follower(stream(key=("id",), batch_rows=1))
        follower.read(source)
    assert sorted(follower.live()) == [(2,), (3,)]


def only_rejected(database: SqliteDatabase, chosen: StreamSpec) -> Rejected:
    with database.source() as source:
        known = DictKnown(Follower(chosen), source.describe(chosen).arrow_key())
        state = ReadState(epoch=1, position=None, read_number=1, known=known)
        items: list[Changes] = list(source.read(chosen, state))
    (found,) = [rejected for item in items for rejected in item.rejected]
    return found
