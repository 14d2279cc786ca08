"""Files of Great Expectations suites, read as values; the library itself is not needed for that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.checks import Severity

NEEDS = "pip install 'rowtrail[expectations]'"
_SEVERITIES = {"critical": Severity.FAIL, "warning": Severity.WARN, "info": Severity.WARN}
_FORM = '{"name": "orders", "expectations": [{"type": "expect_…", "kwargs": {"column": "…"}}]}'


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One expectation as a suite has it."""

    suite: str  # the suite's name
    file: str  # the file's name, for messages
    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = Severity.FAIL

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it is about; none where it is about the table."""
        several = self.kwargs.get("column_list") or ()
        one_each = (self.kwargs.get(name) for name in ("column", "column_A", "column_B"))
        return tuple(name for name in (*one_each, *several) if isinstance(name, str))


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite's file."""

    name: str
    path: Path
    expectations: tuple[Expectation, ...]
    fingerprint: str  # of the file's content


def read_suite(path: Path) -> Suite:
    """The suite in a file of JSON, or of YAML where its name ends so.

    Raises ConfigurationError for a file that is no suite as Great Expectations 1.x writes them.
    """
    text = _text(path)
    data = _yaml(path, text) if path.suffix in (".yaml", ".yml") else _json(path, text)
    if not isinstance(data, Mapping):
        raise _no_suite(path, f"it holds {_kind(data)}")
    _refuse_old(path, data)
    listed = data.get("expectations")
    if not isinstance(listed, list):
        raise _no_suite(path, "it has no list of `expectations`")
    if not listed:
        raise _no_suite(path, "its list of `expectations` is empty")
    name = str(data.get("name") or path.stem)
    return Suite(
        name=name,
        path=path,
        expectations=tuple(
            _expectation(path, name, number, one) for number, one in enumerate(listed, 1)
        ),
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no suite of expectations at {path}. Correct `expectations`; a relative path "
            f"starts at the pipeline file's folder."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigurationError(
            f"The suite of expectations {path} cannot be read: {why}. Correct `expectations`, or "
            f"the file."
        ) from error


def _json(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _no_suite(path, f"it is not valid JSON ({error})") from error


def _yaml(path: Path, text: str) -> object:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"The suite of expectations {path} is YAML, for which a package is missing: {NEEDS}"
        ) from None
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise _no_suite(path, f"it is not valid YAML ({' '.join(str(error).split())})") from error


def _refuse_old(path: Path, data: Mapping[str, Any]) -> None:
    """Before version 1.0 two keys had other names."""
    listed = data.get("expectations")
    first = listed[0] if isinstance(listed, list) and listed else None
    old = "expectation_suite_name" in data
    if old or (isinstance(first, Mapping) and "expectation_type" in first):
        raise ConfigurationError(
            f"The suite of expectations {path} is one of Great Expectations 0.x. Rowtrail takes "
            f"those of 1.x: rename `expectation_suite_name` to `name`, and in each expectation "
            f"`expectation_type` to `type`, or save it again with version 1."
        )


def _expectation(path: Path, suite: str, number: int, given: object) -> Expectation:
    if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
        raise _no_suite(path, f"its expectation {number} has no `type`")
    kwargs = given.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise _no_suite(path, f"the `kwargs` of its expectation {number} are no mapping")
    severity = given.get("severity") or "critical"
    if severity not in _SEVERITIES:
        known = ", ".join(_SEVERITIES)
        raise _no_suite(path, f"the `severity` of its expectation {number} is not one of {known}")
    return Expectation(
        suite=suite,
        file=path.name,
        type=given["type"],
        kwargs=dict(kwargs),
        severity=_SEVERITIES[severity],
    )


def _no_suite(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is no suite of expectations as Great Expectations 1.x writes them: {why}. It "
        f"should be like {_FORM}."
    )


def _kind(data: object) -> str:
    return "nothing" if data is None else f"a {type(data).__name__}"
