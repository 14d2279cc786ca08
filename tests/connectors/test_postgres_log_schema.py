"""Tables that change while the log goes on, values that do not fit, and names of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date

import pytest

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.changes import Operation
from tests.connectors.follower import Follower, reported
from tests.connectors.postgres_logged import LoggedDatabase
from tests.postgres_server import GivenServer, PostgresServer


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer | GivenServer) -> Iterator[LoggedDatabase]:
    with postgres_server.database() as url, closing(LoggedDatabase(url)) as database:
        yield database


@pytest.fixture
def database(shared: LoggedDatabase) -> Iterator[LoggedDatabase]:
    yield shared
    shared.empty()


@pytest.fixture
def items(database: LoggedDatabase) -> LoggedDatabase:
    database.run(
        "CREATE TABLE items (id int PRIMARY KEY, n int, name text)",
        "INSERT INTO items SELECT n, 0, 'row ' || n FROM generate_series(1, 9) AS n",
    )
    return database


def told(database: LoggedDatabase, follower: Follower) -> None:
    """All rows that the follower has got since it was made are as the table has them now."""
    with database.source() as source:
        follower.read(source)
    expected = database.table(follower.stream.table, "id")
    assert follower.live().keys() == expected.keys()
    changed = {key for key, (version, _) in follower.rows.items() if version.ordinal}
    assert changed
    for key in changed & expected.keys():
        assert follower.live()[key] == expected[key]


class TestColumns:
    """DDL between changes; what it does to rows that do not change otherwise is in no log."""

    def test_added(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run("UPDATE items SET n = 1 WHERE id = 1", "INSERT INTO items VALUES (20, 1, 'a')")
        items.run("ALTER TABLE items ADD late text DEFAULT 'x', ADD n2 int NOT NULL DEFAULT 7")
        items.run("UPDATE items SET n = 2, late = 'y' WHERE id = 2")
        items.run("ALTER TABLE items ADD third int", "DELETE FROM items WHERE id = 3")
        items.run("INSERT INTO items VALUES (21, 2, 'b', NULL, 8, 9)")
        told(items, follower)
        assert follower.live()[(1,)]["late"] == "x" and follower.live()[(2,)]["late"] == "y"

    def test_added_within_a_transaction_that_changes_rows(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run(
            "UPDATE items SET n = 1 WHERE id = 1",
            "ALTER TABLE items ADD late int DEFAULT 5",
            "UPDATE items SET n = 2 WHERE id = 2",
            "ALTER TABLE items DROP name",
            "UPDATE items SET late = 6 WHERE id = 3",
        )
        told(items, follower)

    def test_dropped_and_renamed(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run("UPDATE items SET n = 1, name = 'first' WHERE id = 1")
        items.run("ALTER TABLE items DROP n")
        items.run("UPDATE items SET name = 'second' WHERE id = 2")
        items.run("ALTER TABLE items RENAME name TO title")
        items.run("UPDATE items SET title = 'third' WHERE id = 3", "DELETE FROM items WHERE id = 4")
        told(items, follower)

    def test_names_that_were_swapped(self, items: LoggedDatabase) -> None:
        """The log before has the values under each other's names."""
        items.run("ALTER TABLE items ADD m int")
        follower = items.followed("items")
        items.run("UPDATE items SET n = 1, m = -1 WHERE id = 1")
        items.run(
            "ALTER TABLE items RENAME n TO o",
            "ALTER TABLE items RENAME m TO n",
            "ALTER TABLE items RENAME o TO m",
        )
        items.run("UPDATE items SET n = 2, m = -2 WHERE id = 2")
        told(items, follower)

    def test_another_type(self, items: LoggedDatabase) -> None:
        items.run("ALTER TABLE items ADD yes bool, ADD f real, ADD day timestamp")
        follower = items.follow("items")
        with items.source() as source:
            follower.read(source)
        change = "UPDATE items SET n = {n}, yes = true, f = 0.1, day = '2024-02-03' WHERE id = {n}"
        items.run(change.format(n=1))
        items.run(
            "ALTER TABLE items ALTER yes TYPE text, ALTER f TYPE float8, ALTER day TYPE date, "
            "ALTER n TYPE bigint USING n * 1000"
        )
        items.run("UPDATE items SET n = 5 WHERE id = 2")
        told(items, follower)
        row = follower.live()[(1,)]
        assert (row["yes"], row["n"], row["day"]) == ("true", 1000, date(2024, 2, 3))

    def test_the_table_gets_another_name(self, items: LoggedDatabase) -> None:
        follower = items.followed("items")
        items.run("UPDATE items SET n = 1 WHERE id = 1")
        items.run("ALTER TABLE items RENAME TO things")
        items.run("UPDATE things SET n = 2 WHERE id = 2")
        follower.stream = items.stream("things", name="items")
        told(items, follower)

    def test_generated(self, database: LoggedDatabase) -> None:
        database.run(
            "CREATE TABLE boxes (id int PRIMARY KEY, w int, twice int GENERATED ALWAYS AS (w * 2) "
            "STORED, u int)",
            "INSERT INTO boxes SELECT n, n FROM generate_series(1, 6) AS n",
        )
        stream = database.stream("boxes")
        database.install(stream)
        with database.source() as source:
            assert any("generated" in one.message for one in source.preflight([stream]))
        follower = database.followed("boxes")
        database.run("UPDATE boxes SET w = 10 WHERE id < 3", "INSERT INTO boxes VALUES (9, 9)")
        database.run("UPDATE boxes SET id = 20 WHERE id = 4", "DELETE FROM boxes WHERE id = 2")
        database.check(follower)
        database.run("ALTER TABLE boxes ALTER twice DROP EXPRESSION")
        database.run("UPDATE boxes SET twice = 0 WHERE id = 1")
        database.check(follower)

    def test_enums(self, database: LoggedDatabase) -> None:
        database.run(
            "CREATE TYPE mood AS ENUM ('sad', 'it''s ok')",
            "CREATE TABLE people (id int PRIMARY KEY, mood mood, moods mood[])",
            "INSERT INTO people VALUES (1, 'sad', '{sad}')",
        )
        follower = database.follow("people", types={"moods": "text"})
        database.run("INSERT INTO people VALUES (2, 'it''s ok', '{sad,\"it''s ok\"}')")
        database.run("ALTER TYPE mood ADD VALUE 'happy'")
        with database.source() as source:
            follower.read(source)
        database.run("UPDATE people SET mood = 'happy', moods = '{happy}' WHERE id = 1")
        with database.source() as source:
            follower.read(source)
        assert [row["mood"] for row in follower.live().values()] == ["happy", "it's ok"]
        arrays = [row["moods"] for row in follower.live().values()]
        assert arrays == ["{happy}", '{sad,"it\'s ok"}']

    def test_chosen_and_read_as_text(self, items: LoggedDatabase) -> None:
        follower = items.follow("items", columns=("n",), types={"n": "text"})
        with items.source() as source:
            follower.read(source)
            items.run("UPDATE items SET n = 12 WHERE id = 1", "UPDATE items SET id = 0 WHERE id=2")
            follower.read(source)
        assert follower.live()[(1,)] == {"id": 1, "n": "12"}
        assert follower.live()[(0,)] == {"id": 0, "n": "0"} and (2,) not in follower.live()


class TestValues:
    """What the schema cannot hold is held back by name; the others come, and it too once mended."""

    @pytest.fixture
    def odd(self, database: LoggedDatabase) -> LoggedDatabase:
        database.run(
            "CREATE TABLE odd (id int PRIMARY KEY, n numeric(10,2), d date, t time, s timestamptz)",
            "INSERT INTO odd SELECT n, n, '2024-01-01', '12:00', '2024-01-01' "
            "FROM generate_series(1, 9) AS n",
        )
        return database

    def test_in_rows(self, odd: LoggedDatabase) -> None:
        follower = odd.followed("odd")
        odd.run("UPDATE odd SET n = 'NaN' WHERE id = 1", "UPDATE odd SET n = 9 WHERE id = 2")
        odd.run("UPDATE odd SET d = 'infinity' WHERE id = 3")
        odd.run("UPDATE odd SET t = '24:00' WHERE id = 4", "INSERT INTO odd VALUES (20, 'NaN')")
        odd.run("UPDATE odd SET s = '-infinity' WHERE id = 5")
        odd.run("UPDATE odd SET d = '0044-03-15 BC' WHERE id = 6", "DELETE FROM odd WHERE id = 9")
        with odd.source() as source:
            follower.read(source)
        columns = {key[0]: one.column for key, one in follower.rejected.items()}
        assert columns == {1: "n", 3: "d", 4: "t", 20: "n", 5: "s", 6: "d"}
        for key, one in follower.rejected.items():
            assert one.version[:2] > (1, 0) and one.version.ordinal % 2
            assert one.image.column("id")[0].as_py() in (key[0], str(key[0]))
        good = odd.select("SELECT id, n FROM odd WHERE id IN (2, 7, 8)")
        assert {(one, follower.live()[(one,)]["n"]) for one in (2, 7, 8)} == set(good)
        assert (9,) not in follower.live() and (20,) not in follower.live()
        odd.run("UPDATE odd SET n = 1, d = '2024-01-01', t = '1:00', s = now()")
        odd.check(follower)
        assert follower.rejected == {}

    def test_mended_before_they_were_read(self, odd: LoggedDatabase) -> None:
        """A row that fits now is no failure."""
        follower = odd.followed("odd")
        odd.run("UPDATE odd SET n = 'NaN' WHERE id < 4")
        odd.run("UPDATE odd SET n = 5 WHERE id = 1", "DELETE FROM odd WHERE id = 2")
        with odd.source() as source:
            follower.read(source)
        assert follower.rejected.keys() == {(3,)}
        odd.run("DELETE FROM odd WHERE id = 3")
        odd.check(follower)
        assert follower.rejected == {}

    def test_held_back_by_the_snapshot_and_by_the_log(self, odd: LoggedDatabase) -> None:
        odd.run("UPDATE odd SET n = 'NaN' WHERE id = 5")
        follower = odd.follow("odd")
        with odd.source() as source:
            follower.read(source)
            assert follower.rejected.keys() == {(5,)}
            first = follower.rejected[(5,)].version
            odd.run("UPDATE odd SET d = '2024-05-05' WHERE id = 5")
            follower.read(source)
        assert follower.rejected[(5,)].version > first
        odd.run("UPDATE odd SET id = 50 WHERE id = 5")
        with odd.source() as source:
            follower.read(source)
        assert follower.rejected.keys() == {(50,)}
        odd.run("UPDATE odd SET id = 5, n = 5 WHERE id = 50")
        odd.check(follower)
        assert follower.rejected == {}

    @pytest.mark.parametrize(
        ("kind", "good", "bad", "told"),
        [
            ("date", "2024-01-01", "infinity", "infinity"),
            ("numeric(6,2)", "1.50", "NaN", "NaN"),
            ("time", "12:00", "24:00", "24:00:00"),
        ],
    )
    def test_in_keys(
        self, database: LoggedDatabase, kind: str, good: str, bad: str, told: str
    ) -> None:
        database.run(
            f"CREATE TABLE odd (k {kind} PRIMARY KEY, n int)",
            ("INSERT INTO odd VALUES (?, 0)", (good,)),
        )
        follower = database.followed("odd", "k")

        def read() -> list[tuple[object, int]]:
            with database.source() as source:
                items = follower.read(source)
            return [(one.key[0], int(one.operation)) for item in items for one in item.rejected]

        database.run(("INSERT INTO odd VALUES (?, 1)", (bad,)), "UPDATE odd SET n = n + 1")
        assert read()[-1] == (told, Operation.UPDATE)
        assert [row["n"] for row in follower.live().values()] == [1]
        database.run(("DELETE FROM odd WHERE k = ?", (bad,)))
        assert read() == [(told, Operation.DELETE)]
        database.run(("UPDATE odd SET k = ? WHERE n = 1", (bad,)))
        assert read() == [(told, Operation.UPDATE)]
        assert follower.live() == {}, "the key that it had is free"
        database.run(("UPDATE odd SET k = ?, n = 7", (good,)))
        assert read() == [(told, Operation.DELETE)], (
            "what was held back under the old key has ended"
        )
        assert follower.live() == database.table("odd", "k")

    def test_no_key_at_all(self, database: LoggedDatabase) -> None:
        database.run(
            "CREATE TABLE odd (code text UNIQUE, n int)",
            "ALTER TABLE odd REPLICA IDENTITY FULL",
            "INSERT INTO odd SELECT NULL, n FROM generate_series(1, 7) AS n",
            "INSERT INTO odd SELECT 'c' || n, n FROM generate_series(1, 5) AS n",
        )
        follower = database.follow("odd", key=("code",))
        with database.source() as source:
            items = follower.read(source)
            assert sum(len(item.rejected) for item in items) == 7
            assert follower.live() == {(f"c{n}",): {"code": f"c{n}", "n": n} for n in range(1, 6)}
        database.run("UPDATE odd SET code = 'c6' WHERE n = 6", "INSERT INTO odd VALUES (NULL, 9)")
        with database.source() as source:
            items = follower.read(source)
        assert follower.live()[("c6",)] == {"code": "c6", "n": 6}
        assert [one.key for item in items for one in item.rejected] == [(None,)]


def test_each_keyless_row_is_told_however_often_the_read_dies(database: LoggedDatabase) -> None:
    database.run(
        "CREATE TABLE odd (code text UNIQUE, n int)",
        "ALTER TABLE odd REPLICA IDENTITY FULL",
        "INSERT INTO odd SELECT NULL, n FROM generate_series(1, 11) AS n",
    )
    follower = database.follow("odd", key=("code",))
    seen = set()
    with database.source() as source:
        again = True
        while again:
            with closing(source.read(follower.stream, follower.state(source))) as reading:
                item = next(reading)
                follower.apply(item)
                again = not item.read_complete
            seen |= {one.image.column("n")[0].as_py() for one in item.rejected}
    assert seen == set(range(1, 12))


NAMES = [
    ("public", 'Mixed "Case"', "Id"),
    ("public", "select", "order"),
    ("Größe.x", "naïve 🐟", "schlüssel"),
    ("other", "UPPER", "from"),
]


@pytest.mark.parametrize(("schema", "table", "key"), NAMES)
def test_names(database: LoggedDatabase, schema: str, table: str, key: str) -> None:
    quoted = [database.quote(name) for name in (schema, table, key)]
    name = f"{quoted[0]}.{quoted[1]}"
    database.run(
        f"CREATE SCHEMA IF NOT EXISTS {quoted[0]}",
        f'CREATE TABLE {name} ({quoted[2]} text PRIMARY KEY, "A.b" int, "100%" text)',
        f"INSERT INTO {name} VALUES ('a', 1, '%s'), ('é', 2, '\\'), ('Z', 3, '{{}}')",
    )
    stream = StreamSpec(**{**vars(database.stream(name)), "name": "strange"})
    database.install(stream)
    follower = Follower(stream)
    database.check(follower, key)
    database.run(
        f"UPDATE {name} SET \"A.b\" = 9 WHERE {quoted[2]} = 'é'",
        f"UPDATE {name} SET {quoted[2]} = '\"x\"\\' WHERE {quoted[2]} = 'Z'",
        f"INSERT INTO {name} VALUES (E'tab\\tand\\nline', 4, 'it''s')",
        f"DELETE FROM {name} WHERE {quoted[2]} = 'a'",
    )
    database.check(follower, key)


def test_a_log_with_a_name_that_needs_quotes(items: LoggedDatabase) -> None:
    """Slots have plain names only; publications are made under the same one."""
    items.log = items.log + "_select"
    follower = items.followed("items")
    items.run("UPDATE items SET n = 1")
    items.check(follower)


def test_two_streams_of_one_table_and_others_in_the_same_publication(
    items: LoggedDatabase,
) -> None:
    items.run('CREATE TABLE "Items" (id int PRIMARY KEY, n text)')
    one, two = items.followed("items"), items.follow("items", name="again", columns=("n",))
    other = items.followed('"Items"')
    with items.source() as source:
        two.read(source)
        items.run("UPDATE items SET n = 5 WHERE id = 1", "INSERT INTO \"Items\" VALUES (1, 'x')")
        items.run("DELETE FROM items WHERE id = 2")
        assert len(reported(one.read(source))) == len(reported(two.read(source))) == 2
        assert len(reported(other.read(source))) == 1
    assert two.live()[(1,)] == {"id": 1, "n": 5} and (2,) not in two.live()
