"""Options that every command has, and what each opens first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rowtrail.checkpoints.ledger import Ledger
    from rowtrail.pipelines.definition import PipelineDefinition

PipelineFile = Annotated[
    Path, typer.Option("--pipeline", "-p", help="The pipeline's TOML file.", metavar="FILE")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Group = Annotated[
    str | None,
    typer.Option("--group", help="The group's id, or the beginning of it.", metavar="ID"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DEFAULT_FILE = Path("rowtrail.toml")

FAILED = 1
USAGE = 2
COMPLETE_EXCEPT = 3


def read_pipeline(path: Path, *, with_transforms: bool = False) -> PipelineDefinition:
    """The pipeline of the file; ConfigurationError tells all its mistakes.

    Commands that only ask the ledger leave the transforms out: they answer sooner, and also when
    the user's code cannot be imported.
    """
    from rowtrail.pipelines.pandas_import import put_off_pandas

    put_off_pandas()
    from rowtrail.pipelines.config import load_pipeline

    return load_pipeline(path, with_transforms=with_transforms)


def read_known_pipeline(path: Path, *, with_transforms: bool = False) -> PipelineDefinition:
    """Likewise, with the streams of its patterns that the ledger knows: the source is not asked."""
    from rowtrail.pipelines.patterns import resolve_from_ledger

    return resolve_from_ledger(read_pipeline(path, with_transforms=with_transforms))


@contextmanager
def ledger_of(definition: PipelineDefinition) -> Iterator[Ledger]:
    """The pipeline's ledger, without its lease: for reading and for requests.

    Raises ConfigurationError when there is none yet.
    """
    from rowtrail.pipelines.opening import existing_ledger

    ledger = existing_ledger(definition)
    try:
        yield ledger
    finally:
        ledger.close()


def confirm(question: str, *, yes: bool, json: bool) -> None:
    """Goes on if the answer is yes; with --json nobody can be asked."""
    if yes:
        return
    if json:
        raise typer.BadParameter("nobody can be asked: add --yes", param_hint="--json")
    typer.confirm(question, abort=True)
