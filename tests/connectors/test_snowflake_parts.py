"""Names, URLs, types and errors of Snowflake, where no server is needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa
import pytest
from snowflake.connector import errors as driver

from rowtrail.connectors.destinations.snowflake_types import (
    LONGEST_BINARY,
    LONGEST_TEXT,
    check_limits,
    takes,
    widens,
)
from rowtrail.connectors.errors import (
    ConfigurationError,
    RecordError,
    RowtrailError,
    StopError,
    TransientError,
)
from rowtrail.connectors.snowflake_client import SnowflakeUrl, fold, quote_text, unfold
from rowtrail.connectors.snowflake_errors import translate


@pytest.mark.parametrize(
    ("written", "stored", "shown"),
    [
        ("orders", "ORDERS", "orders"),
        ("Orders", "ORDERS", "orders"),
        ("_a1$", "_A1$", "_a1$"),
        ("with space", "with space", "with space"),
        ("1st", "1st", "1st"),
        ("naïve", "naïve", "naïve"),
    ],
)
def test_names_are_folded_as_snowflake_does(written: str, stored: str, shown: str) -> None:
    assert fold(written) == stored
    assert unfold(stored) == shown
    assert fold(shown) == stored


def test_a_text_is_a_literal_whatever_it_holds() -> None:
    assert quote_text("it's \\ 'so'") == "'it''s \\\\ ''so'''"


def test_a_url_keeps_its_secrets() -> None:
    url = SnowflakeUrl("snowflake://me:pass%40word@acme-eu/shop/public?warehouse=wh&role=loader")
    assert url.name == "acme-eu/SHOP/PUBLIC"
    assert "pass" not in url.name


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("snowflake://me@acme/shop", "a database and a schema"),
        ("snowflake://me@acme", "a database and a schema"),
        ("snowflake:///shop/public", "names no account"),
        ("snowflake://me@acme/shop/public?warhouse=wh", "warhouse"),
        ("snowflake://me@acme/shop/public?port=many", "no whole number"),
        ("snowflake://me@acme/shop/public?x", "not an option"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        SnowflakeUrl(url)


def test_a_url_may_name_a_connection_instead_of_an_account() -> None:
    assert SnowflakeUrl("snowflake:///shop/public?connection_name=dev").name == "dev/SHOP/PUBLIC"


@pytest.mark.parametrize(
    ("existing", "wanted", "taken", "widened"),
    [
        ("NUMBER(10,0)", "NUMBER(19,0)", False, True),
        ("NUMBER(19,0)", "NUMBER(10,0)", True, False),
        ("NUMBER(10,2)", "NUMBER(12,3)", False, False),
        ("NUMBER(12,3)", "NUMBER(10,2)", True, False),
        ("NUMBER(38,0)", "NUMBER(20,0)", True, False),
        ("FLOAT", "NUMBER(10,0)", True, False),
        ("FLOAT", "NUMBER(19,0)", False, False),
        ("NUMBER(10,0)", "FLOAT", False, False),
        ("VARCHAR(20)", "VARCHAR", False, True),
        ("VARCHAR", "VARCHAR(20)", True, False),
        ("VARCHAR(16777216)", "VARCHAR", True, False),
        ("BINARY(8388608)", "BINARY", True, False),
        ("TIMESTAMP_TZ(9)", "TIMESTAMP_TZ(6)", True, False),
        ("TIMESTAMP_NTZ(9)", "TIMESTAMP_TZ(6)", False, False),
        ("TIMESTAMP_NTZ(3)", "TIMESTAMP_NTZ(6)", False, False),
        ("VARIANT", "VARCHAR", False, False),
        ("DATE", "DATE", True, False),
    ],
)
def test_which_type_takes_which(existing: str, wanted: str, taken: bool, widened: bool) -> None:
    assert takes(existing, wanted) == taken
    assert widens(existing, wanted, False) == widened


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (pa.string(), ["x" * LONGEST_TEXT, None], "x" * (LONGEST_TEXT + 1)),
        (pa.string(), ["é" * (LONGEST_TEXT // 2)], "é" * (LONGEST_TEXT // 2 + 1)),
        (pa.binary(), [b"x" * LONGEST_BINARY], b"x" * (LONGEST_BINARY + 1)),
        (pa.date32(), [date.min, date.max], -719_163),
        (pa.timestamp("us"), [datetime.min, datetime.max], 253_402_300_800_000_000),
        (pa.timestamp("ms", tz="UTC"), [datetime.min], -62_135_596_800_001),
        (pa.time64("us"), [0], 86_400_000_000),
    ],
    ids=["text", "text of two bytes", "blob", "date", "time stamp", "instant", "time"],
)
def test_values_that_no_column_holds(
    kind: pa.DataType, good: Sequence[object], bad: object
) -> None:
    check_limits("orders", pa.record_batch({"n": pa.array(good, kind)}))
    with pytest.raises(RecordError) as caught:
        check_limits("orders", pa.record_batch({"n": pa.array([*good, bad], kind)}))
    assert caught.value.column == "n"


def test_a_text_that_is_no_utf8() -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(RecordError, match="not UTF-8"):
        check_limits("orders", pa.record_batch({"n": broken}))


@pytest.mark.parametrize(
    ("code", "state", "family", "says"),
    [
        (390100, "08001", ConfigurationError, "how the user signs in"),
        (390303, "08001", ConfigurationError, "OAuth token"),
        (390114, "08001", TransientError, "token has expired"),
        (390111, "08001", TransientError, "session is lost"),
        (606, "57P03", ConfigurationError, "RESUME"),
        (90073, "57014", ConfigurationError, "resource monitor"),
        (625, "57014", TransientError, "in the way"),
        (630, "57014", TransientError, "statement_timeout"),
        (2003, "42S02", ConfigurationError, "docs/snowflake.md"),
        (1003, "42000", ConfigurationError, "schema may have changed"),
        (100183, "22000", StopError, "query history"),
    ],
)
def test_errors_by_what_to_do(
    code: int, state: str, family: type[RowtrailError], says: str
) -> None:
    error = driver.ProgrammingError(msg="It cannot be.", errno=code, sqlstate=state)
    told = translate(error, "write to table orders", "acme/SHOP/PUBLIC")
    assert type(told) is family
    assert "Snowflake at acme/SHOP/PUBLIC could not write to table orders" in str(told)
    assert says in str(told)


def test_an_error_about_a_value_keeps_the_value_to_itself() -> None:
    error = driver.ProgrammingError(
        msg="Numeric value 'secret' is not recognized", errno=100038, sqlstate="22018"
    )
    told = translate(error, "write to table orders", "acme/SHOP/PUBLIC", record=True)
    assert isinstance(told, RecordError)
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (250003, "Failed to execute request: timed out"),
        (250001, "Failed to login: HTTP request failed after retries: Connection refused"),
        (4, "HTTP request failed after retries: query request"),
    ],
)
def test_a_connection_that_is_cut_may_come_back(code: int, words: str) -> None:
    error = driver.OperationalError(msg=words, errno=code)
    told = translate(error, "connect", "acme/SHOP/PUBLIC")
    assert isinstance(told, TransientError)
    assert "the network" in str(told)


def test_a_sign_in_that_is_refused_is_no_lost_connection() -> None:
    error = driver.DatabaseError(msg="Incorrect username or password", errno=250001)
    told = translate(error, "connect", "acme/SHOP/PUBLIC")
    assert isinstance(told, ConfigurationError)
    assert "how the user signs in" in str(told)


def test_a_server_that_is_not_there() -> None:
    """The connector's own words, of whichever line it is."""
    url = "snowflake://me:secret@acme/shop/public?host=127.0.0.1&port=9&protocol=http"
    with pytest.raises(TransientError, match="the network") as caught:
        SnowflakeUrl(url).connect()
    assert "secret" not in str(caught.value)
