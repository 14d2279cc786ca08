"""A PostgreSQL source that cannot be reached, read or trusted: which family, and what it says."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from rowtrail.connectors.base import Capture, Catalog, ManagesCapture, StreamSpec
from rowtrail.connectors.errors import (
    ConfigurationError,
    PositionLostError,
    StopError,
    TransientError,
)
from rowtrail.connectors.registry import open_source
from rowtrail.connectors.sources import postgres_connection
from rowtrail.connectors.sources.postgres import PostgresSource
from tests.connectors.follower import Follower, reported, reported_keys
from tests.connectors.postgres_database import PostgresDatabase
from tests.postgres_server import PostgresServer

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"


def stream(**settings: Any) -> StreamSpec:
    chosen: dict[str, Any] = {"name": "t", "table": "t", "capture": Capture.SNAPSHOT, **settings}
    return StreamSpec(**chosen)


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresDatabase]:
    with closing(PostgresDatabase(postgres_url)) as database:
        yield database


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of the test's own, which it may stop and start."""
    with PostgresServer(network=True) as server:
        yield server


@pytest.fixture
def role(database: PostgresDatabase) -> Iterator[str]:
    """A user without any rights."""
    name = f"role_{database.connection.info.dbname}"
    database.connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield name
    finally:
        database.connection.execute(f"DROP OWNED BY {name}")
        database.connection.execute(f"DROP ROLE {name}")


def as_user(database: PostgresDatabase, user: str) -> str:
    info = database.connection.info
    where = f"host={info.host.replace('/', '%2F')}&port={info.port}"
    return f"postgresql://{user}:secret@/{info.dbname}?{where}"


def test_opened_by_its_url(database: PostgresDatabase) -> None:
    database.run(TABLE)
    for url in (database.url, database.url.replace("postgresql:", "postgres:")):
        with closing(open_source(url)) as source:
            assert isinstance(source, ManagesCapture)
            assert isinstance(source, Catalog)
            assert source.tables() == ["t"]


def test_a_database_that_is_not_there(database: PostgresDatabase) -> None:
    url = database.url.replace(database.connection.info.dbname, "nothing_here")
    with pytest.raises(ConfigurationError, match=r"nothing_here.*Check the database's name"):
        PostgresSource(url)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1/shop.*Check that the server runs"):
        PostgresSource("postgresql://who:secret@127.0.0.1:1/shop")


def test_a_wrong_password(server: PostgresServer) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'right'")
    rules = server.data / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all all scram-sha-256\n")
    server.stop()
    server._process = None
    start_without_wait(server)
    with pytest.raises(ConfigurationError) as caught:
        PostgresSource(server.url("postgres", user="reader", password="wr0ng"))
    assert "password" in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    with closing(PostgresSource(server.url("postgres", user="reader", password="right"))) as source:
        assert source.tables() == []


def start_without_wait(server: PostgresServer) -> None:
    """Starts it although the superuser may not come in over the network."""
    log = (server.folder / "log").open("ab")
    server._process = subprocess.Popen(
        [*server.program("postgres"), "-D", str(server.data)],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    deadline = time.monotonic() + 30
    while not (server.folder / f".s.PGSQL.{server.port}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def test_rights_on_four_of_five_tables(database: PostgresDatabase, role: str) -> None:
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        database.run(f"CREATE TABLE {name} (id int PRIMARY KEY, v text, w text)")
        if name != "c":
            database.run(f"GRANT SELECT ON {name} TO {role}")
    database.run(f"REVOKE SELECT ON d FROM {role}", f"GRANT SELECT (id, v) ON d TO {role}")
    streams = [stream(name=name, table=name) for name in names]
    with closing(PostgresSource(as_user(database, role))) as source:
        problems = source.preflight(streams)
        assert [(one.stream, one.fatal) for one in problems] == [("c", True), ("d", True)]
        assert problems[0].message == f"User {role} may not read c."
        assert problems[1].message == f"User {role} may not read column w of d."
        for chosen in (streams[0], stream(name="d", table="d", exclude=("w",))):
            assert source.preflight([chosen]) == []
            Follower(chosen).read(source)
        with pytest.raises(ConfigurationError, match="permission denied for table c"):
            Follower(streams[2]).read(source)
        for one in problems:
            database.run(one.remedy)
        assert source.preflight(streams) == []


def test_a_schema_that_may_not_be_used(database: PostgresDatabase, role: str) -> None:
    database.run(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.t (id int PRIMARY KEY)",
        f"GRANT SELECT ON shop.t TO {role}",
    )
    chosen = stream(table="shop.t")
    with closing(PostgresSource(as_user(database, role))) as source:
        (problem,) = source.preflight([chosen])
        assert problem.fatal
        assert "schema shop" in problem.message
        database.run(problem.remedy)
        assert source.preflight([chosen]) == []


def test_rows_that_row_level_security_hides(database: PostgresDatabase, role: str) -> None:
    database.run(
        TABLE,
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON t USING (id = 1)",
        f"GRANT SELECT ON t TO {role}",
    )
    with closing(PostgresSource(as_user(database, role))) as source:
        (problem,) = source.preflight([stream()])
        assert problem.fatal
        assert "Row-level security hides rows of t" in problem.message
        with pytest.raises(ConfigurationError, match="row-level security"):
            Follower(stream()).read(source)
    with database.source() as source:
        assert source.preflight([stream()]) == []


def test_triggers_by_a_user_who_may_not_make_any(database: PostgresDatabase, role: str) -> None:
    database.run(TABLE, f"GRANT SELECT ON t TO {role}")
    chosen = stream(capture=Capture.TRIGGER)
    follower = Follower(chosen)
    with closing(PostgresSource(as_user(database, role))) as source:
        plan = source.capture_plan([chosen])
        with pytest.raises(ConfigurationError, match="permission denied"):
            source.execute(plan)
        # Somebody who may runs what the plan says; from then on no rights are lacking.
        database.run(*plan)
        assert source.capture_plan([chosen]) == []
        (problem,) = source.preflight([chosen])
        assert not problem.fatal
        assert "logical replication" in problem.message
        database.run(problem.remedy)
        assert source.preflight([chosen]) == []
        follower.read(source)
        database.run("INSERT INTO t VALUES (1, 'x')")
        assert reported_keys(follower.read(source)) == [(1,)]
        assert follower.position is not None
        source.acknowledge({"t": (chosen, follower.position)})
    assert database.select('SELECT count(*) FROM _rowtrail."public.t"') == [(0,)]


def test_a_statement_that_takes_too_long(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    slow = "CREATE VIEW slow AS SELECT id, v, pg_sleep(0.2) IS NULL AS s FROM t"
    database.run(slow)
    chosen = stream(table="slow", key=("id",))
    follower = Follower(chosen)
    ((name,),) = database.select("SELECT current_database()")
    database.run(f'ALTER DATABASE "{name}" SET statement_timeout = 300')
    with database.source() as source:
        with pytest.raises(TransientError, match=r"statement timeout.*raise statement_timeout"):
            follower.read(source)
        database.run(f'ALTER DATABASE "{name}" RESET statement_timeout')
        follower.read(source)  # on connections of its own, which have the new setting
    assert len(follower.live()) == 9


def test_a_value_that_a_view_cannot_cast_is_not_told(database: PostgresDatabase) -> None:
    """It may be of a redacted column."""
    database.run(TABLE, "INSERT INTO t VALUES (1, 's3cret')")
    database.run("CREATE VIEW cast_it AS SELECT id, v::integer AS v FROM t")
    with database.source() as source, pytest.raises(StopError, match="invalid input") as caught:
        Follower(stream(table="cast_it", key=("id",))).read(source)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_table_that_goes_while_it_is_read(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    follower = Follower(stream(batch_rows=3))
    with database.source() as source:
        reading = source.read(follower.stream, follower.state(source))
        next(reading)
        database.run("DROP TABLE t")
        with pytest.raises(ConfigurationError, match="does not exist"):
            next(reading)
        with pytest.raises(ConfigurationError, match="no table t"):
            source.describe(follower.stream)


@pytest.mark.parametrize("capture", [Capture.SNAPSHOT, Capture.CURSOR, Capture.TRIGGER])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
def test_a_server_that_goes_away_in_the_midst_of_a_read(
    server: PostgresServer, capture: Capture, how: signal.Signals
) -> None:
    with server.database() as url:
        with closing(PostgresDatabase(url)) as database:
            database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 30) AS g")
        chosen = stream(capture=capture, batch_rows=5, cursor="id")
        follower = Follower(chosen)
        with closing(PostgresSource(url)) as source:
            source.execute(source.capture_plan([chosen]))
            reading = source.read(chosen, follower.state(source))
            follower.apply(next(reading))
            follower.apply(next(reading))
            state = follower.state(source)
            server.stop(how=how)
            with pytest.raises(TransientError, match="try again"):
                next(reading)
            with pytest.raises(TransientError):
                source.describe(chosen)
            server.start()
            for item in source.read(chosen, state):
                follower.apply(item)
            with closing(PostgresDatabase(url)) as database:
                database.run("UPDATE t SET v = 'y' WHERE id = 30")
                assert follower.live().keys() == database.rows("t", "id").keys()
            if capture is not Capture.CURSOR:
                assert reported_keys(follower.read(source)) == [(30,)]
            keys = pa.record_batch({"id": pa.array([30], pa.int32())})
            fetched = source.fetch(chosen, keys, follower.state(source))
            assert fetched.rows.column("v").to_pylist() == ["y"]


def test_a_connection_that_is_cut(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t VALUES (1, 'x')")
    follower = Follower(stream())
    with database.source() as source:
        follower.read(source)
        for _ in range(2):
            database.select(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'rowtrail' AND datname = current_database()"
            )
            with pytest.raises(TransientError):
                source.describe(follower.stream)
            assert source.describe(follower.stream).key == ("id",)
            follower.read(source)


def test_a_transaction_is_not_left_open(database: PostgresDatabase) -> None:
    database.run(TABLE, "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 9) AS g")
    follower = Follower(stream(batch_rows=3))
    with database.source() as source:
        for item in source.read(follower.stream, follower.state(source)):
            follower.apply(item)
            states = database.select(
                "SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'rowtrail' "
                "AND datname = current_database()"
            )
            assert states == [("idle",)]
    with pytest.raises(ConfigurationError), database.source() as source:
        Follower(stream(table="public.nothing")).read(source)


def test_a_server_that_is_too_old(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "OLDEST", 990_000)
    with pytest.raises(ConfigurationError, match="needs 99 or newer"):
        database.open()


class CopiedServer(PostgresServer):
    """A server over a copy of another one's files, as a back-up that is put back."""

    def __init__(self, origin: PostgresServer, files: Path) -> None:
        super().__init__(network=True)
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", str(files), str(self.data)], check=True)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n"
                f"listen_addresses = '127.0.0.1'\n"
            )


@pytest.fixture
def copied(server: PostgresServer, tmp_path: Path) -> Iterator[Any]:
    """Copies the server's files as they are now; opens servers over such copies."""
    opened: list[PostgresServer] = []

    def copy() -> Path:
        server.stop()
        files = tmp_path / f"files{len(list(tmp_path.iterdir()))}"
        subprocess.run(["cp", "-a", str(server.data), str(files)], check=True)
        server.start()
        return files

    def start(files: Path, *, standby: bool = False) -> PostgresServer:
        restored = CopiedServer(server, files)
        opened.append(restored)
        if standby:
            signal_file = restored.data / "standby.signal"
            signal_file.touch()
            shutil.copystat(restored.data / "PG_VERSION", signal_file)
            status = (restored.data / "PG_VERSION").stat()
            shutil.chown(signal_file, status.st_uid, status.st_gid)
        restored.start()
        return restored

    yield copy, start
    for one in opened:
        one.remove()


def test_a_source_that_was_restored_and_one_that_failed_over(
    server: PostgresServer, copied: Any
) -> None:
    """With real servers: a copy put back, a standby, and the standby promoted."""
    copy, start = copied
    chosen = stream(capture=Capture.TRIGGER)
    follower = Follower(chosen)
    url = server.url("postgres")
    with closing(PostgresDatabase(url)) as database:
        database.run(TABLE, "INSERT INTO t VALUES (1, 'a')")
    with closing(PostgresSource(url)) as source:
        source.execute(source.capture_plan([chosen]))
        follower.read(source)
    before = follower.position
    files = copy()
    with closing(PostgresDatabase(url)) as database, closing(PostgresSource(url)) as source:
        database.run("INSERT INTO t VALUES (2, 'b')")
        assert [row["id"] for _, row in reported(follower.read(source))] == [2]

    restored = start(files)
    with (
        closing(PostgresDatabase(restored.url("postgres"))) as database,
        closing(PostgresSource(restored.url("postgres"))) as source,
    ):
        for number in range(10, 15):  # the same transaction ids and sequences are given out anew
            with pytest.raises(PositionLostError, match=r"restored from a back-up.*resnapshot t"):
                follower.read(source)
            database.run(f"INSERT INTO t VALUES ({number}, 'other')")

    standby = start(files, standby=True)
    with closing(PostgresSource(standby.url("postgres"))) as source:
        (problem,) = source.preflight([chosen])
        assert "standby" in problem.message
        assert problem.fatal
        with pytest.raises(ConfigurationError, match="standby"):
            follower.read(source)
        by_cursor = stream(capture=Capture.CURSOR, cursor="id")
        assert any("standby" in one.message for one in source.preflight([by_cursor]) if one.fatal)
        with psycopg.connect(standby.url("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        follower.position = before
        with pytest.raises(PositionLostError, match="fail-over"):
            follower.read(source)
