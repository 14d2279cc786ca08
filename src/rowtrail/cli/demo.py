"""`rowtrail demo`: the main job on the sample shop, told step by step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rowtrail.cli.common import COMPLETE_EXCEPT, FAILED, Json
from rowtrail.cli.output import print_json

if TYPE_CHECKING:
    from rowtrail.sample_data.day_two import Poison

MARK = ".rowtrail-demo"
"""A file in a demo's folder: what is there may go when the demo is shown again."""


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: rowtrail demo /tmp/demo")(demo)


def demo(
    folder: Annotated[Path, typer.Argument(help="Made for the demo.", metavar="FOLDER")] = Path(
        "demo"
    ),
    json: Json = False,
) -> None:
    """Shows a shop's two days go into a warehouse, and three bad records found and mended."""
    from rowtrail.sample_data.compare import compare
    from rowtrail.sample_data.day_two import POISONS, apply_day_two, mend
    from rowtrail.sample_data.generate import create_shop

    story = _Story(folder, silent=json)
    story.prepare()

    story.chapter("A shop's production database, and the pipeline for it")
    rows = sum(create_shop(folder / "shop.db").values())
    story.say(f"{folder}/shop.db has {rows:,} rows in five tables; {folder}/rowtrail.toml says")
    story.say("how each goes to the warehouse. First the triggers that note what changes:")
    story.run("init", "--capture", "--yes", lines=5)

    story.chapter("Day one: everything is loaded")
    story.run("run")

    story.chapter("Day two: the shop goes on, and three records go wrong")
    day = apply_day_two(folder / "shop.db")
    story.say(
        f"{day.inserted:,} rows inserted, {day.updated:,} updated, {day.deleted:,} deleted; a row "
        f"deleted and"
    )
    story.say("entered again, a primary key changed. And:")
    for poison in POISONS:
        story.say(f"  {_name(poison)}: {poison.story}")
    story.run("run", expect=COMPLETE_EXCEPT)

    story.chapter("8 a.m.: why is order 42 not right in the warehouse?")
    story.run("failures")
    story.run("record", "orders", "42")

    story.chapter("Each is mended at the source, and retried alone")
    for poison in POISONS:
        mend(folder / "shop.db", poison)
        story.say(f"sqlite> {poison.mend};")
        key = ",".join(map(str, poison.key))
        story.run("retry", poison.stream, key, "--from", "extract")
    story.run("record", "orders", "42")
    story.say("Mending them changed their rows, so that the next run reads these once more:")
    story.run("run")
    story.run("status")

    story.chapter("The proof: source and target, row by row and value by value")
    comparison = compare(folder / "shop.db", folder / "warehouse.duckdb")
    if json:
        print_json(
            {
                "equal": comparison.equal,
                "rows": comparison.rows,
                "values": comparison.values,
                "differences": [str(one) for one in comparison.differences],
            }
        )
    elif comparison.equal:
        print(
            f"Source and target are equal: {comparison.rows:,} rows, {comparison.values:,} values."
        )
    else:
        for difference in comparison.differences[:20]:
            print(f"  {difference}")
        print(f"Source and target are NOT equal: {len(comparison.differences):,} differences.")
    if not comparison.equal:
        raise typer.Exit(FAILED)


def _name(poison: Poison) -> str:
    return f"{poison.stream}:{','.join(map(str, poison.key))}"


class _Story:
    """Prints the steps, and runs each command as a process of its own, as a person would."""

    def __init__(self, folder: Path, *, silent: bool) -> None:
        self._folder = folder
        self._silent = silent
        self._chapters = 0
        self._columns = shutil.get_terminal_size().columns

    def prepare(self) -> None:
        """Makes the folder; an earlier demo in it goes, anything else stays untouched."""
        from rowtrail import sample_data
        from rowtrail.connectors.errors import ConfigurationError

        if self._folder.exists() and not self._folder.is_dir():
            raise ConfigurationError(
                f"{self._folder} is a file. Name a folder: rowtrail demo FOLDER."
            )
        template = Path(sample_data.__file__).with_name("rowtrail.toml")
        try:
            found = (
                sorted(one.name for one in self._folder.iterdir()) if self._folder.exists() else []
            )
            if found and MARK not in found:
                raise ConfigurationError(
                    f"{self._folder} holds files that are not a demo's: {', '.join(found[:5])}"
                    f"{' …' if len(found) > 5 else ''}. Name another folder: rowtrail demo FOLDER."
                )
            if found:
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            (self._folder / MARK).touch()
            (self._folder / "rowtrail.toml").write_text(template.read_text("utf-8"), "utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"The demo cannot be made in {self._folder}: {error.strerror}. Name another "
                f"folder: rowtrail demo FOLDER."
            ) from error

    def chapter(self, title: str) -> None:
        self._chapters += 1
        self.say(f"\n{self._chapters}. {title}\n")

    def say(self, text: str) -> None:
        if not self._silent:
            print(text, flush=True)

    def run(self, *arguments: str, expect: int = 0, lines: int | None = None) -> None:
        """Runs `rowtrail …` in the folder, without its log; of a long answer the first `lines`."""
        self.say(f"$ rowtrail {' '.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "rowtrail", *arguments],
            cwd=self._folder,
            env={**os.environ, "COLUMNS": str(self._columns)},
            check=False,
            text=True,
            capture_output=True,
        )
        if done.returncode != expect:
            print(done.stdout, done.stderr, file=sys.stderr)
            print(
                f"The demo stopped: this command ended with exit code {done.returncode} instead of "
                f"{expect}.",
                file=sys.stderr,
            )
            raise typer.Exit(FAILED)
        told = done.stdout.rstrip().splitlines()
        if lines is not None and len(told) > lines:
            told = [*told[:lines], "…", told[-1]]
        self.say("\n".join(told) + "\n")
