"""Which pattern means which table, and how streams are called after their tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtrail.pipelines.definition_mistakes import NAME
from rowtrail.pipelines.table_names import matches, may_be_of, same_table, stream_name

ODD = (
    "my lines",
    "größe",
    "a:b",
    'say "x"',
    "tab\tle",
    "sales.my lines",
    '"a.b"."c"',
    "..",
    "x" * 90,
)


@pytest.mark.parametrize(
    ("pattern", "table", "expected"),
    [
        ("*", "orders", True),
        ("*", "sales.orders", True),
        ("*", "a*b\nc", True),
        ("public.*", "orders", True),
        ("public.*", "sales.orders", False),
        ("publi*.x", "publicity", False),
        ("sales.*", "sales.orders", True),
        ("sales.*", "salesXorders", False),
        ("*.orders", "orders", True),
        ("*.orders", "sales.orders", True),
        ("orders_*", "orders_2024", True),
        ("orders_*", "public.orders_2024", False),
        ("public.orders_*", "orders_2024", True),
        ("Orders*", "orders", False),
        ("a[b]*", "a[b]c", True),
        ("a[b]*", "abc", False),
        ("a.b*", "aXb", False),
        ("orders", "orders", True),
        ("My Schema.*", '"My Schema"."Order.Items"', True),
        ("sales.*_log", "sales.a.b_log", True),
    ],
)
def test_what_a_pattern_means(pattern: str, table: str, expected: bool) -> None:
    assert matches(pattern, table) is expected


@pytest.mark.parametrize("name", ["orders", "sales.orders", "Order-Lines_2", "events_20240101"])
def test_a_plain_name_stays_what_it_is(name: str) -> None:
    assert stream_name(name) == name


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("my lines", "my_lines_h"),
        ("sales.my lines", "sales.my_lines_h"),
        ('"My Schema"."Order.Items"', "My_Schema.Order.Items_h"),
        ("größe", "gr__e_h"),
    ],
)
def test_an_odd_name_is_told_apart_by_a_hash(table: str, name: str) -> None:
    assert stream_name(table).startswith(name)
    assert re.fullmatch(r".*_h[0-9a-f]{8}", stream_name(table))


def test_the_hash_is_the_same_at_all_times() -> None:
    assert stream_name("my lines") == "my_lines_h428a2ff9"


def test_odd_names_do_not_meet() -> None:
    names = [*ODD, "my_lines", "my  lines", "my-lines", "MY lines"]
    assert len({stream_name(name) for name in names}) == len(names)


@given(st.text(min_size=1))
def test_every_table_has_a_name_that_a_stream_may_have(table: str) -> None:
    name = stream_name(table)
    assert NAME.fullmatch(name)
    assert all(name.split(".")), "no part of a target's name is empty"
    assert stream_name(name) == name


@pytest.mark.parametrize("table", [*ODD[:7], "orders", "events_20240101", "sales.orders"])
@pytest.mark.parametrize("pattern", ["*", "my *", "sales.*", "sales.my *", "public.*", "events_*"])
def test_a_stream_is_known_again_without_its_table(pattern: str, table: str) -> None:
    if matches(pattern, table):
        assert may_be_of(pattern, stream_name(table))


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("orders", "public.orders"), True),
        (("sales.orders", '"sales"."orders"'), True),
        (("orders", "sales.orders"), False),
        (("orders", "Orders"), False),
    ],
)
def test_two_names_of_one_table(names: Sequence[str], same: bool) -> None:
    assert same_table(*names) is same
