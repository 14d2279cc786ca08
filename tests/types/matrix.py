"""Every type of PostgreSQL through the real engine, and what has become of each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from rowtrail import Breakers, Pipeline, Stream
from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.sources.postgres import PostgresSource
from rowtrail.pipelines.results import RunResult, StreamResult
from tests.types.postgres_side import AWKWARD, PostgresSide, quote
from tests.types.postgres_types import Case
from tests.types.source import TABLE, TypesSource, key_table
from tests.types.targets import DuckdbTarget, PostgresTarget, Target

# A table's change log serves one pipeline, so that each destination has captures of its own.
CAPTURES = {"DuckDB": ("log", "snapshot", "trigger"), "PostgreSQL": ("log", "snapshot", "cursor")}


@dataclass(kw_only=True)
class Outcome:
    """What a type is at one destination."""

    type: str = ""  # of the column there, by default or as what `types` says
    text_type: str = ""  # the same with "text"
    refused: str | None = None  # the message, where nothing is read without an entry in `types`
    held_back: tuple[str, ...] = ()  # values, as shown
    key: bool = False  # whether PostgreSQL takes it as a primary key
    problems: list[str] = field(default_factory=list)  # what is not as promised


Outcomes = Mapping[tuple[str, str], Outcome]
"""By the case's column and the destination's name."""


@dataclass(kw_only=True)
class Matrix:
    cases: Sequence[Case]
    missing: set[str]  # types without a case
    version: int
    outcomes: dict[tuple[str, str], Outcome]


def observe(source_url: str, target_url: str, folder: Path) -> Matrix:
    """Fills the source, runs each pipeline twice, under four awkward settings, and compares."""
    with (
        closing(PostgresSide(source_url)) as side,
        closing(PostgresSide(target_url)) as target_side,
    ):
        source = TypesSource(side)
        targets: tuple[Target, ...] = (
            DuckdbTarget(folder / "target.duckdb"),
            PostgresTarget(target_side),
        )
        settings = iter(AWKWARD)
        refused = _refused(source)
        runs = [_Run(source, target, folder, refused) for target in targets]
        source.fill()
        for step in (0, 1):
            if step:
                source.change()
            for number, run in enumerate(runs):
                preferred = next(settings)
                for one in (side, target_side):
                    one.prefer(preferred, role=number == 0)
                run.go()
        for one in (side, target_side):
            one.prefer({}, role=False)
        outcomes: dict[tuple[str, str], Outcome] = {}
        for run in runs:
            run.refuse()
            outcomes |= {(case.column, run.target.name): run.outcome(case) for case in source.cases}
        return Matrix(
            cases=source.cases,
            missing=source.missing(),
            version=side.version,
            outcomes=outcomes,
        )


def _refused(source: TypesSource) -> set[str]:
    """The columns that are refused without an entry in `types`."""
    found = set()
    with closing(PostgresSource(source.side.url)) as opened:
        for case in source.cases:
            try:
                opened.describe(_only(case))
            except ConfigurationError:
                found.add(case.column)
    return found


def _only(case: Case) -> StreamSpec:
    return StreamSpec(
        name="only",
        table=TABLE,
        capture=Capture.SNAPSHOT,
        columns=(case.column,),
        types=_chosen([case]),
    )


def _chosen(cases: Sequence[Case]) -> dict[str, str]:
    return {case.column: case.read_as for case in cases if case.read_as}


class _Run:
    """One destination with its pipeline: by each capture the table twice, and each key's table."""

    def __init__(
        self, source: TypesSource, target: Target, folder: Path, refused: set[str]
    ) -> None:
        self.source = source
        self.target = target
        self.captures = CAPTURES[target.name]
        self._folder = folder
        self._refused = refused
        self._messages: dict[str, str] = {}
        self._held: dict[str, set[int]] = {}
        self._texts: dict[str, dict[int, tuple[str | None, ...]]] = {}
        any_as_text = {"*": "text", **_chosen(source.cases)}
        all_as_text = {case.column: "text" for case in source.cases}
        self.pipeline = self._pipeline(
            "types",
            [
                *(
                    Stream(
                        TABLE, name=f"{capture}_{kind}", capture=capture, cursor=cursor, types=types
                    )
                    for capture in self.captures
                    for cursor in ["seen" if capture == "cursor" else None]
                    for kind, types in (("any", any_as_text), ("text", all_as_text))
                ),
                *(
                    Stream(
                        key_table(case),
                        name=f"key_{case.column}",
                        capture="log",
                        types={"*": "text", **({"k": case.read_as} if case.read_as else {})},
                    )
                    for case in source.keys
                ),
            ],
        )

    def _pipeline(self, name: str, streams: list[Stream]) -> Pipeline:
        return Pipeline(
            name=f"{name}-{self.target.name}",
            source=self.source.side.url,
            destination=self.target.url,
            ledger=self._folder / f"{name}-{self.target.name}.ledger",
            streams=streams,
            breakers=Breakers(deleted_share=1.0),
            install_capture=True,
            slot=f"{name}_{self.target.name}_{self.source.side.connection.info.backend_pid}".lower(),
        )

    def go(self) -> None:
        result = self.pipeline.run()
        self._result: RunResult = result
        stopped = {name: one.error or one.skipped for name, one in result.streams.items()}
        assert not any(stopped.values()), {name: one for name, one in stopped.items() if one}

    def refuse(self) -> None:
        """A run of one stream for each column that cannot be mapped, and of one that can be."""
        columns = [case for case in self.source.cases if case.column in self._refused]
        streams = [
            Stream(
                TABLE,
                name=f"refused_{case.column}",
                capture="snapshot",
                columns=[case.column],
            )
            for case in columns
        ]
        fine = Stream(TABLE, name="fine", capture="snapshot", columns=["boolean"])
        result = self._pipeline("refused", [*streams, fine]).run()
        assert result.streams["fine"].complete
        for case in columns:
            self._messages[case.column] = result.streams[f"refused_{case.column}"].error or ""

    def outcome(self, case: Case) -> Outcome:
        outcome = Outcome(key=case in self.source.keys)
        column = case.column
        if column in self._refused:
            outcome.refused = self._messages[column]
            outcome.problems += self._refusal_problems(case)
        for capture in self.captures:
            for kind in ("any", "text"):
                self._compare(case, f"{capture}_{kind}", kind, outcome)
        if outcome.key:
            self._compare_keys(case, outcome)
        return outcome

    def _refusal_problems(self, case: Case) -> list[str]:
        message = self._messages[case.column]
        wanted = (f"{TABLE}.{case.column}", f'types."{case.column}"', '"text"', "exclude")
        problems = [f"{word} is not in: {message}" for word in wanted if word not in message]
        if self.target.types(f"refused_{case.column}"):
            problems.append("it was refused, but its table was made")
        return problems

    def _compare(self, case: Case, stream: str, kind: str, outcome: Outcome) -> None:
        problems = outcome.problems
        declared = self._types(stream).get(case.column, "")
        if kind == "text":
            outcome.text_type = declared
        else:
            outcome.type = declared
        held: set[str] = set()
        stride = self.source.stride
        for n, (owner, value) in enumerate(self.source.values):
            if owner is not case:
                continue
            places = (n, n + stride, n + 2 * stride)
            gone = [place in self._failed(stream) for place in places]
            if len(set(gone)) > 1:
                problems.append(f"{stream}: {value.shown} is held back only sometimes: {gone}")
            if any(gone):
                held.add(value.shown)
            for place, is_held in zip(places, gone, strict=True):
                told = self._told(stream, case, place)
                wanted = None if is_held else self._wanted(case, place)
                if not self._same(case, wanted, told, declared, kind):
                    problems.append(
                        f"{stream}: row {place}, {value.shown}: {_short(wanted)} is {_short(told)}"
                    )
                if not is_held and place not in self._rows(stream):
                    problems.append(f"{stream}: row {place}, {value.shown}: is not there")
        if kind == "text":
            problems += [f"{stream}: {one} is held back as text" for one in sorted(held)]
            return
        shown = tuple(value.shown for owner, value in self.source.values if owner is case)
        found = tuple(one for one in shown if one in held)
        if stream == f"{self.captures[0]}_any":
            outcome.held_back = found
        elif found != outcome.held_back:
            problems.append(f"{stream}: holds back {found}, another capture {outcome.held_back}")

    def _same(self, case: Case, wanted: str | None, told: Any, declared: str, kind: str) -> bool:
        if kind == "any" and case.read_as and wanted is not None and told is not None:
            return Decimal(wanted) == Decimal(told)
        expected: Any = self.target.expected(wanted, declared)
        return bool(expected == told)

    def _compare_keys(self, case: Case, outcome: Outcome) -> None:
        """The rows by key are those of the source, without what is held back."""
        stream = f"key_{case.column}"
        result = self._result.streams[stream]
        declared = self._types(stream)["k"]
        rows = self.source.side.texts(f"SELECT n, k FROM {key_table(case)}")
        found = {n: key for n, (_, key) in self.target.rows(stream, ["n", "k"]).items()}
        held = 0
        for n, key in rows:
            if str(n) not in found:
                held += 1
            elif not self._same_key(case, key, found.pop(str(n)), declared):
                outcome.problems.append(f"{stream}: {_short(key)} is another key")
        if found:
            outcome.problems.append(f"{stream}: {_short(found)} should be gone")
        if held != result.held_back:
            outcome.problems.append(f"{stream}: {held} are missing, {result.held_back} held back")

    def _same_key(self, case: Case, wanted: str | None, told: Any, declared: str) -> bool:
        """0 and -0 are one key to PostgreSQL, which keeps the one that came first."""
        if declared in ("real", "double precision") and wanted is not None:
            return float(wanted) == float(told) or wanted == told
        return self._same(case, wanted, told, declared, "any")

    # What was found, once for all cases.

    def _types(self, stream: str) -> Mapping[str, str]:
        return self._kept(f"types {stream}", lambda: self.target.types(stream))

    def _rows(self, stream: str) -> Mapping[str, tuple[Any, ...]]:
        columns = ["n", *(case.column for case in self.source.cases)]
        return self._kept(
            f"rows {stream}",
            lambda: {int(n): row for n, row in self.target.rows(stream, columns).items()},
        )

    def _failed(self, stream: str) -> set[int]:
        return self._kept(f"failed {stream}", lambda: _numbers(self._result.streams[stream]))

    def _kept(self, name: str, make: Any) -> Any:
        cache = self.__dict__.setdefault("_cache", {})
        if name not in cache:
            cache[name] = make()
        return cache[name]

    def _place(self, case: Case) -> int:
        return 1 + self.source.cases.index(case)

    def _told(self, stream: str, case: Case, place: int) -> Any:
        row = self._rows(stream).get(place)
        return None if row is None else row[self._place(case)]

    def _wanted(self, case: Case, place: int) -> str | None:
        columns = ", ".join(quote(one.column) for one in self.source.cases)
        every = self._kept(
            "truth",
            lambda: {
                int(str(row[0])): row
                for row in self.source.side.texts(f"SELECT n, {columns} FROM {TABLE}")
            },
        )
        found: str | None = every[place][self._place(case)]
        return found


def _numbers(result: StreamResult) -> set[int]:
    found = {int(one.record.rpartition(":")[2]) for one in result.failed_records}
    assert len(found) == result.held_back
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 90 else f"{text[:80]}… ({len(text)} characters)"
