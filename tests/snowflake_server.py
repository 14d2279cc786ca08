"""A server that stands in for Snowflake: fakesnow, in an environment of its own.

The real connector talks to it over HTTP. It is no Snowflake: docs/snowflake.md says what was
verified against which. `make` makes the environment; where it is missing the tests fail.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Self

ENVIRONMENT = Path(sys.prefix) / "fakesnow"
_names = count(1)


class SnowflakeServer:
    """Serves on a port of its own until it is closed."""

    def __enter__(self) -> Self:
        python = ENVIRONMENT / "bin" / "python"
        if not python.exists():
            raise RuntimeError(f"{python} is missing. Run: make fakesnow")
        self._process = subprocess.Popen(
            [str(python), "-I", str(Path(__file__).with_name("fakesnow_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def url(self) -> str:
        """The URL of an empty database."""
        return (
            f"snowflake://somebody:secret@local/db{next(_names)}/public"
            f"?host=127.0.0.1&port={self.port}&protocol=http"
        )
