"""Every command, option, exit code and setting is in docs/, and what docs/ say is so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from rowtrail.cli.app import app
from rowtrail.connectors import type_names
from rowtrail.pipelines import config_model
from tests.cli.place import FILE, Place

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")
SECTIONS = (
    config_model.PipelineSection,
    config_model.StreamSection,
    config_model.ContractSection,
    config_model.CheckSection,
    config_model.BreakersSection,
    config_model.RetentionSection,
)


def commands() -> Iterator[tuple[str, object]]:
    root = typer.main.get_command(app)
    yield "rowtrail", root
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield f"rowtrail {name}", command
        else:
            yield from ((f"rowtrail {name} {one}", command) for one, command in inner.items())


COMMANDS = list(commands())


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_and_option_is_documented(name: str, command: object) -> None:
    assert f"`{name}" in CLI or name == "rowtrail"
    for parameter in command.params:  # type: ignore[attr-defined]
        for option in parameter.opts:
            if option.startswith("-"):
                assert re.search(rf"`[^`]*{re.escape(option)}\b", CLI), f"{name} {option}"


def test_no_command_or_option_is_documented_that_does_not_exist() -> None:
    known = dict(COMMANDS)
    options = {
        option
        for command in known.values()
        for parameter in command.params  # type: ignore[attr-defined]
        for option in parameter.opts
    } | {"--help", "-h"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", CLI)) <= options
    for name in re.findall(r"`(rowtrail [a-z]+(?: [a-z]+)?)", CLI):
        assert name in known or name.rpartition(" ")[0] in known, name


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_documented_as_the_model_says(section: type[BaseModel]) -> None:
    for line in rows(section):
        assert line in CONFIGURATION


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {
        one.alias or name for section in SECTIONS for name, one in section.model_fields.items()
    }
    assert set(re.findall(r"^\| `(\w+)` \| ", CONFIGURATION, re.MULTILINE)) == known


def test_every_type_name_is_documented() -> None:
    for name in type_names.KNOWN:
        assert f"`{name}`" in CONFIGURATION


def test_the_example_is_valid() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    config_model.PipelineFile.model_validate(tomllib.loads(example))


def rows(section: type[BaseModel]) -> list[str]:
    """The lines of the table of a section's settings."""
    properties = section.model_json_schema()["properties"]
    return [
        f"| `{name}` | {_type(one)} | {one['description']}{_default(section, name)} |"
        for name, one in properties.items()
    ]


def _default(section: type[BaseModel], name: str) -> str:
    fields = section.model_fields.items()
    (field,) = (one for key, one in fields if name == (one.alias or key))
    if field.is_required():
        return " Must be set."
    return "" if field.default is None else f" `{str(field.default).lower()}` if not set."


def _type(schema: dict[str, object]) -> str:
    choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]  # type: ignore[attr-defined]
    if len(choices) > 1:
        return " or ".join(_type(one) for one in choices)
    (one,) = choices
    if "$ref" in one:
        return "table"
    if "enum" in one:
        return ", ".join(f"`{word}`" for word in one["enum"])
    kinds = {
        "string": "text",
        "integer": "whole number",
        "boolean": "`true` or `false`",
        "number": "number",
    }
    if isinstance(one["type"], list):
        return " or ".join(kinds[kind] for kind in one["type"])
    if one["type"] == "array":
        return "list of texts" if one["items"]["type"] == "string" else "list of values"  # type: ignore[index]
    if one["type"] == "object":
        texts = one["additionalProperties"].get("type") == "string"  # type: ignore[attr-defined]
        return "table of texts" if texts else "table of tables"
    return kinds[one["type"]]


def test_the_transform_of_the_docs_does_what_they_say(place: Place) -> None:
    text = (DOCS / "transforms.md").read_text("utf-8")
    code, settings = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "toml")
    )
    assert code is not None and settings is not None
    (place.folder / "transforms.py").write_text(code[1], "utf-8")
    place.write(FILE.replace("[streams.orders]\n", settings[1]))
    place.sql("DROP TABLE orders")
    place.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total DECIMAL(10,2), "
        "rate DECIMAL(4,2), internal_note TEXT)"
    )
    place.sql("INSERT INTO orders VALUES (1, 'paid', 10.5, 1.2, 'x'), (2, 'test', 1, 1, 'y')")
    answer = place.type("run", "--json").document["streams"]["orders"]
    assert (answer["counts"]["loaded"], answer["counts"]["filtered"]) == (1, 1)
    assert place.query("SELECT id, total_eur::VARCHAR FROM orders") == [(1, "12.60")]
    assert "internal_note" not in str(place.query("DESCRIBE orders"))


if __name__ == "__main__":  # prints the tables, to be put into docs/configuration.md
    for section in SECTIONS:
        print(f"\n{section.__name__}\n", *rows(section), sep="\n")
