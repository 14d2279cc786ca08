"""Which failures are one group: messages of libraries and databases as these really say them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from uuid import UUID

import duckdb
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rowtrail.checkpoints.states import Stage
from rowtrail.pipelines.fingerprints import error_fingerprint, normalized

VALUES = [
    "abc",
    "a b",
    "",
    "x1",
    "it's",
    "O'Neil, Ann",
    'say "hi"',
    "2024-13-01",
    "a@b.example",
    "/srv/data/1.csv",
    "C:\\data\\",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "0xFF",
    "column",
    "🦊 naïve",
    "line\nbreak",
    "--1.5",
]


def said(action: Callable[[], object]) -> str:
    """What an action that must fail says."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever it is: its words are what counts
        return str(error)
    raise AssertionError("it did not fail")


def one_form(messages: Sequence[str]) -> str:
    """The form that all of them have, once values are taken out."""
    forms = {normalized(message) for message in messages}
    assert len(forms) == 1, forms
    return forms.pop()


# --- Python, pandas, pyarrow -----------------------------------------------------------------


def in_pandas(column: str, value: object) -> pa.Table:
    frame = pd.DataFrame({column: pd.Series([value], dtype=object)})
    return pa.Table.from_pandas(frame, schema=pa.schema([(column, pa.int64())]))


@pytest.mark.parametrize(
    "action",
    [
        float,
        int,
        lambda value: pa.array([value], pa.int64()),
        lambda value: pd.to_numeric(pd.Series([value], dtype=object)),
        lambda value: {}[value],
        lambda value: in_pandas("amount", value),
        lambda value: UUID(value).hex and None,
    ],
    ids=["float", "int", "pyarrow", "to_numeric", "KeyError", "from_pandas", "uuid"],
)
def test_values_that_libraries_quote(action: Callable[[str], object]) -> None:
    messages = []
    for value in VALUES:
        try:
            action(value)
        except Exception as error:  # noqa: BLE001
            messages.append(str(error))
    assert len(messages) > len(VALUES) // 2
    one_form(messages)


@given(value=st.text())
@example("\\")
@example("'")
@example("\"'")
@example("' at 1")
@example("0" * 300)
@example("it's " * 60)
def test_any_text_that_python_quotes(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        int(f"{value}_")
    assert normalized(str(caught.value)) == "invalid literal for int() with base ?: ?"


@given(number=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_any_number(number: float) -> None:
    assert normalized(f"amount {number} is above {number}%, so: ({number})") == (
        "amount ? is above ?, so: (?)"
    )


@given(
    values=st.lists(st.one_of(st.integers(), st.dates(), st.uuids(), st.datetimes()), min_size=1)
)
def test_lists_of_any_length(values: list[object]) -> None:
    text = ", ".join(map(str, values))
    assert normalized(f"no rate for [{text}] yet") == "no rate for [?] yet"
    assert normalized(f"no rate for {values[0]}") == "no rate for ?"


def test_columns_that_pyarrow_names_are_told_apart() -> None:
    amounts = [said(lambda value=value: in_pandas("amount", value)) for value in ("a", "b's")]
    other = said(lambda: in_pandas("size", "a"))
    assert one_form(amounts).endswith("column amount with type object")
    assert normalized(other) == one_form(amounts).replace("amount", "size")


def test_types_that_pyarrow_names_are_told_apart() -> None:
    texts = pa.array(["abc"]), pa.array(["1x"])
    forms = {
        one_form([said(lambda text=text, kind=kind: pc.cast(text, kind)) for text in texts])
        for kind in (pa.int32(), pa.int64(), pa.float64())
    }
    assert len(forms) == 3


@pytest.mark.parametrize(
    "values", [["abc", "what is it"], ["2024-02-30", "2023-02-29"], ["2024-13-01", "2024-14-01"]]
)
def test_times_that_pandas_cannot_read(values: list[str]) -> None:
    one_form([said(lambda value=value: pd.to_datetime(pd.Series([value]))) for value in values])


def test_times_that_python_cannot_read() -> None:
    one_form([said(lambda value=value: datetime.strptime(value, "%Y")) for value in ("x", "y's")])


def test_kinds_of_values_are_causes() -> None:
    def added(one: object) -> str:
        return said(lambda: 1 + one)  # type: ignore[operator]

    assert normalized(added("x")) != normalized(added(None))
    assert normalized(said(lambda: None.strip())) != normalized(said(lambda: (1).strip()))  # type: ignore[attr-defined]


# --- DuckDB ----------------------------------------------------------------------------------


def test_what_duckdb_says() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id INT PRIMARY KEY, email TEXT UNIQUE, phone TEXT UNIQUE, "
            "line_1 TEXT NOT NULL, line_2 TEXT NOT NULL, n DECIMAL(5,2), CHECK (n > 10), "
            "CHECK (n <> 20), CHECK (email <> 'x1'))"
        )
        connection.execute(
            "INSERT INTO t VALUES (1, 'a@b', '1', '', '', 11), (2, 'c', '2', '', '', 12)"
        )

        def refused(*values: object) -> str:
            marks = ", ".join("?" * len(values))
            return said(lambda: connection.execute(f"INSERT INTO t VALUES ({marks})", values))

        causes = [
            [refused(1, "x", "y", "", "", 11), refused(2, "x", "y", "", "", 11)],
            [refused(9, "a@b", "y", "", "", 11), refused(9, "c", "y", "", "", 11)],
            [refused(9, "x", "1", "", "", 11), refused(9, "x", "2", "", "", 11)],
            [refused(9, "x", "y", None, "", 11)],
            [refused(9, "x", "y", "", None, 11)],
            [refused(9, "x", "y", "", "", 9), refused(8, "z", "w", "", "", 8)],
            [refused(9, "x", "y", "", "", 20)],
            [refused(9, "x1", "y", "", "", 11)],
            [refused(value, "x", "y", "", "", 11) for value in ("abc", "1x", "a b", "O'Neil")],
            [refused(9, "x", "y", "", "", value) for value in ("12345.67", "-99999")],
        ]
    assert len({one_form(cause) for cause in causes}) == len(causes)


# --- PostgreSQL ------------------------------------------------------------------------------


def test_what_postgresql_says(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('ok');"
            "CREATE TABLE people (id int PRIMARY KEY);"
            "CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE, phone text UNIQUE, "
            "line_1 text NOT NULL, line_2 text NOT NULL, short varchar(3), long varchar(5), "
            "n numeric(5,2), m numeric(4,2), feeling mood, at timestamptz, data jsonb, "
            "owner int REFERENCES people, maker int REFERENCES people, "
            "CONSTRAINT check_1 CHECK (n > 10), CONSTRAINT check_2 CHECK (n <> 20), "
            "EXCLUDE USING gist (int4range(id, id + 1) WITH &&));"
            "CREATE UNIQUE INDEX two ON t (lower(email), phone);"
            "INSERT INTO t (id, email, phone, line_1, line_2) "
            "VALUES (1, 'a@b', '1', '', ''), (2, 'c (d)', '2', '', '')"
        )

        def refused(**values: object) -> str:
            row: dict[str, object] = {"id": 9, "line_1": "", "line_2": ""} | values
            columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            sql = f"INSERT INTO t ({columns}) VALUES ({marks})"
            return said(lambda: connection.execute(sql.encode(), list(map(text, row.values()))))

        def text(value: object) -> str | None:
            return None if value is None else str(value)

        causes = [
            [refused(id=1), refused(id=2)],
            [refused(email="a@b"), refused(email="c (d)")],
            [refused(phone="1"), refused(phone="2")],
            [refused(line_1=None), refused(id=10, email="it's", line_1=None)],
            [refused(line_2=None), refused(id=10, email='"', line_2=None)],
            [refused(short="abcd"), refused(short="12345")],
            [refused(long="abcdef")],
            [refused(n="1234.5"), refused(n="-99999")],
            [refused(m="1234.5")],
            [refused(n=9), refused(n=8, email="x")],
            [refused(n=20), refused(n=20, email="y")],
            [refused(feeling=value) for value in ("bad", "b'ad", 'b"ad', "42")],
            [refused(at=value) for value in ("abc", "2024-1x")],
            [refused(at=value) for value in ("2024-13-01", "2024-02-31")],
            [refused(owner=7), refused(owner=8)],
            [refused(maker=7), refused(maker=8)],
            [refused(n=value) for value in ("abc", "1x", "a b")],
        ]
    forms = [one_form(cause) for cause in causes]
    assert len(set(forms)) == len(causes)
    assert "(email)=? already exists" in forms[1]


# --- the rest --------------------------------------------------------------------------------


@given(value=st.text(min_size=1, max_size=20))
@example(")")
@example("(")
def test_the_key_that_postgresql_quotes_is_a_value(value: str) -> None:
    message = f"Key (email, line_2)=({value}, 2) already exists."
    assert normalized(message) == "Key (email, line_2)=? already exists."


def test_names_of_columns_are_no_values() -> None:
    def form(message: str) -> str:
        return normalized(message, frozenset({"line_1", "line_2", "id"}))

    for say in ("{} is empty", "no {} for 42", "'{}' not in index", "lines.{} has 7 words"):
        assert form(say.format("line_1")) != form(say.format("line_2"))
        assert form(say.format("sku-1")) == form(say.format("sku-22"))


def test_what_rowtrail_itself_says_of_values() -> None:
    where = "DuckDB could not write to table orders of /srv/shop-2/warehouse.duckdb"
    first = f"{where}: column note_1 may not be NULL. Correct the row at the source."
    assert "column note_1 may not be NULL" in normalized(first)
    assert normalized(first) != normalized(first.replace("note_1", "note_2"))
    assert normalized(first) == normalized(first.replace("shop-2", "shop-3"))
    waiting = "an older change of orders:{} has to be loaded first"
    assert normalized(waiting.format(42)) == normalized(waiting.format("7,3"))


def test_stage_and_class_are_part_of_the_cause() -> None:
    prints = {
        error_fingerprint(stage, kind, "it is 5", columns)
        for stage in Stage
        for kind in ("ValueError", "KeyError")
        for columns in ((), ("id",))
    }
    assert len(prints) == len(Stage) * 2
    assert all(len(one) == 16 for one in prints)


def test_a_message_of_any_length_and_kind_has_a_form() -> None:
    long = "'" * 100_000 + "(" * 100_000 + "/" * 100_000
    assert normalized(long)
    assert normalized("") == ""
    assert normalized("('" + "x" * 10) == normalized("('" + "x" * 10)
    assert normalized(f"due {date(2024, 1, 2)}") == normalized("due 1999-12-31T23:59:59.5+01:00")
