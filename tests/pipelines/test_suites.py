"""Files of suites: what is read, and what is refused with its cause and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.checks import Severity
from rowtrail.pipelines.suites import read_suite

YAML = """
name: orders
expectations:
  - type: expect_column_values_to_be_between
    kwargs: {column: amount, min_value: 0}
    severity: info
  - type: expect_compound_columns_to_be_unique
    kwargs:
      column_list: [shop, number]
"""


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(YAML)
    suite = read_suite(tmp_path / "s.yaml")
    first, second = suite.expectations
    assert (suite.name, first.file, first.type) == (
        "orders",
        "s.yaml",
        "expect_column_values_to_be_between",
    )
    assert (first.kwargs, first.severity) == ({"column": "amount", "min_value": 0}, Severity.WARN)
    assert (second.columns, second.severity) == (("shop", "number"), Severity.FAIL)


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "s.yml"
    path.write_text(YAML)
    before = read_suite(path).fingerprint
    assert read_suite(path).fingerprint == before
    path.write_text(YAML.replace("min_value: 0", "min_value: 1"))
    assert read_suite(path).fingerprint != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "it is not valid JSON"),
        ("[1]", "it holds a list"),
        ("null", "it holds nothing"),
        ('{"name": "x"}', "it has no list of `expectations`"),
        ('{"name": "x", "expectations": {}}', "it has no list of `expectations`"),
        ('{"name": "x", "expectations": []}', "its list of `expectations` is empty"),
        ('{"expectations": [{"kwargs": {}}]}', "its expectation 1 has no `type`"),
        ('{"expectations": ["expect"]}', "its expectation 1 has no `type`"),
        ('{"expectations": [{"type": "a", "kwargs": []}]}', "`kwargs` of its expectation 1"),
        ('{"expectations": [{"type": "a", "severity": "high"}]}', "not one of critical, warning"),
    ],
)
def test_what_is_no_suite_is_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_suite(tmp_path / "s.json")
    assert str(caught.value).startswith(f"{tmp_path / 's.json'} is no suite of expectations as")
    assert words in str(caught.value)
    assert '"expectations": [{"type"' in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"expectation_suite_name": "x", "expectations": []}',
        '{"name": "x", "expectations": [{"expectation_type": "expect_x", "kwargs": {}}]}',
    ],
)
def test_an_old_suite_is_told_as_such(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_suite(tmp_path / "s.json")
    assert "is one of Great Expectations 0.x" in str(caught.value)
    assert "rename `expectation_suite_name` to `name`" in str(caught.value)
    assert "`expectation_type` to `type`" in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no suite of expectations at"):
        read_suite(tmp_path / "none.json")
    (tmp_path / "s.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        read_suite(tmp_path / "s.json")
    (tmp_path / "s.yml").write_text("a: [")
    with pytest.raises(ConfigurationError, match="it is not valid YAML"):
        read_suite(tmp_path / "s.yml")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        read_suite(tmp_path)
