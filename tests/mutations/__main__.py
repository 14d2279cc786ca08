"""`python -m tests.mutations [NAME...]`: whether the tests catch each deliberate bug.

Each bug is put into a copy of the repository in a temporary folder, and the tests that should catch
it are run there. Exits with 1 when one survives, or when the tests fail without any.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from tests.mutations.catalogue import MUTATIONS, ROOT, Mutation

_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".rowtrail", "demo"
)
_FAILED = 1
"""What pytest exits with when tests failed; other numbers say that it could not run them."""


def main() -> int:
    chosen = _chosen()
    with tempfile.TemporaryDirectory(prefix="rowtrail-mutations-") as folder:
        copy = Path(folder, "repository")
        shutil.copytree(ROOT, copy, symlinks=True, ignore=_LEFT_OUT)
        _refuse_another_package(copy)
        if not _passes_without(copy, chosen):
            print("The tests fail without any bug, so what they would say of one means nothing.")
            return 1
        print("the tests pass without any bug", flush=True)
        survived = [mutation.name for mutation in chosen if not _is_caught(copy, mutation)]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    if survived:
        print(f"survived: {', '.join(survived)}")
    return 1 if survived else 0


def _chosen() -> Sequence[Mutation]:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone")
    names = parser.parse_args().names
    unknown = set(names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        known = ", ".join(mutation.name for mutation in MUTATIONS)
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {known}")
    return [mutation for mutation in MUTATIONS if not names or mutation.name in names]


def _passes_without(copy: Path, chosen: Sequence[Mutation]) -> bool:
    tests = dict.fromkeys(test for mutation in chosen for test in mutation.tests)
    done = _run_tests(copy, list(tests))
    if done.returncode:
        print(done.stdout)
    return done.returncode == 0


def _is_caught(copy: Path, mutation: Mutation) -> bool:
    started = perf_counter()
    with _in_place(copy, mutation):
        done = _run_tests(copy, mutation.tests)
    # An import that fails, or a test that is no longer there, catches nothing.
    caught = done.returncode == _FAILED
    word = "caught  " if caught else "SURVIVED"
    by = next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), "")
    print(f"{word} {mutation.name} ({perf_counter() - started:.0f} s) {by[:150]}", flush=True)
    if not caught and done.returncode:
        print(done.stdout)
    return caught


@contextmanager
def _in_place(copy: Path, mutation: Mutation) -> Iterator[None]:
    path = copy / mutation.path
    text = path.read_text(encoding="utf-8")
    path.write_text(mutation.applied(text), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def _run_tests(copy: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False
    )


def _environment(copy: Path) -> dict[str, str]:
    """Two writes of a file within a second may leave the older bytecode in use: none is kept."""
    path = os.pathsep.join([str(copy / "src"), str(copy)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def _refuse_another_package(copy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import rowtrail; print(rowtrail.__file__)"],
        cwd=copy,
        env=_environment(copy),
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(done.stdout.strip()).is_relative_to(copy):
        raise SystemExit(f"Not the copy would be tested, but {done.stdout.strip()}.")


if __name__ == "__main__":
    raise SystemExit(main())
