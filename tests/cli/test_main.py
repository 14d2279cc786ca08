"""What holds for every command: help, exit codes, `--json`, `--debug`, errors in one paragraph."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from rowtrail import __version__
from rowtrail.cli.app import app
from tests.cli.place import Place

GROUPS = ("stream", "ledger")


def command_lines() -> Iterator[tuple[str, ...]]:
    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        yield from [(name, one) for one in inner] if inner else [(name,)]


LINES = sorted(command_lines())


def test_all_commands_are_there() -> None:
    assert {line[0] for line in LINES} == {
        "init", "check", "schema", "run", "status", "failures", "record", "retry", "replay",
        "ignore", "prune", "stream", "ledger", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_help_has_an_example_and_json(place: Place, line: tuple[str, ...]) -> None:
    answer = place.type(*line, "--help")
    assert answer.code == 0
    assert f"Example: rowtrail {' '.join(line)}" in answer.out
    assert "--json" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


def test_help_and_version_in_a_process_of_their_own(place: Place) -> None:
    answer = place.spawn("--help")
    assert (answer.code, answer.err) == (0, "")
    assert all(line[0] in answer.out for line in LINES)
    assert "Exit codes: 0 complete, 1 failed, 2 wrong usage" in answer.out
    assert place.spawn("--version").out.strip() == __version__
    assert place.spawn().out == answer.out


def test_an_answer_goes_to_standard_output_and_the_log_to_standard_error(place: Place) -> None:
    place.put((1, 1, "a"))
    answer = place.spawn("run")
    assert answer.code == 0
    assert "Complete, in" in answer.out and "batch" not in answer.out
    assert "loaded=1" in answer.err and "Complete" not in answer.err


def test_json_is_one_document_and_nothing_else(place: Place) -> None:
    place.put((1, 1, "a"))
    answer = place.spawn("run", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["complete"] is True
    assert answer.document["streams"]["orders"]["counts"]["loaded"] == 1


def test_an_error_is_one_paragraph_on_standard_error(place: Place) -> None:
    answer = place.spawn("run", "-p", "nowhere.toml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "Error: There is no pipeline file nowhere.toml. Name it with -p FILE, or make one with "
        "`rowtrail init SOURCE DESTINATION`.\n"
    )


def test_an_error_is_a_document_with_json(place: Place) -> None:
    answer = place.spawn("status", "--json", "-p", "nowhere.toml")
    assert (answer.code, answer.err) == (2, "")
    assert answer.document["exit_code"] == 2
    assert "nowhere.toml" in answer.document["error"]


@pytest.mark.parametrize("line", [("nonsense",), ("run", "--colour"), ("record",), ("stream",)])
def test_wrong_usage_says_how_it_is_used(place: Place, line: tuple[str, ...]) -> None:
    answer = place.type(*line)
    assert answer.code == 2
    assert "Usage: rowtrail" in answer.out + answer.err
    assert "Traceback" not in answer.err


def test_wrong_usage_with_json_is_a_document_too(place: Place) -> None:
    answer = place.type("run", "--json", "--colour")
    assert (answer.code, answer.err) == (2, "")
    assert "--colour" in answer.document["error"]


def test_a_negative_key_is_explained(place: Place) -> None:
    answer = place.type("record", "orders", "-5")
    assert answer.code == 2
    assert "rowtrail record orders -- -42" in answer.err


@pytest.mark.parametrize(
    "line",
    [("--debug", "run", "-p", "no.toml"), ("run", "-p", "no.toml", "--debug")],
    ids=["before", "behind"],
)
def test_debug_adds_the_traceback_wherever_it_stands(place: Place, line: tuple[str, ...]) -> None:
    answer = place.type(*line)
    assert answer.code == 2
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.splitlines()[-1].startswith("Error: There is no pipeline file")
    without = place.type(*(one for one in line if one != "--debug"))
    assert "Traceback" not in without.err


def test_what_follows_two_dashes_is_no_option(spoiled: Place) -> None:
    answer = spoiled.type("record", "orders", "--", "--debug")
    assert answer.code == 2
    assert "--debug is no key of stream orders" in answer.err


def test_a_fault_of_our_own_is_told_as_such(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr("rowtrail.pipelines.status.read_status", broken)
    place.put((1, 1, "a"))
    place.type("run")
    answer = place.type("status")
    assert answer.code == 1
    assert "Rowtrail itself is at fault: ZeroDivisionError: no such thing." in answer.err
    assert "--debug" in answer.err
    assert "Traceback" in place.type("status", "--debug").err


def test_an_interrupted_command_says_what_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rowtrail.pipelines.run.run_pipeline", interrupted)
    answer = place.type("run")
    assert (answer.code, answer.out) == (1, "")
    assert "What was committed stays" in answer.err
    assert json.loads(place.type("run", "--json").out)["exit_code"] == 1


def test_a_reader_that_has_seen_enough_is_not_scolded(place: Place) -> None:
    command = f"{shlex.quote(sys.executable)} -m rowtrail --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_output_without_unicode_still_gets_an_answer(place: Place) -> None:
    place.sql("CREATE TABLE people (name TEXT PRIMARY KEY NOT NULL)")
    place.sql("INSERT INTO people VALUES ('Zoë 🦀')")
    place.file.write_text(f"{place.file.read_text()}\n[streams.people]\n")
    assert place.spawn("run", PYTHONIOENCODING="ascii").code == 0
    plain = place.spawn("record", "people", "Zoë 🦀", PYTHONIOENCODING="ascii")
    assert plain.code == 0 and "is in the warehouse" in plain.out
    json = place.spawn("record", "people", "Zoë 🦀", "--json", PYTHONIOENCODING="ascii")
    assert json.document["record"] == 'people:"Zoë 🦀"'
