"""Virtual environments for the peers, made on first use and kept in `.benchmarks/`.

They never touch the environment of Rowtrail: their pins differ, and nothing of theirs is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.child import Interpreter

_HERE = Path(__file__).parent
_KEPT = _HERE.parent.parent / ".benchmarks"

_SETTINGS = {
    # Nothing is reported to anybody, and no folder in the user's home is written to.
    "dlt": {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "DLT_DATA_DIR": str(_KEPT / "dlt"),
    },
    "debezium": {},
}


class PeerMissingError(RuntimeError):
    """A peer cannot be run here; the message says what it needs."""


def peer(name: str) -> Interpreter:
    """The Python that has the peer installed, as `NAME.txt` beside this file pins it.

    Raises PeerMissingError, where the package index cannot be reached or Java is missing.
    """
    if name == "debezium" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise PeerMissingError(
            "Debezium needs Java: install Debian's package `default-jre-headless`, or leave the "
            "peers out with --no-peers."
        )
    return Interpreter(python=_environment(name), settings=_SETTINGS[name])


def _environment(name: str) -> str:
    """A folder for each set of pins, so that new ones are never mixed with old ones."""
    pins = _HERE / f"{name}.txt"
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:8]
    folder = _KEPT / "venvs" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"Installing {name} into {folder} …", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run(
                [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", pins],
                check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise PeerMissingError(
                f"{name} could not be installed ({error}). Leave the peers out with --no-peers."
            ) from error
        complete.touch()
    return str(python)
