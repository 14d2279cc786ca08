"""What the figures depend on: the machine and the versions."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

_PACKAGES = (
    "rowtrail",
    "duckdb",
    "pyarrow",
    "pandas",
    "sqlalchemy",
    "adbc-driver-sqlite",
    "adbc-driver-postgresql",
    "psycopg",
)


def facts(folder: Path) -> dict[str, str]:
    """Name and value; `folder` is where the data goes."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {pages * page / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, load {load:.1f} at the start",
        "disk": f"{_file_system(folder)}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that holds the folder, where the system tells."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    path = folder.resolve()
    holding = [(point, kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "unknown file system"
