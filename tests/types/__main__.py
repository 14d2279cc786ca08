"""Writes docs/types-postgres.md anew: python -m tests.types."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.postgres_server import PostgresServer
from tests.types.matrix import observe
from tests.types.page import PAGE, render


def main() -> None:
    with (
        PostgresServer() as server,
        server.database() as source,
        server.database() as target,
        TemporaryDirectory() as folder,
    ):
        PAGE.write_text(render(observe(source, target, Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
