"""Messages about rows with redacted values: every spelling goes, and only what has to."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtrail.checkpoints.states import Stage
from rowtrail.connectors.base import Capture
from rowtrail.connectors.changes import (
    Changes,
    Operation,
    Version,
    constant_versions,
    operations_array,
)
from rowtrail.connectors.errors import (
    ConfigurationError,
    OwnershipError,
    PositionLostError,
    RecordError,
    RowtrailError,
    StopError,
    TransientError,
)
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.definition import PatternDefinition, StreamDefinition
from rowtrail.pipelines.images import Keeping
from rowtrail.pipelines.isolation import EveryProbeFailedError, FailsTogetherError
from rowtrail.pipelines.masking import LONGEST, PREFIX, SHORT, without
from rowtrail.pipelines.plan import new_failure
from rowtrail.pipelines.redaction import NOTHING_REDACTED, Redaction, redaction_of
from rowtrail.pipelines.stages import FailedRow

REDACTION = Redaction(
    columns=frozenset({"email"}), names=frozenset({"id", "email", "note", "people"})
)


def rows(*emails: object, note: str = "plain") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"id": list(range(len(emails))), "Email": list(emails), "note": [note] * len(emails)}
    )


@pytest.mark.parametrize(
    ("value", "spellings"),
    [
        (
            "Ann O'Hara",
            ["Ann O'Hara", "ann o'hara", "ANN O'HARA", "Ann O''Hara", repr("Ann O'Hara")],
        ),
        ('say "hi"', ['say "hi"', json.dumps('say "hi"'), 'say ""hi""']),
        ("  spaced  out ", ["  spaced  out ", "spaced  out"]),
        (
            "Zoë\nLine",
            ["Zoë\nLine", repr("Zoë\nLine"), ascii("Zoë\nLine"), json.dumps("Zoë\nLine")],
        ),
        (1234567, ["1234567", "1,234,567"]),
        (7, ["7"]),
        (1234.5, ["1234.5"]),
        (Decimal("1234567.890"), ["1234567.890", "1,234,567.890", "1234567.89"]),
        (date(2024, 1, 31), ["2024-01-31", repr(date(2024, 1, 31))]),
        (time(23, 59), ["23:59:00"]),
        (
            datetime(2024, 1, 31, 9, 5, 7, 120000, tzinfo=UTC),
            ["2024-01-31T09:05:07.120000+00:00", "2024-01-31 09:05:07", "2024-01-31"],
        ),
        (b"\x00secret\xff", ["0073656372657", r"\x00secret\xff", "AHNlY3JldP8="]),
        (True, ["True", "true"]),
        ({"inner": "value-of-it"}, ["{'inner': 'value-of-it'}", "value-of-it"]),
        (["first-one", "second-one"], ["['first-one', 'second-one']", "second-one"]),
    ],
)
def test_every_spelling_of_a_value_goes(value: object, spellings: list[str]) -> None:
    for spelling in spellings:
        told = REDACTION.masked(f"no: {spelling}; or ({spelling})!", rows(value))
        assert spelling.lower() not in told.lower(), spelling
        assert told.startswith("no: ") and "***" in told


def says_something(text: str) -> bool:
    """Not only blanks, nor what looks like the mask itself."""
    return bool(text.strip().strip("*"))


@given(
    st.text(min_size=1).filter(says_something),
    st.sampled_from(["{}", "<{!r}>", "x={!a};", "'{}'"]),
)
def test_no_text_is_left_in_a_message(value: str, form: str) -> None:
    message = form.format(value)
    told = REDACTION.masked(f"bad {message} of people", rows(value))
    assert message not in told or message in "bad of people ***"


def test_a_short_value_goes_as_a_word_only() -> None:
    assert REDACTION.masked("a bad part at a", rows("a")) == "*** bad part at ***"
    assert REDACTION.masked("all of it", rows("", None)) == "all of it"


def test_what_a_message_cut_off_goes_as_far_as_it_stands_there() -> None:
    value = "correct horse battery staple"
    assert REDACTION.masked("bad: correct horse ba…", rows(value)) == "bad: ***…"


@given(
    st.lists(st.text("abX é'İ", min_size=1, max_size=30).filter(str.strip), max_size=6),
    st.text("abx é'", max_size=20),
)
def test_nothing_known_is_left_whatever_stands_around_it(values: list[str], between: str) -> None:
    """Of many values at once, whole or without their end."""
    long = [value for value in values if len(value) >= SHORT]
    message = "-".join(between.join((value, value[:PREFIX], value.upper())) for value in long)
    told = without(message, values).lower()
    assert all(value.lower() not in told for value in long)


def test_a_message_without_end_is_cut() -> None:
    told = REDACTION.masked("x" * LONGEST + "ann@b.c", rows("ann@b.c"))
    assert told.startswith("xxx") and told.endswith("x…") and len(told) <= LONGEST
    at_the_end = "y" * (LONGEST - 5) + "correct horse"
    assert "corr" not in REDACTION.masked(at_the_end, rows("correct horse battery"))


def test_the_parts_of_one_word_go_of_one_row() -> None:
    assert REDACTION.masked("no host example.org", rows("ann@example.org")) == "no host ***.org"
    both = rows("ann@example.org", "bob@example.org")
    assert REDACTION.masked("no host example.org", both) == "no host example.org"
    assert REDACTION.masked("the order of it", rows("the order failed")) == "the order of it"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Could not convert 'abc' with type str", "Could not convert '***' with type str"),
        ('invalid input: "abc"', 'invalid input: "***"'),
        ("column 'email' of \"people\" isn't so, it doesn't", None),
        ("currency 'plain' is unknown", None),
        ("got a 'str' object", None),
        ("Key (email)=(a@b.c) already exists", "Key (email)=(***) already exists"),
        ('Key (id, "Email")=(1, a (b) c) exists', 'Key (id, "Email")=(***) exists'),
        ("Key (id)=(1) already exists", None),
    ],
)
def test_quotations_go_unless_they_are_known(message: str, told: str | None) -> None:
    assert REDACTION.masked(message, rows("else"), quoted=True) == (told or message)


def test_without_redaction_nothing_changes() -> None:
    assert NOTHING_REDACTED.masked("Key (email)=(a)", rows("a"), quoted=True) == "Key (email)=(a)"
    with pytest.raises(ValueError, match=r"a@b\.c"), NOTHING_REDACTED.telling(rows("a@b.c")):
        raise ValueError("a@b.c")


@pytest.mark.parametrize(
    "error",
    [
        StopError("bad: ann@b.c"),
        TransientError("bad: ANN@B.C"),
        RecordError("bad: 'ann@b.c'", column="email"),
        PositionLostError("bad: ann@b.c"),
        OwnershipError("bad: ann@b.c", generation=7),
        EveryProbeFailedError("bad: 'ann@b.c'."),
        FailsTogetherError((3, 4), ValueError("bad: ann@b.c")),
    ],
)
def test_what_is_raised_says_no_value(error: RowtrailError) -> None:
    """Neither do its causes, which a traceback prints; its kind and all else stay."""
    batch = rows("zoe@b.c", "ann@b.c")
    with pytest.raises(type(error)) as caught, REDACTION.telling(batch):
        try:
            raise ValueError("Key (email)=(ann@b.c)")
        except ValueError as cause:
            raise error from cause
    assert caught.value is error
    assert "ann@b.c" not in "".join(traceback.format_exception(caught.value)).lower()
    assert "***" in str(error)
    if isinstance(error, FailsTogetherError):
        assert error.rows == (3, 4) and str(error.cause) == "ValueError: bad: ***"
    if isinstance(error, OwnershipError):
        assert error.generation == 7


def test_a_mistake_of_ours_says_no_value_either() -> None:
    value = "@".join(("ann", "b.c"))  # a traceback tells lines of code
    match = r"KeyError: '\*\*\*'"
    with pytest.raises(RuntimeError, match=match) as caught, REDACTION.telling(rows(value)):
        raise KeyError(value)
    assert value not in "".join(traceback.format_exception(caught.value))


def test_errors_about_records_can_be_left_for_later() -> None:
    with pytest.raises(RecordError, match="ann"), REDACTION.telling(rows("ann"), records=False):
        raise RecordError("ann")


def test_a_value_that_a_transform_moved_is_not_told_of_a_failed_load() -> None:
    """The row at the target has it in another column; the row as it was read tells it."""
    changes = Changes(
        stream="people",
        schema=TableSchema(
            table="people",
            columns=(Column(name="id", type=pa.int64()), Column(name="Email", type=pa.string())),
            key=("id",),
        ),
        rows=rows("ann@b.c").select(["id", "Email"]),
        operations=operations_array([Operation.INSERT]),
        versions=constant_versions(Version(1, 1, 0, 0), 1),
        position="",
    )
    moved = pa.RecordBatch.from_pydict({"id": [0], "contact": ["ann@b.c"]})
    failed = FailedRow(
        row=0, stage=Stage.LOAD, error_class="E", message="no ann@b.c", transformed=moved
    )
    failure = new_failure(changes, failed, None, Keeping(redaction=REDACTION))
    assert failure.message == "no ***"
    other = new_failure(
        changes, replace(failed, message="no ***"), None, Keeping(redaction=REDACTION)
    )
    assert failure.fingerprint == other.fingerprint, "it is made from what is kept"
    assert failure.transformed is None and b"ann" not in (failure.extracted or b"")


PEOPLE = TableSchema(
    table="people",
    columns=tuple(Column(name=name, type=pa.string()) for name in ("id", "Email", "seen")),
    key=("id",),
)


def stream(**settings: object) -> StreamDefinition:
    return StreamDefinition(
        name="people", table="people", target="people", capture=Capture.TRIGGER, **settings
    )  # type: ignore[arg-type]


def test_columns_are_found_whatever_their_case() -> None:
    assert redaction_of(stream(redact=("EMAIL",)), PEOPLE).columns == {"email"}
    assert not redaction_of(stream(), PEOPLE)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"redact": ("email", "phone")}, "to redact phone, which table people does not have"),
        ({"redact": ("ID",)}, "cannot redact column id, which is part of the key"),
        ({"redact_where_found": ("id",)}, "cannot redact column id, which is part of the key"),
        ({"redact": ("seen",), "cursor": "seen"}, "cannot redact column seen, which is the cursor"),
    ],
)
def test_what_cannot_be_redacted_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        redaction_of(stream(**settings), PEOPLE)


def test_a_pattern_redacts_where_there_is_such_a_column() -> None:
    template = PatternDefinition(template=stream(redact=("email", "phone"))).template
    assert redaction_of(template, PEOPLE).columns == {"email"}
