"""Tests keep their files in memory where there is room: most of them wait for a disk otherwise.

Each step of a run is made durable, and each test of PostgreSQL makes a database of a thousand
files. Where a process is killed, or a ledger is put back as a loss of power leaves it, files in
memory show the same. `make soak` uses the disk, and so does whoever sets TMPDIR to a folder on it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.soak import SOAK

FOLDER = Path("/dev/shm")
ROOM = 4 * 2**30
"""Bytes; three workers with a server each need less than half of it."""


def use_memory() -> None:
    """Makes it the folder of temporary files, of this process and of those that it starts."""
    if "TMPDIR" in os.environ or SOAK or not os.access(FOLDER, os.W_OK):
        return
    if shutil.disk_usage(FOLDER).free >= ROOM:
        os.environ["TMPDIR"] = str(FOLDER)
        tempfile.tempdir = None  # found anew
