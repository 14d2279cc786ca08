"""A wrong password at a PostgreSQL server: told in plain words, and never shown."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.cli.place import FILE, Place
from tests.postgres_server import PostgresServer

RIGHT, WRONG = "r1ght-Pa55", "wr0ng-Pa55"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Over the network it asks all but its owner for a password, by SCRAM."""
    with PostgresServer(network=True) as server:
        rules = server.data / "pg_hba.conf"
        rules.write_text("host all postgres all trust\nhost all all all scram-sha-256\n")
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE etl LOGIN PASSWORD '{RIGHT}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_wrong_password(
    server: PostgresServer, place: Place, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    with server.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY, amount numeric(10, 2))")
            connection.execute("INSERT INTO orders VALUES (1, 1.5), (2, 2.5)")
            if end == "destination":
                connection.execute("DROP TABLE orders")
            connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO etl")
            connection.execute("GRANT ALL ON SCHEMA public TO etl")
        place.put((1, 1.5, None), (2, 2.5, None))
        hidden = url.replace("postgres@", "etl:${SHOP_PASSWORD}@", 1)
        text = FILE.replace('"trigger"', '"snapshot"') if end == "source" else FILE
        place.write(text, **{end: f'"{hidden}"'})

        monkeypatch.setenv("SHOP_PASSWORD", WRONG)
        for how in ((), ("--json",), ("--debug",)):
            for command in ("run", "check", "status"):
                answer = place.type(command, *how)
                said = " ".join((answer.out + answer.err).split())
                assert WRONG not in said
                if command != "status":
                    assert answer.code in (1, 2)
                    assert 'password authentication failed for user "etl"' in said.replace("\\", "")
                    assert "Check user and password in the URL or the password file" in said
        monkeypatch.setenv("SHOP_PASSWORD", RIGHT)
        for how in ((), ("--json",), ("--debug",)):
            answer = place.type("run", *how)
            assert answer.code == 0, answer
            assert RIGHT not in answer.out + answer.err
        for path in place.folder.rglob("*"):
            if path.is_file():
                found = path.read_bytes()
                assert RIGHT.encode() not in found and WRONG.encode() not in found, path
