"""Opens a DuckDB file: its URL, its private files, and what can be wrong with them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb

from rowtrail.connectors.destinations.duckdb_errors import held_by_another, translate
from rowtrail.connectors.destinations.duckdb_memory import DEFAULT_LIMIT
from rowtrail.connectors.errors import (
    ConfigurationError,
    RowtrailError,
    StopError,
    TargetMissingError,
    TransientError,
)

DEFAULT_THREADS = 2

_MEMORY = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.I)
_MAGIC_AT, _MAGIC = 8, b"DUCK"  # https://duckdb.org/docs/stable/internals/storage.html
_SQLITE_MAGIC = b"SQLite format 3\x00"
_EXAMPLE = "duckdb:///warehouse.duckdb or duckdb:////srv/warehouse.duckdb?memory_limit=512MB"


@dataclass(frozen=True, kw_only=True)
class DuckdbUrl:
    """What `duckdb:///path?memory_limit=512MB&threads=2` says."""

    path: Path
    memory_limit: str | None = None  # None: DEFAULT_LIMIT, raised where a batch needs more
    threads: int = DEFAULT_THREADS

    @classmethod
    def parse(cls, url: str) -> DuckdbUrl:
        """Three slashes and a relative path, or four and an absolute one.

        Raises ConfigurationError, which shows how it should look.
        """
        parts = urlsplit(url)
        if parts.netloc or not parts.path.startswith("/"):
            raise _wrong_url("a path follows three slashes, or four if it is absolute")
        path = unquote(parts.path[1:])
        if not path or path == ":memory:" or "\0" in path:
            raise _wrong_url("it names no file, and a database in memory would not outlive the run")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        memory = options.pop("memory_limit", None)
        threads = options.pop("threads", str(DEFAULT_THREADS))
        if options:
            raise _wrong_url(
                f"it knows no option {', '.join(sorted(options))}, only memory_limit and threads"
            )
        if memory is not None and not _MEMORY.fullmatch(memory):
            raise _wrong_url(f"memory_limit={memory} is no amount of memory such as 512MB or 2GB")
        if not threads.isdecimal() or int(threads) < 1:
            raise _wrong_url(f"threads={threads} is no number of threads from 1 on")
        return cls(path=Path(path), memory_limit=memory, threads=int(threads))


def _wrong_url(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The URL of the DuckDB destination cannot be used: {why}. Write it like {_EXAMPLE}."
    )


def open_file(url: DuckdbUrl, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Connects to the file, which is made unless `read_only`.

    Raises TargetMissingError for a file that is yet to be made and is only to be read,
    ConfigurationError for a file or folder that is missing, of another kind or forbidden,
    TransientError when another process holds it, StopError for a broken one.
    """
    doing = f"open {url.path}"
    fresh = _check_file(url.path, read_only=read_only)
    try:
        connection = duckdb.connect(url.path, read_only=read_only, config=_config(url))
        connection.execute("SET TimeZone = 'UTC'")
    except duckdb.Error as error:
        raise _open_error(error, url.path, doing) from error
    if fresh:
        url.path.chmod(0o600)
    if not read_only:
        # DuckDB would make this folder for what does not fit into memory, open to everyone.
        _spill_folder(url.path).mkdir(mode=0o700, exist_ok=True)
    return connection


def close_file(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Closes; DuckDB moves its write-ahead log into the file. Doing so twice is no error."""
    with suppress(duckdb.Error):
        connection.close()
    with suppress(OSError):
        _spill_folder(path).rmdir()


def prepare_private_log(path: Path) -> None:
    """Makes the write-ahead log, if there is none, readable by its owner alone.

    DuckDB removes it at each checkpoint and makes a new one with the process's umask; it takes over
    an empty one that is there before it first writes.
    """
    with suppress(FileExistsError):
        os.close(os.open(f"{path}.wal", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _config(url: DuckdbUrl) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "memory_limit": url.memory_limit or f"{DEFAULT_LIMIT}B",
        "threads": str(url.threads),
        # Otherwise a file of another kind makes DuckDB ask the network for an extension.
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        # Otherwise a table that is missing is looked for among Python's variables.
        "python_enable_replacements": "false",
    }


def _spill_folder(path: Path) -> Path:
    return Path(f"{path}.tmp")


def _check_file(path: Path, *, read_only: bool) -> bool:
    """Whether the file is yet to be made; raises ConfigurationError where it cannot be used."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return _check_folder(path, read_only=read_only)
    except IsADirectoryError:
        raise ConfigurationError(
            f"{path} is a folder, not a DuckDB file. Name a file in the destination's URL."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The DuckDB file {path} cannot be opened: {error.strerror}. Check the path in the "
            f"destination's URL and the rights of this user."
        ) from error
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        kind = "an SQLite database" if head == _SQLITE_MAGIC else "something else"
        raise ConfigurationError(
            f"{path} is not a DuckDB file but {'empty' if not head else kind}. It was left as it "
            f"is; name another file in the destination's URL, or move this one away."
        )
    return False


def _check_folder(path: Path, *, read_only: bool) -> bool:
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"The folder {path.parent} of the DuckDB file {path.name} does not exist. Create it, "
            f"or correct the destination's URL."
        )
    if read_only:
        raise TargetMissingError(
            f"The DuckDB file {path} does not exist yet. The first run makes it; if there was one, "
            f"correct the destination's URL."
        )
    return True


def _open_error(error: duckdb.Error, path: Path, doing: str) -> RowtrailError:
    text = str(error)
    if "different configuration" in text:
        return TransientError(held_by_another(doing, f"{os.getpid()} (this one)"))
    if "WAL" in text:
        return StopError(
            f"DuckDB could not {doing}: the write-ahead log {path}.wal does not go with it "
            f"({text.splitlines()[0]}). Most likely an older copy of the file was put back. Move "
            f"the log away, for what it holds was written to the newer file, then run again."
        )
    if "version number" in text:
        return ConfigurationError(
            f"The DuckDB file {path} was written by a version of DuckDB that this one "
            f"({duckdb.__version__}) cannot read. Upgrade with: pip install --upgrade duckdb"
        )
    if "ermission denied" in text or "ead-only file system" in text:
        return ConfigurationError(
            f"The DuckDB file {path} cannot be written: permission was denied. Give this user the "
            f"right to write the file and its folder, or name another file in the URL."
        )
    return translate(error, doing, record=False)
