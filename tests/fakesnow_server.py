"""fakesnow's server, with what it lacks to stand in for Snowflake; run by the Python of its own.

Prints the port that it listens on, then serves until its standard input is closed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import socket
import sys
import threading
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
import uvicorn
from fakesnow import arrow, info_schema, transforms
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp
from sqlglot.errors import TokenError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

server: Any = import_module("fakesnow.server")  # the package has a function of that name


async def login(request: Request) -> JSONResponse:
    """With what connector 5.x wants to be told."""
    answer = json.loads((await server.login_request(request)).body)
    connection = server.sessions[answer["data"]["token"]]
    parameters = {one: str(value) for one, value in (await asked_of(request)).items()}
    connection.lock_timeout = int(parameters.get("LOCK_TIMEOUT", 43_200))
    answer["data"] |= {
        "masterToken": "master",
        "masterValidityInSeconds": 14_400,
        "validityInSeconds": 3_600,
        "sessionId": id(connection),
    }
    return JSONResponse(answer)


async def asked_of(request: Request) -> dict[str, Any]:
    """The parameters that a client wants for its session."""
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    parameters: dict[str, Any] = json.loads(body)["data"]["SESSION_PARAMETERS"]
    return parameters


async def logout(request: Request) -> JSONResponse:
    """What the session has not committed is rolled back."""
    token = server.to_token(request)
    if request.query_params.get("delete") and token in server.sessions:
        abort(server.sessions[token])
    answer: JSONResponse = await server.session(request)
    return answer


last_asked: dict[str, tuple[str, asyncio.Future[Response]]] = {}
"""Of each session: its last request's id, and the answer."""


async def query(request: Request) -> Response:
    """What is asked again is not done again: it has the first answer, or waits for it.

    Connectors ask again with the same requestId, and a retryCount, where no answer came:
    https://docs.snowflake.com/en/developer-guide/sql-api/submitting-requests, "Resubmitting a
    request"; fakesnow would carry out the statement once more.
    """
    token, asked = server.to_token(request), request.query_params["requestId"]
    await request.body()  # else a client that went away meanwhile would be an answer
    known, answer = last_asked.get(token, ("", None))
    if answer is None or known != asked or "retryCount" not in request.query_params:
        answer = asyncio.ensure_future(server.query_request(request))
        last_asked[token] = (asked, answer)
    return await asyncio.shield(answer)


stage_info = server.gcs_stage_info


def upload_info(request: Request, expression: Any, data: Any) -> dict[str, Any]:
    data["overwrite"] = True
    more = {"region": "local", "storageAccount": None, "endPoint": None, "path": ""}
    return {**stage_info(request, expression, data), **more}


def timestamps(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """NULL where the value is; seconds before 1970 are rounded down, as Snowflake does."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    unit = "ns" if values.type.unit == "ns" else "us"
    second = 10**9 if unit == "ns" else 10**6
    parts = pc.fill_null(values.cast(pa.timestamp(unit, tz=values.type.tz)).view(pa.int64()), 0)
    whole = pc.divide(parts, second)
    rest = pc.subtract(parts, pc.multiply(whole, second))
    below = pc.less(rest, 0)
    epoch = pc.subtract(whole, below.cast(pa.int64()))
    fraction = pc.add(rest, pc.multiply(below.cast(pa.int64()), second))
    fraction = pc.multiply(fraction, 10**9 // second).cast(pa.int32())
    arrays = [epoch, fraction]
    names = ["epoch", "fraction"]
    if values.type.tz:
        arrays.append(pa.array([1440] * len(values), pa.int32()))
        names.append("timezone")
    fields = [pa.field(n, a.type, nullable=False) for n, a in zip(names, arrays, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=values.is_null())


run = FakeSnowflakeCursor._execute


def refusing(cursor: Any, statement: exp.Expression, params: Any = None) -> None:
    """As Snowflake does where fakesnow is too kind, and errors of DuckDB as errors of SQL."""
    try:
        run(cursor, statement, params)
    except ProgrammingError as error:  # Snowflake puts values in single quotes
        error.msg = re.sub(r'string "(.*)" to', r"string '\1' to", str(error.msg), flags=re.S)
        raise
    except duckdb.ConstraintException as error:
        raise ProgrammingError(msg=str(error), errno=100072, sqlstate="22000") from error
    except duckdb.Error as error:
        raise ProgrammingError(msg=str(error), errno=100183, sqlstate="22000") from error


parse = server.parse_one


def parse_one(sql: str, **more: Any) -> exp.Expression:
    """Text without an end is a mistake of syntax, too."""
    try:
        found: exp.Expression = parse(sql, **more)
    except TokenError as error:
        raise ProgrammingError(msg=str(error), errno=1003, sqlstate="42000") from error
    return found


execute = FakeSnowflakeCursor.execute
DDL = (exp.Create, exp.Alter, exp.Drop)
LOCKING = (exp.Update, exp.Merge, exp.Delete)


class Locks:
    """Who has changed rows of a table keeps others from it until its transaction ends.

    What only adds rows waits for nobody and keeps nobody waiting:
    https://docs.snowflake.com/en/sql-reference/transactions#resource-locking. DuckDB would refuse
    at once what Snowflake lets wait. The lock is of the whole table, and the statement that waits
    must be the first of its transaction: DuckDB's transactions see what was there when they began.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Any] = {}
        self._waiting: list[tuple[str, Any]] = []
        self._changed = threading.Condition()

    def take(self, table: str, connection: Any) -> None:
        def free() -> bool:
            return self._holders.get(table, connection) is connection

        with self._changed:
            self._waiting.append((table, connection))
            got = self._changed.wait_for(free, connection.lock_timeout)
            self._waiting.remove((table, connection))
            if not got:
                raise ProgrammingError(
                    msg=f"Statement has locked table {table} in transaction "
                    f"{id(self._holders[table])} and this lock has not yet been released.",
                    errno=625,
                    sqlstate="57014",
                )
            self._holders[table] = connection

    def show(self, database: str) -> str:
        """SHOW LOCKS, which fakesnow does not know: a query whose rows are its answer."""
        with self._changed:
            rows = [(table, id(one), "HOLDING") for table, one in self._holders.items()]
            rows += [(table, id(one), "WAITING") for table, one in self._waiting]
        selects = [
            f"SELECT '{table}' AS resource, {number} AS transaction, '{status}' AS status"
            for table, number, status in [("", 0, ""), *rows]
        ]
        these = f"resource LIKE '{database}.%' ORDER BY status"
        return f"SELECT * FROM ({' UNION ALL '.join(selects)}) AS locks WHERE {these}"

    def release(self, connection: Any) -> None:
        with self._changed:
            held = [table for table, one in self._holders.items() if one is connection]
            for table in held:
                del self._holders[table]
            self._changed.notify_all()


locks = Locks()


def abort(connection: Any) -> None:
    """Rolls back the transaction that the session may have."""
    if getattr(connection, "rowtrail_open", False):
        connection.rowtrail_open = False
        connection._duck_conn.rollback()
    locks.release(connection)


def abort_named(what: str, number: str) -> str:
    """SYSTEM$ABORT_TRANSACTION and _SESSION, which fakesnow does not know. A transaction has the
    number of its session."""
    for token, connection in list(server.sessions.items()):
        if id(connection) == int(number):
            abort(connection)
            if what == "SESSION":
                del server.sessions[token]
            return "SELECT 'aborted' AS result"
    raise ProgrammingError(msg=f"There is no {what} {number}", errno=1, sqlstate="22023")


def guarded(cursor: Any, command: str, *args: Any, **kwargs: Any) -> Any:
    """Refuses DDL in a transaction, which Snowflake would commit at once, and a MERGE in which two
    rows of the source match one row: an error there, and here a matter of chance."""
    connection = cursor._conn
    if found := re.fullmatch(r"SELECT SYSTEM\$ABORT_(TRANSACTION|SESSION)\((\d+)\)", command):
        command = abort_named(found[1], found[2])
    if command == "SHOW LOCKS":
        command = locks.show(connection.database)
    if command.startswith("REMOVE "):
        remove_files(connection, command.partition("@")[2])
        command = "SELECT 'removed' AS result"
    if len(sqlglot.parse(command, read="snowflake")) > 1:
        raise ProgrammingError(
            msg="Actual statement count 2 did not match the desired statement count 1.",
            errno=8,
            sqlstate="0A000",
        )
    statement = server.parse_one(command)
    if isinstance(statement, exp.Show) and statement.name.upper() == "PRIMARY KEYS":
        command = shown_keys(cursor, statement.args["scope"])
        statement = server.parse_one(command)
    if isinstance(statement, (exp.Create, exp.Alter)) and statement.args["kind"] == "TABLE":
        remember(cursor, statement)
    if isinstance(statement, DDL) and getattr(connection, "rowtrail_open", False):
        raise ProgrammingError(
            msg=f"DDL in a transaction would commit it: {command[:80]}", errno=1, sqlstate="0A000"
        )
    if isinstance(statement, LOCKING):
        table = statement.this
        locks.take(f"{connection.database}.{table.db}.{table.name}", connection)
    try:
        if isinstance(statement, exp.Merge):
            refuse_duplicates(cursor, statement)
        done = execute(cursor, command, *args, **kwargs)
        if isinstance(statement, exp.Transaction):
            connection.rowtrail_open = True
        elif isinstance(statement, (exp.Commit, exp.Rollback)):
            connection.rowtrail_open = False
    finally:
        if not getattr(connection, "rowtrail_open", False):
            locks.release(connection)
    return done


@dataclass
class Declared:
    """What a table's definition said, of which DuckDB keeps nothing, or too much."""

    key: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)  # as DESCRIBE writes them


SIZED = {
    exp.DType.VARCHAR: "VARCHAR",
    exp.DType.TIME: "TIME",
    exp.DType.TIMESTAMPNTZ: "TIMESTAMP_NTZ",
    exp.DType.TIMESTAMPLTZ: "TIMESTAMP_LTZ",
    exp.DType.TIMESTAMPTZ: "TIMESTAMP_TZ",
}
"""Types whose length or digits DuckDB has no place for."""
TABLES: dict[tuple[str, ...], Declared] = {}


def stored(identifier: exp.Expression) -> str:
    return identifier.name if identifier.args.get("quoted") else identifier.name.upper()


def place(cursor: Any, table: exp.Table) -> tuple[str, ...]:
    given = [table.args.get(part) for part in ("catalog", "db", "this")]
    default = (cursor._conn.database, cursor._conn.schema, "")
    return tuple(stored(one) if one else other for one, other in zip(given, default, strict=True))


def remember(cursor: Any, statement: exp.Create | exp.Alter) -> None:
    """Remembers what the definition says of the key, collations, lengths and digits of seconds."""
    table = statement.find(exp.Table)
    assert table is not None
    where = place(cursor, table)
    found = TABLES.get(where, Declared()) if isinstance(statement, exp.Alter) else Declared()
    for column in statement.find_all(exp.ColumnDef):
        name = stored(column.this)
        remember_type(found, name, column.args.get("kind"))
        for constraint in column.args.get("constraints") or []:
            if isinstance(constraint.kind, exp.PrimaryKeyColumnConstraint):
                found.key.append(name)
            if isinstance(constraint.kind, exp.CollateColumnConstraint):
                collation = constraint.kind.this.name
                found.types[name] = f"VARCHAR(16777216) COLLATE '{collation}'"
    for change in statement.find_all(exp.AlterColumn):
        if change.args.get("dtype"):
            remember_type(found, stored(change.this), change.args["dtype"])
    for constraint in statement.find_all(exp.PrimaryKey):
        found.key = [stored(one) for one in constraint.expressions]
    TABLES[where] = found


def remember_type(found: Declared, column: str, kind: Any) -> None:
    found.types.pop(column, None)
    if isinstance(kind, exp.DataType) and kind.this in SIZED and kind.expressions:
        found.types[column] = f"{SIZED[kind.this]}({kind.expressions[0].name})"


def shown_keys(cursor: Any, table: exp.Table) -> str:
    """The query that answers SHOW PRIMARY KEYS IN TABLE."""
    key = TABLES[place(cursor, table)].key
    rows = [
        f'SELECT \'{escaped(name)}\' AS "column_name", {number} AS "key_sequence"'
        for number, name in enumerate(key, start=1)
    ]
    return " UNION ALL ".join(rows)


DESCRIBE = """
SELECT
    column_name AS "name",
    CASE {declared} WHEN column_type = 'BIGINT' THEN 'NUMBER(38,0)'
        WHEN starts_with(column_type, 'DECIMAL') THEN replace(column_type, 'DECIMAL', 'NUMBER')
        WHEN column_type = 'VARCHAR' THEN 'VARCHAR(16777216)'
        WHEN column_type = 'TIMESTAMP' THEN 'TIMESTAMP_NTZ(9)'
        WHEN column_type = 'TIMESTAMP WITH TIME ZONE' THEN 'TIMESTAMP_TZ(9)'
        WHEN column_type = 'TIME' THEN 'TIME(9)'
        WHEN column_type = 'BLOB' THEN 'BINARY(8388608)'
        WHEN column_type = 'DOUBLE' THEN 'FLOAT'
        WHEN column_type = 'JSON' THEN 'VARIANT'
        ELSE column_type END AS "type",
    'COLUMN' AS "kind",
    CASE WHEN "null" = 'YES' THEN 'Y' ELSE 'N' END AS "null?",
    "default" AS "default",
    CASE WHEN column_name IN ({key}) THEN 'Y' ELSE 'N' END AS "primary key"
FROM (DESCRIBE "{place}")
"""


def described(expression: Any, *where: Any) -> Any:
    """With the key, collations and digits, of which fakesnow says nothing; and without its
    views, which take DuckDB ten times as long."""
    table = expression.find(exp.Table)
    if not isinstance(expression, exp.Describe) or table is None:
        return expression
    names = (table.catalog or where[0], table.db or where[1], table.name)
    known = TABLES.get(names, Declared())
    text = DESCRIBE.format(
        declared=" ".join(
            f"WHEN column_name = '{escaped(column)}' THEN '{escaped(kind)}'"
            for column, kind in known.types.items()
        ),
        key=", ".join(f"'{escaped(column)}'" for column in ["", *known.key]),
        place='"."'.join(one.replace('"', '""') for one in names),
    )
    return sqlglot.parse_one(text, read="duckdb")


def is_nanoseconds(kind: Any) -> bool:
    """Whether a type was written as TIMESTAMP_NTZ(9). fakesnow keeps microseconds of each."""
    return (
        isinstance(kind, exp.DataType)
        and kind.this == exp.DType.TIMESTAMPNTZ
        and [one.name for one in kind.expressions] == ["9"]
    )


def nanoseconds(expression: Any) -> Any:
    """A type for them; and the digits of a second from the value's text, since DuckDB's own
    function knows no times of day and no years behind 2262."""
    if is_nanoseconds(expression):
        return exp.DataType(this=exp.DType.TIMESTAMP_NS, nested=False)
    if isinstance(expression, exp.Extract) and expression.this.name.upper() == "NANOSECOND":
        value = expression.expression.sql(dialect="duckdb")
        digits = f"regexp_extract(CAST({value} AS VARCHAR), '\\.([0-9]+)', 1)"
        return sqlglot.parse_one(f"CAST(rpad({digits}, 9, '0') AS BIGINT)", read="duckdb")
    return expression


def collations(expression: Any) -> Any:
    """Those that ignore case are DuckDB's NOCASE; COLLATE(…, '') takes any away."""
    if isinstance(expression, exp.CollateColumnConstraint):
        return exp.CollateColumnConstraint(this=exp.to_identifier("NOCASE"))
    if isinstance(expression, exp.Collate) and expression.expression.name == "":
        value = expression.this.sql(dialect="duckdb")
        return sqlglot.parse_one(f"({value} COLLATE C)", read="duckdb")
    return expression


def remove_files(connection: Any, place: str) -> None:
    """REMOVE, which fakesnow does not know: of all files whose names in the stage begin so."""
    name, _, path = place.partition("/")
    parts = stage.parts_from_var(name, connection.database, connection.schema)
    folder = Path(stage.internal_dir(".".join(parts)))
    for file in folder.rglob("*"):
        if file.is_file() and str(file.relative_to(folder)).startswith(path):
            file.unlink()


def refuse_duplicates(cursor: Any, merge: exp.Merge) -> None:
    target, source = merge.this, merge.args["using"]
    found = connection_of(cursor)
    execute(
        found,
        f"SELECT count(*) FROM (SELECT {target.alias_or_name}.rowid FROM "
        f"{target.sql(dialect='snowflake')} JOIN {source.sql(dialect='snowflake')} "
        f"ON {merge.args['on'].sql(dialect='snowflake')} GROUP BY 1 HAVING count(*) > 1) AS twice",
        server=True,
    )
    if found._arrow_table.column(0)[0].as_py():
        raise ProgrammingError(
            msg="Duplicate row detected during DML action", errno=100090, sqlstate="42P18"
        )


def connection_of(cursor: Any) -> Any:
    return cursor._conn.cursor()


KEPT = (
    transforms.upper_case_unquoted_identifiers,
    transforms.alter_session,
    transforms.extract_comment_on_table,
    transforms.extract_comment_on_columns,
    transforms.information_schema_fs,
    transforms.drop_schema_cascade,
    transforms.semi_structured_types,
    transforms.trim_cast_varchar,
    transforms.values_columns,
    transforms.to_timestamp,
    transforms.timestamp_ntz,
    transforms.float_to_double,
    transforms.extract_text_length,
    transforms.hex_string,
    transforms.alias_in_join,
    transforms.alias_in_where,
)


def transformed(cursor: Any, statement: exp.Expression, params: Any) -> exp.Expression:
    """Those of fakesnow's eighty transforms that Rowtrail's SQL needs: each walks through all of a
    statement, which takes a third of the time of these tests."""
    database, schema = cursor._conn.database, cursor._conn.schema
    for each in (
        nanoseconds,
        collations,
        *KEPT,
        without_keys,
        precisely,
        lambda e: transforms.set_schema(e, current_database=database),
        lambda e: transforms.create_database(e, db_path=cursor._conn.db_path),
        lambda e: transforms.create_stage(e, database, schema),
        lambda e: transforms.list_stage(e, database, schema, cursor._conn.table_stages),
        lambda e: transforms.put_stage(e, database, schema, params, cursor._conn.table_stages),
        lambda e: transforms.create_table_as(e, cursor._duck_conn),
    ):
        statement = statement.transform(each, copy=False)
    return statement


def without_keys(expression: Any) -> Any:
    """Snowflake keeps no key unique, whatever a table says; of a primary key it keeps NOT NULL."""
    if isinstance(expression, exp.PrimaryKeyColumnConstraint):
        return exp.NotNullColumnConstraint()
    if isinstance(expression, exp.Schema):
        kept = [one for one in expression.expressions if not isinstance(one, KEYS)]
        expression.set("expressions", kept)
    return expression


KEYS = (exp.PrimaryKey, exp.UniqueColumnConstraint)

integers = transforms.integer_precision


def precisely(expression: Any) -> Any:
    """NUMBER(38,0) holds 38 digits; fakesnow makes it a BIGINT, for the sake of DataFrames."""
    if isinstance(expression, exp.DataType) and expression.expressions:
        return expression
    return integers(expression)


lengths = info_schema.insert_text_lengths_sql


def quoted_lengths(catalog: str, schema: str, table: str, found: list[tuple[str, int]]) -> str:
    """Names as literals of SQL."""
    names = (catalog, schema, table)
    return lengths(*map(escaped, names), [(escaped(name), size) for name, size in found])


def escaped(name: str) -> str:
    return name.replace("'", "''")


def main() -> None:
    warnings.simplefilter("ignore")
    server.logger.setLevel(logging.ERROR)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    FakeSnowflakeCursor._transform = transformed
    info_schema.insert_text_lengths_sql = quoted_lengths
    FakeSnowflakeCursor._execute = refusing
    FakeSnowflakeCursor.execute = guarded
    server.gcs_stage_info = upload_info
    arrow.timestamp_to_sf_struct = timestamps
    transforms.describe_table = described
    server.parse_one = parse_one
    # It writes to another database, which DuckDB refuses within a transaction.
    info_schema.insert_table_comment_sql = lambda *_, **__: "SELECT 1"
    ours = {
        "/session/v1/login-request": login,
        "/session": logout,
        "/queries/v1/query-request": query,
    }
    routes = [
        type(route)(
            route.path,
            ours.get(route.path, route.endpoint),
            methods=[one for one in route.methods if one != "HEAD"],
        )
        for route in server.routes
    ]
    app = server.Starlette(routes=routes)
    # With its protocol, else asyncio leaves Nagle's algorithm on: 40 ms for each answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    print(listening.getsockname()[1], flush=True)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=lambda: (sys.stdin.read(), running.handle_exit(15, None))).start()
    running.run(sockets=[listening])


if __name__ == "__main__":
    main()
