"""A stream as a value of Python code, and as the engine takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowtrail.connectors.base import Capture, Deletes
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.checks import Check, Given, checks_of
from rowtrail.pipelines.contract import MODES, Change, Contract, Mode
from rowtrail.pipelines.definition import (
    DEFAULT_IMAGE_BYTES,
    DEFAULT_RETRIES,
    NewTables,
    PatternDefinition,
    Policy,
    StreamDefinition,
)
from rowtrail.pipelines.definition_mistakes import HISTORY_BLOCKS
from rowtrail.pipelines.sizes import parse_size
from rowtrail.pipelines.suites import read_suite
from rowtrail.pipelines.table_names import is_pattern
from rowtrail.pipelines.transforms import from_function, load

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One source table and the target table that it fills.

    Only the table's name must be given: `Stream("orders")`. With `*` in it, as in
    `Stream("public.*")`, it stands for all tables whose name fits, unless `name` is set.
    """

    table: str = field(kw_only=False)
    name: str | None = None  # the table's name if not set
    target: str | None = None  # the stream's name if not set
    capture: str = "trigger"  # log, trigger, cursor or snapshot
    cursor: str | None = None  # the updated-at column, with capture "cursor"
    cursor_lag: float = 0.0  # read so far back again: seconds, or the cursor's own units
    deletes: str = "soft"  # soft, hard or history
    key: Sequence[str] = ()  # the primary key if not set
    columns: Sequence[str] = ()  # all if not set
    exclude: Sequence[str] = ()
    types: Mapping[str, str] = field(default_factory=dict)  # column or declared type -> type name
    transforms: Sequence[Callable[[pd.DataFrame], pd.DataFrame] | str] = ()
    batch_rows: int | None = None  # most changes in one batch; None: as the destination has them
    capture_images: bool = True
    policy: str = "latest"  # latest, block or reread: later changes of a failed record
    retries: int = DEFAULT_RETRIES  # that runs make by themselves, with back-off
    image_bytes: int | str = DEFAULT_IMAGE_BYTES  # of a larger failed row no image is kept
    redact: Sequence[str] = ()  # columns whose values the ledger and messages never hold
    archive: bool = True  # keep its batches, where the pipeline has an archive
    contract: str | Mapping[str, str] = "evolve"  # or freeze; or a mode by kind of change
    checks: Mapping[str, Given] = field(default_factory=dict)  # column -> {"min": 0} or several
    expectations: str | Path | Sequence[str | Path] = ()  # files of Great Expectations suites
    exclude_tables: Sequence[str] = ()  # of a pattern: names and patterns of tables to leave out
    new_tables: str = "take"  # of a pattern: take or report tables that are made later

    @property
    def is_pattern(self) -> bool:
        return self.name is None and is_pattern(self.table)

    def pattern(self) -> PatternDefinition:
        """A pattern as the engine takes it; raises ConfigurationError like `definition`."""
        if self.target is not None:
            raise ConfigurationError(
                f"Stream {self.table}: target = {self.target!r} cannot be that of many tables."
            )
        return PatternDefinition(
            template=self.definition(),
            exclude_tables=tuple(self.exclude_tables),
            new_tables=_word(NewTables, self.new_tables, self.table, "new_tables"),
        )

    def definition(self) -> StreamDefinition:
        """The stream as the engine takes it; raises ConfigurationError for a wrong word."""
        name = self.name or self.table
        if not self.is_pattern and (self.exclude_tables or self.new_tables != NewTables.TAKE):
            setting = "exclude_tables" if self.exclude_tables else "new_tables"
            raise ConfigurationError(
                f"Stream {name}: {setting} is only for a pattern of tables, such as "
                f'Stream("public.*").'
            )
        policy = _word(Policy, self.policy, name, "policy")
        if self.deletes == Deletes.HISTORY and policy is Policy.REREAD:
            raise ConfigurationError(f"Stream {name}: policy = {self.policy!r} {HISTORY_BLOCKS}.")
        return StreamDefinition(
            name=name,
            table=self.table,
            target=self.target or name,
            capture=_word(Capture, self.capture, name, "capture"),
            deletes=_word(Deletes, self.deletes, name, "deletes"),
            key=tuple(self.key),
            cursor=self.cursor,
            cursor_lag=self.cursor_lag,
            columns=tuple(self.columns),
            exclude=tuple(self.exclude),
            types=dict(self.types),
            transforms=tuple(
                load(step, Path.cwd()) if isinstance(step, str) else from_function(step)
                for step in self.transforms
            ),
            batch_rows=self.batch_rows,
            capture_images=self.capture_images,
            policy=policy,
            retries=self.retries,
            image_bytes=_image_bytes(self.image_bytes, name),
            redact=tuple(self.redact),
            archive=self.archive,
            contract=_contract(self.contract, name),
            checks=_checks(self.checks, name),
            expectations=tuple(read_suite(Path(one)) for one in _files(self.expectations)),
        )


def _checks(given: Mapping[str, Given], stream: str) -> tuple[Check, ...]:
    found: list[Check] = []
    for column, tables in given.items():
        try:
            found += checks_of(column, tables)
        except ValueError as error:
            raise ConfigurationError(
                f"Stream {stream}: checks of column {column}: {error}."
            ) from None
    return tuple(found)


def _files(given: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [given] if isinstance(given, str | Path) else given


def _contract(given: str | Mapping[str, str], stream: str) -> Contract:
    if isinstance(given, str):
        if given not in (Mode.EVOLVE, Mode.FREEZE):
            raise ConfigurationError(
                f"Stream {stream}: contract = {given!r} is not one of evolve, freeze. Other modes "
                f'are set for a kind of change, such as {{"new_column": {given!r}}}.'
            )
        return Contract.all(Mode(given))
    modes: dict[str, Mode] = {}
    for word, mode in given.items():
        change = _word(Change, word, stream, "contract")
        if mode not in MODES[change]:
            known = ", ".join(MODES[change])
            raise ConfigurationError(
                f"Stream {stream}: contract of {word} = {mode!r} is not one of {known}."
            )
        modes[word] = Mode(mode)
    return Contract(**modes)


def _word(kind: type[Any], value: str, stream: str, setting: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(word.value for word in kind)
        raise ConfigurationError(
            f"Stream {stream}: {setting} = {value!r} is not one of {known}."
        ) from None


def _image_bytes(value: int | str, stream: str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise ConfigurationError(f"Stream {stream}: image_bytes: {error}.") from None
