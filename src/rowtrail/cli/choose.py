"""Which records a replay or a retry is to take up: by keys, a file of keys, or a selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import ledger_of
from rowtrail.cli.key_files import read_ids
from rowtrail.cli.records import key_reader, split

if TYPE_CHECKING:
    from rowtrail.checkpoints.record_id import RecordId
    from rowtrail.checkpoints.selections import Selection
    from rowtrail.pipelines.definition import PipelineDefinition

KeysFrom = Annotated[
    str | None,
    typer.Option(
        "--keys-from", help="Read keys from it, one a line; - is standard input.", metavar="FILE"
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        "--run", help="All records that this run took up; `last` is the last one.", metavar="RUN_ID"
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", help="All records loaded or failed from then on; an age, too: 2h.", metavar="T"
    ),
]
Until = Annotated[
    str | None, typer.Option("--until", help="With --since: and before then.", metavar="T")
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="All rows for which it is true at the source: one SQL expression.",
        metavar="SQL",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a command line says of the records, as it was typed."""

    keys: Sequence[str] = ()
    keys_from: str | None = None
    run: str | None = None
    since: str | None = None
    until: str | None = None
    where: str | None = None
    group: str | None = None

    def ways(self) -> list[str]:
        """The ways in which records are named; more than one contradict each other."""
        given = {
            "KEY": bool(self.keys),
            "--keys-from": self.keys_from is not None,
            "--run": self.run is not None,
            "--since": self.since is not None,
            "--where": self.where is not None,
            "--group": self.group is not None,
        }
        return [name for name, there in given.items() if there]

    def check(self) -> None:
        """Raises BadParameter for options that contradict each other."""
        ways = self.ways()
        if len(ways) > 1:
            raise typer.BadParameter(
                f"{' and '.join(ways)} name records in different ways: give one of them",
                param_hint=ways[1],
            )
        if self.until is not None and self.since is None:
            raise typer.BadParameter("it is the end of --since", param_hint="--until")

    def span(self) -> tuple[datetime | None, datetime | None]:
        """Since and until as moments (UTC), where they are given: also one without the other."""
        now = datetime.now(UTC)
        return (
            None if self.since is None else _moment(self.since, now, "--since"),
            None if self.until is None else _moment(self.until, now, "--until"),
        )

    def selection(self) -> Selection | None:
        """None where records are named by their keys, or by their group."""
        from rowtrail.checkpoints.selections import Selection

        if self.run is not None:
            return Selection(run_id=self.run)
        if self.where is not None:
            return Selection(where=self.where)
        if self.since is None:
            return None
        now = datetime.now(UTC)
        since = _moment(self.since, now, "--since")
        until = now if self.until is None else _moment(self.until, now, "--until")
        if until <= since:
            raise typer.BadParameter(
                f"nothing lies between {since:%Y-%m-%d %H:%M:%S} and {until:%Y-%m-%d %H:%M:%S} UTC",
                param_hint="--since" if self.until is None else "--until",
            )
        return Selection(since=since, until=until)


def named(
    definition: PipelineDefinition, stream: str, wanted: Wanted
) -> tuple[str, tuple[RecordId, ...]]:
    """The stream, and the records that are named by their keys.

    A record's printed name may stand for the stream and the first key.
    """
    name, texts = split(definition, stream, wanted.keys)
    if texts and not wanted.keys:
        Wanted(**{**vars(wanted), "keys": texts}).check()
    if not texts and wanted.keys_from is None:
        return name, ()
    with ledger_of(definition) as ledger:
        read = key_reader(definition, ledger, name)
        if wanted.keys_from is not None:
            return name, read_ids(wanted.keys_from, read)
        return name, tuple(map(read, texts))


def _moment(text: str, now: datetime, option: str) -> datetime:
    from rowtrail.pipelines.moments import parse_moment

    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
