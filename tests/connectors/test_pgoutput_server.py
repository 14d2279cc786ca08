"""The reader of pgoutput on what a real server writes, compared with the server's own tables."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from tests.connectors.pgoutput_database import Database, encoded
from tests.connectors.pgoutput_reference import UNCHANGED, Change, Value


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    try:
        yield opened
    finally:
        opened.close()


def applied(changes: list[Change], keys: int) -> dict[tuple[Value, ...], list[Value]]:
    """The table that the changes lead to; its first `keys` columns are the key."""
    table: dict[tuple[Value, ...], list[Value]] = {}
    for change in changes:
        before: list[Value] | None = None
        if change.old is not None:
            before = table.pop(tuple(change.old[:keys]))
        elif change.kind == "U":
            assert change.new is not None
            before = table.pop(tuple(change.new[:keys]))
        if change.new is not None:
            row = list(change.new)
            for number, value in enumerate(row):
                if value is UNCHANGED:
                    assert before is not None
                    row[number] = before[number]
            assert tuple(row[:keys]) not in table
            table[tuple(row[:keys])] = row
    return table


def current(database: Database, table: str, keys: int) -> dict[tuple[object, ...], list[object]]:
    columns = database.rows(f"SELECT * FROM {table} LIMIT 0") or [
        (name,)
        for (name,) in database.rows(
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass "
            f"AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
    ]
    names = ", ".join(f"format('%s', {name})" for (name,) in columns)
    nulls = ", ".join(f"{name} IS NULL" for (name,) in columns)
    found = {}
    for row in database.rows(f"SELECT {names}, {nulls} FROM {table}"):
        half = len(row) // 2
        cells = [
            None if null else value for value, null in zip(row[:half], row[half:], strict=True)
        ]
        found[tuple(cells[:keys])] = cells
    return found


TABLE = (
    "CREATE TABLE t (a int NOT NULL, b text NOT NULL, n numeric(12, 2), long text, "
    "at timestamptz DEFAULT now(), PRIMARY KEY (a, b))"
)
LONG = "(SELECT string_agg(md5(i::text || {0}), '') FROM generate_series(1, 200) i)"


def work(database: Database, seed: int) -> None:
    """Some hundred changes of every kind, savepoints and key changes among them."""
    random.seed(seed)
    cursor = database.connection
    for _ in range(60):
        with cursor.transaction():
            for _ in range(random.randint(1, 8)):
                a = random.randint(1, 12)
                where = f"WHERE a = {a}"
                statement = random.choice(
                    [
                        f"INSERT INTO t VALUES ({a}, 'x', {a}.5, {LONG.format(a)}) "
                        f"ON CONFLICT DO NOTHING",
                        f"INSERT INTO t VALUES ({a}, 'ä', NULL, '') ON CONFLICT DO NOTHING",
                        f"UPDATE t SET n = n + 1 {where}",
                        f"UPDATE t SET long = {LONG.format(random.random())} {where}",
                        f"UPDATE t SET long = NULL {where}",
                        f"UPDATE t SET b = b || 'y' {where}",
                        f"DELETE FROM t {where}",
                    ]
                )
                try:
                    with cursor.transaction():
                        cursor.execute(statement.encode())
                        if random.random() < 0.2:
                            raise psycopg.Rollback
                except psycopg.errors.UniqueViolation:
                    pass


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX other"])
def test_changes_lead_to_the_table_itself(database: Database, identity: str) -> None:
    database.run(TABLE, "CREATE UNIQUE INDEX other ON t (b, a)")
    database.run(f"ALTER TABLE t REPLICA IDENTITY {identity}")
    database.start("FOR TABLE t")
    work(database, seed=len(identity))
    log = database.log()
    assert {change.kind for change in log.changes} == {"I", "U", "D"}
    assert applied(log.changes, 2) == current(database, "t", 2)
    unknown = [value is UNCHANGED for change in log.changes for value in change.new or []]
    assert any(unknown) == (identity != "FULL")
    kinds = {change.old_kind for change in log.changes if change.kind == "U"}
    assert kinds == ({"O"} if identity == "FULL" else {"", "K"})
    assert log.relations[0][3] == {"D": "d", "F": "f", "U": "i"}[identity[0]]


def test_identity_nothing_tells_inserts(database: Database) -> None:
    database.run(TABLE, "ALTER TABLE t REPLICA IDENTITY NOTHING")
    database.start("FOR TABLE t")
    database.run("INSERT INTO t (a, b) SELECT i, 'x' FROM generate_series(1, 5) i")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        database.run("UPDATE t SET n = 1")
    log = database.log()
    assert applied(log.changes, 2) == current(database, "t", 2)
    assert log.relations[0][3] == "n"


def test_commits_and_ordinals_are_the_servers(database: Database) -> None:
    database.run(TABLE)
    database.start("FOR TABLE t")
    with database.connection.transaction():
        database.run("INSERT INTO t (a, b) SELECT i, '' FROM generate_series(1, 3) i")
        [(xid,)] = database.rows("SELECT pg_current_xact_id()::text::bigint & 4294967295")
        database.run("TRUNCATE t", "INSERT INTO t VALUES (9, '')")
        [(time,)] = database.rows("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    log = database.log()
    assert [change.ordinal for change in log.changes] == [1, 2, 3, 5]
    assert log.truncations[0][3] == 4
    [(lsn, end, found, committed)] = log.commits
    assert found == xid
    assert all(change.commit == (lsn, xid, committed) for change in log.changes)
    assert isinstance(time, int)
    assert 0 <= committed - time < 60_000_000
    [(upto,)] = database.rows("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    assert lsn < end <= int(str(upto))


def test_copy_of_many_rows(database: Database) -> None:
    database.run("CREATE TABLE t (a int PRIMARY KEY, b text)")
    database.start("FOR TABLE t")
    with database.connection.cursor().copy("COPY t FROM STDIN") as copy:
        for number in range(10_000):
            copy.write_row((number, None if number % 3 == 0 else "é" * (number % 5)))
    database.run("UPDATE t SET b = 'x' WHERE a % 2 = 0", "DELETE FROM t WHERE a % 7 = 0")
    log = database.log()
    assert [change.ordinal for change in log.changes[:10_000]] == list(range(1, 10_001))
    assert applied(log.changes, 1) == current(database, "t", 1)


def test_truncates_name_all_their_tables(database: Database) -> None:
    database.run(
        "CREATE TABLE one (a serial PRIMARY KEY)",
        "CREATE TABLE two (a int PRIMARY KEY REFERENCES one)",
        "CREATE TABLE hidden (a int PRIMARY KEY)",
    )
    database.start("FOR TABLE one, two")
    database.run("TRUNCATE two", "TRUNCATE one, hidden RESTART IDENTITY CASCADE")
    log = database.log()
    oids = {str(table): oid for oid, _, table, *_ in log.relations}
    assert [(oids_, options) for oids_, options, *_ in log.truncations] == [
        ((oids["two"],), 0),
        ((oids["one"], oids["two"]), 3),
    ]


def test_the_layout_changes_mid_stream_and_mid_transaction(database: Database) -> None:
    database.run("CREATE TYPE mood AS ENUM ('sad', 'glad')", "CREATE TABLE t (a int PRIMARY KEY)")
    database.start("FOR TABLE t")
    database.run("INSERT INTO t VALUES (1)")
    with database.connection.transaction():
        database.run("INSERT INTO t VALUES (2)")
        database.run("ALTER TABLE t ADD COLUMN m mood DEFAULT 'sad', ADD COLUMN gone int")
        database.run("INSERT INTO t VALUES (3, 'glad', 7)")
    database.run("ALTER TABLE t DROP COLUMN gone", "INSERT INTO t VALUES (4, NULL)")
    database.run("ALTER TABLE t RENAME COLUMN m TO mood", "INSERT INTO t VALUES (5, 'sad')")
    database.run("ALTER TABLE t RENAME TO renamed", "INSERT INTO renamed VALUES (6, 'sad')")
    log = database.log()
    assert [change.new for change in log.changes] == [
        ["1"], ["2"], ["3", "glad", "7"], ["4", None], ["5", "sad"], ["6", "sad"],
    ]  # fmt: skip
    names = [
        [column[0] for column in change.relation[4]]  # type: ignore[attr-defined]
        for change in log.changes
    ]
    assert names == [["a"], ["a"], ["a", "m", "gone"], ["a", "m"], ["a", "mood"], ["a", "mood"]]
    assert [change.relation[2] for change in log.changes][-2:] == ["t", "renamed"]


def test_a_long_key_that_did_not_change_is_told_by_the_old_key(database: Database) -> None:
    database.run("CREATE TABLE t (a text PRIMARY KEY, n int)")
    database.run("ALTER TABLE t ALTER a SET STORAGE EXTERNAL")
    database.start("FOR TABLE t")
    database.run(f"INSERT INTO t SELECT left({LONG.format(1)}, 2500), 1", "UPDATE t SET n = 2")
    insert, update = database.log().changes
    assert insert.new is not None
    assert update.new == [insert.new[0], "2"]
    assert update.old == [insert.new[0], None]


def test_origins_messages_and_prepared_transactions(database: Database) -> None:
    database.run("CREATE TABLE t (a int PRIMARY KEY)")
    database.start("FOR TABLE t")
    origin = f"o_{database.connection.info.dbname}"
    database.rows(f"SELECT pg_replication_origin_create('{origin}')")
    try:
        database.rows(f"SELECT pg_replication_origin_session_setup('{origin}')")
        database.run("INSERT INTO t VALUES (1)")
        database.rows("SELECT pg_replication_origin_session_reset()")
        database.rows("SELECT pg_logical_emit_message(false, 'x', 'outside')")
        with database.connection.transaction():
            database.rows("SELECT pg_logical_emit_message(true, 'x', 'within')")
            database.run("INSERT INTO t VALUES (2)")
        database.run("BEGIN", "INSERT INTO t VALUES (3)", "PREPARE TRANSACTION 'one'")
        database.run("INSERT INTO t VALUES (4)", "COMMIT PREPARED 'one'")
        batches = database.batches(messages="true")
        kinds = b"".join(message.as_py()[:1] for batch in batches for message in batch)
        assert kinds.count(b"M") == 2
        assert b"BO" in kinds
        log = database.log(messages="true")
        assert [change.new for change in log.changes] == [["1"], ["2"], ["4"], ["3"]]
    finally:
        database.rows(f"SELECT pg_replication_origin_drop('{origin}')")


def test_column_lists_row_filters_partitions_and_generated_columns(database: Database) -> None:
    database.run(
        "CREATE TABLE t (a int, b int, c int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a)) "
        "PARTITION BY RANGE (a)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 (b int, a int PRIMARY KEY, c int GENERATED ALWAYS AS (a * 2) STORED)",
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE u (a int PRIMARY KEY, secret text, b text)",
    )
    database.start(
        "FOR TABLE t, TABLE u (b, a) WHERE (a > 1) WITH (publish_via_partition_root = true)"
    )
    database.run("INSERT INTO t VALUES (1, 2), (11, 12)", "UPDATE t SET a = 15 WHERE a = 1")
    database.run("INSERT INTO u VALUES (1, 'x', 'y'), (2, 'x', 'y')", "UPDATE u SET a = a + 10")
    log = database.log()
    told = [(change.relation[2], change.kind, change.new) for change in log.changes]
    assert told == [
        ("t", "I", ["1", "2"]),
        ("t", "I", ["11", "12"]),
        ("t", "D", None),
        ("t", "I", ["15", "2"]),
        ("u", "I", ["2", "y"]),
        ("u", "I", ["11", "y"]),  # it was not among the filter's rows before
        ("u", "U", ["12", "y"]),
    ]


def test_a_database_without_an_encoding_can_hold_any_bytes(postgres_url: str) -> None:
    with encoded(postgres_url, "SQL_ASCII") as database:
        database.run("CREATE TABLE t (a int PRIMARY KEY, b text)")
        database.start("FOR TABLE t")
        database.run(r"INSERT INTO t VALUES (1, 'fine'), (2, E'\xe9t\xe9'), (3, E'\xc3\xa9')")
        with pytest.raises(OSError, match="invalid byte sequence for encoding"):
            database.batches()  # the server itself stops, for the sake of a single value
        database.client_encoding = "SQL_ASCII"
        assert [change.new for change in database.log().changes] == [
            ["1", "fine"],
            ["2", b"\xe9t\xe9"],
            ["3", "é"],
        ]


def test_a_latin1_database_gives_utf8(postgres_url: str) -> None:
    with encoded(postgres_url, "LATIN1") as database:
        database.run("CREATE TABLE t (a int PRIMARY KEY, été text)")
        database.start("FOR TABLE t")
        database.run("INSERT INTO t VALUES (1, 'ä')")
        log = database.log()
        assert log.changes[0].new == ["1", "ä"]
        assert log.relations[0][4][1][0] == "été"  # type: ignore[index]
