"""Python modules that lie beside a pipeline's file: imported for that pipeline alone, and read."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import ModuleType

from rowtrail.pipelines.pandas_import import bring_pandas

_LOCK = RLock()  # the import path and the table of modules belong to the whole process
_NEVER_HIDDEN = sys.stdlib_module_names | {__name__.partition(".")[0]}


def import_beside(module_name: str, folder: Path) -> ModuleType:
    """Imports a module; those in the folder, and what they import at their top, are found first.

    Modules of the folder are forgotten afterwards: two pipelines in one process may each have a
    `helpers.py` of their own, and a file that was changed is read again. Raises what the import
    raises.
    """
    bring_pandas()
    with _LOCK, _first_on_path(folder.resolve()):
        return importlib.import_module(module_name)


def source_files(module_name: str, folder: Path) -> list[Path]:
    """The module's file and those in the folder that it imports, directly or not; in order.

    Found by reading import statements, so that it is the same in every process. Empty for a module
    that does not lie in the folder.
    """
    found: dict[Path, None] = {}
    to_read = [module_name]
    while to_read:
        name = to_read.pop()
        for path in _files_of(name, folder):
            if path not in found:
                found[path] = None
                to_read += _imported(path, name)
    return sorted(found)


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    entry = str(folder)
    named_alike = _named_alike(folder)
    hidden = {name: sys.modules[name] for name in named_alike if _stands_before(name, folder)}
    kept = set(named_alike) - set(hidden)
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
        for name in _named_alike(folder):
            if name not in kept and _lies_in(name, folder):
                del sys.modules[name]
        sys.modules.update(hidden)


def _named_alike(folder: Path) -> list[str]:
    """The imported modules whose name begins like something in the folder, wherever they lie."""
    tops = {item.name.partition(".")[0] for item in folder.iterdir()} if folder.is_dir() else set()
    return [name for name in sys.modules if name.partition(".")[0] in tops]


def _stands_before(name: str, folder: Path) -> bool:
    """Whether an imported module from elsewhere hides one in the folder."""
    top = name.partition(".")[0]
    return top not in _NEVER_HIDDEN and bool(_files_of(top, folder)) and not _lies_in(name, folder)


def _lies_in(name: str, folder: Path) -> bool:
    """Whether a module was imported by its place in the folder.

    What was found by another entry of the path, as in a virtual environment there, was not.
    """
    module = sys.modules[name]
    spec = getattr(module, "__spec__", None)
    locations = [getattr(module, "__file__", None)]
    locations += list(getattr(spec, "submodule_search_locations", None) or [])
    places = [Path(location).resolve() for location in locations if location]
    top = name.partition(".")[0]
    return any(
        place.is_relative_to(folder)
        and place != folder
        and place.relative_to(folder).parts[0].partition(".")[0] == top
        for place in places
    )


def _files_of(module_name: str, folder: Path) -> list[Path]:
    """The files that importing this name runs, packages on the way included."""
    files: list[Path] = []
    place = folder
    for part in module_name.split("."):
        place = place / part
        files += [place / "__init__.py", place.with_name(f"{part}.py")]
    return [path for path in files if path.is_file()]


def _imported(path: Path, module_name: str) -> list[str]:
    """The names that a file imports; `from a import b` gives a and a.b, since b may be a module."""
    package = module_name.split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names: list[str] = []
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # not imported either, or importing it says so
        return names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name]
