"""Who may import whom, and what the command line may not load: held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("connectors", "checkpoints", "pipelines", "sample_data")
OURS = "rowtrail"
BASE_LEVEL = tuple(
    f"rowtrail.connectors.{module}"
    for module in ("base", "changes", "schema", "errors", "registry", "type_names")
)
# What a database's source and destination share: how to connect, and what its errors mean.
SHARED = tuple(
    f"rowtrail.connectors.{database}_{module}"
    for database in ("postgres", "snowflake")
    for module in ("client", "errors")
)
HEAVY = (
    "adbc_driver_manager",
    "adbc_driver_postgresql",
    "adbc_driver_sqlite",
    "duckdb",
    "numpy",
    "pandas",
    "psycopg",
    "pyarrow",
    "pydantic",
    "snowflake",
    "sqlalchemy",
)


@dataclass(frozen=True)
class Rule:
    """What modules in a package may import of ours; the first rule that fits a module holds."""

    package: str
    allowed: tuple[str, ...]


RULES = (
    Rule("rowtrail.checkpoints", ("rowtrail.checkpoints",)),
    Rule(
        "rowtrail.connectors.sources",
        (*BASE_LEVEL, *SHARED, "rowtrail.connectors.sources", "rowtrail.connectors.capture"),
    ),
    Rule(
        "rowtrail.connectors.capture",
        (*BASE_LEVEL, "rowtrail.connectors.sources", "rowtrail.connectors.capture"),
    ),
    Rule(
        "rowtrail.connectors.destinations",
        (*BASE_LEVEL, *SHARED, "rowtrail.connectors.destinations"),
    ),
    # Its modules at the base level; the registry names the others as text and loads them by name.
    Rule("rowtrail.connectors", (*BASE_LEVEL, *SHARED)),
    Rule("rowtrail.pipelines", ("rowtrail.pipelines", "rowtrail.checkpoints", *BASE_LEVEL)),
)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imported(code: str, exists: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, at any depth; `from a import b` is a.b if that is a module.

    Relative imports come with their dots.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield node.lineno, full if full in exists else module


def broken_rules(module: str, code: str, exists: frozenset[str]) -> list[str]:
    """What a module imports and should not, one line each."""
    allowed = next((rule.allowed for rule in RULES if within(module, rule.package)), (OURS,))
    found = []
    for line, name in imported(code, exists):
        bare = name.split(".")[0]
        if bare in FOLDERS:
            found.append(f"{module}:{line} imports {name}: the bare name loads it a second time")
        elif name.startswith("."):
            found.append(f"{module}:{line} imports {name}: imports are absolute here")
        elif within(name, OURS) and not any(within(name, package) for package in allowed):
            found.append(f"{module}:{line} imports {name}, which its package may not")
    return found


def our_modules() -> dict[str, Path]:
    """Every module of the package by its name, and where it lies."""
    package = ROOT / "src" / OURS
    roots = [(ROOT, ROOT / folder) for folder in FOLDERS]
    roots += [(package, path) for path in package.iterdir() if not path.is_symlink()]
    modules = {}
    for root, place in roots:
        for path in (place,) if place.suffix == ".py" else place.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join((OURS, *parts)).removesuffix(".__init__")] = path
    return modules


MODULES = our_modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_import_only_what_their_package_may(module: str) -> None:
    code = MODULES[module].read_text(encoding="utf-8")
    assert not broken_rules(module, code, frozenset(MODULES))


def test_every_folder_was_looked_at() -> None:
    for folder in FOLDERS:
        assert any(within(module, f"{OURS}.{folder}") for module in MODULES)
    assert {"rowtrail", "rowtrail.api", "rowtrail.connectors.base"} <= MODULES.keys()
    assert any(within(module, "rowtrail.cli") for module in MODULES)
    assert not any("checkpoints.rowtrail" in module for module in MODULES)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("rowtrail.checkpoints.ledger", "import rowtrail.connectors.base"),
        ("rowtrail.checkpoints.ledger", "from rowtrail import connectors"),
        ("rowtrail.checkpoints.ledger", "import rowtrail"),
        ("rowtrail.connectors.base", "from rowtrail.checkpoints.states import Outcome"),
        ("rowtrail.connectors.base", "from rowtrail.connectors.sources import sqlite"),
        ("rowtrail.connectors.sources.sqlite", "from rowtrail.pipelines import run"),
        (
            "rowtrail.connectors.sources.sqlite",
            "from rowtrail.connectors.destinations.duckdb import DuckdbDestination",
        ),
        (
            "rowtrail.connectors.destinations.duckdb",
            "def f():\n    from rowtrail.connectors.sources import sqlite",
        ),
        ("rowtrail.connectors.destinations.duckdb", "import rowtrail.connectors.capture.trigger"),
        ("rowtrail.pipelines.run", "from rowtrail.connectors.sources.sqlite import SqliteSource"),
        ("rowtrail.pipelines.run", "from rowtrail.connectors import destinations"),
        ("rowtrail.pipelines.run", "from rowtrail import cli"),
        ("rowtrail.pipelines.run", "from rowtrail import transform"),
        ("rowtrail.pipelines.run", "if TYPE_CHECKING:\n    from rowtrail.api import Pipeline"),
        ("rowtrail.pipelines.run", "from . import stages"),
        ("rowtrail.cli", "import connectors"),
        ("rowtrail.cli", "from checkpoints.ledger import Ledger"),
        ("rowtrail.api", "import sample_data.generate"),
    ],
)
def test_a_broken_rule_is_found(module: str, code: str) -> None:
    exists = frozenset(MODULES) | {"rowtrail.connectors.sources.sqlite", "rowtrail.cli"}
    assert len(broken_rules(module, code, exists)) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("rowtrail.checkpoints.ledger", "from rowtrail.checkpoints.states import Outcome"),
        ("rowtrail.connectors.sources.sqlite", "from rowtrail.connectors.capture import cursor"),
        ("rowtrail.connectors.sources.sqlite", "import rowtrail.connectors.schema, sqlite3"),
        ("rowtrail.pipelines.run", "from rowtrail.connectors import base, registry"),
        ("rowtrail.pipelines.run", "from rowtrail.checkpoints.ledger import open_ledger"),
        ("rowtrail.cli", "from rowtrail.connectors.sources import sqlite"),
        ("rowtrail.sample_data.transforms", "from rowtrail import transform"),
    ],
)
def test_what_is_allowed_passes(module: str, code: str) -> None:
    assert not broken_rules(module, code, frozenset(MODULES))


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, rowtrail.cli\n"
        f"print(*sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
