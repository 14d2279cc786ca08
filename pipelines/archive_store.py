"""Where an archive's files lie: a local folder, or whatever fsspec reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol

from rowtrail.connectors.errors import ConfigurationError, RowtrailError, StopError


class ArchiveStore(Protocol):
    """Files by their path below the archive. What goes wrong is a StopError that names the file."""

    location: str  # for messages: without user, password or query

    def files(self, folder: str) -> list[str]:
        """The paths of all files in a folder and below; none where there is no such folder."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """The whole file is there afterwards, also after a loss of power, or none of it."""
        ...

    def read(self, path: str) -> bytes: ...

    def remove(self, path: str) -> None:
        """It does not matter whether it was there."""
        ...


class FolderStore:
    """A local folder, made when the first file is written. Only its owner can read the files."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def files(self, folder: str) -> list[str]:
        with _told(self.location, "be listed", folder):
            return sorted(
                str((Path(place) / name).relative_to(self._folder))
                for place, _, names in os.walk(self._folder / folder, onerror=_unless_missing)
                for name in names
            )

    def write(self, path: str, content: bytes) -> None:
        place = self._folder / path
        temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        with _told(self.location, "take", path):
            _make_folders(place.parent)
            try:
                with open(temporary, "wb", opener=_private) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(place)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
            _sync_folder(place.parent)

    def read(self, path: str) -> bytes:
        with _told(self.location, "give", path):
            return (self._folder / path).read_bytes()

    def remove(self, path: str) -> None:
        with _told(self.location, "remove", path):
            (self._folder / path).unlink(missing_ok=True)


class FsspecStore:
    """A folder behind a URL such as `s3://bucket/archive`. Object stores put a file whole."""

    def __init__(self, url: str) -> None:
        self.location = without_secrets(url)
        self._secrets = _secrets_of(url)
        with self._told("be opened", self.location):
            try:
                self._system, self._root = import_module("fsspec.core").url_to_fs(url)
            except ImportError as error:
                raise ConfigurationError(
                    f"The archive {self.location} needs the Python package "
                    f"{error.name or 'that its protocol asks for'}. For URLs, install "
                    f"'rowtrail[archive]', and the package of the protocol (s3fs, gcsfs, adlfs …)."
                ) from None
        self._root = self._root.rstrip("/")

    def files(self, folder: str) -> list[str]:
        with self._told("be listed", folder):
            self._system.invalidate_cache()
            try:
                found: list[str] = self._system.find(f"{self._root}/{folder}")
            except FileNotFoundError:
                return []
            start = self._system._strip_protocol(f"{self._root}/{folder}")
            return sorted(
                f"{folder}{one[len(start) :]}" for one in found if one.startswith(f"{start}/")
            )

    def write(self, path: str, content: bytes) -> None:
        with self._told("take", path):
            self._system.makedirs(f"{self._root}/{path}".rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(f"{self._root}/{path}", content)

    def read(self, path: str) -> bytes:
        with self._told("give", path):
            return bytes(self._system.cat_file(f"{self._root}/{path}"))

    def remove(self, path: str) -> None:
        with self._told("remove", path), suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{path}")

    @contextmanager
    def _told(self, doing: str, what: str) -> Iterator[None]:
        """Each protocol raises what it likes, and may quote the URL with its password."""
        try:
            yield
        except RowtrailError:
            raise
        except Exception as error:  # noqa: BLE001
            words = f"{type(error).__name__}: {error}"
            for secret in self._secrets:
                words = words.replace(secret, "…")
            raise _refused(self.location, doing, what, words) from None


def open_store(place: str) -> ArchiveStore:
    """The store at a folder's path or at a URL. Raises ConfigurationError for an unknown protocol.

    Nothing is read or made yet.
    """
    protocol, found, rest = place.partition("://")
    if not found:
        return FolderStore(Path(place))
    if protocol == "file":
        return FolderStore(Path(rest))
    return FsspecStore(place)


def without_secrets(url: str) -> str:
    """The URL as it may be told: no user, no password, no query."""
    return re.sub(r"://[^/?#]*@", "://", url).partition("?")[0]


def _secrets_of(url: str) -> tuple[str, ...]:
    """What stands in the URL and may be told to nobody, the longest first."""
    users = re.findall(r"://([^/?#]*)@", url)
    parts = [*users, *(part for one in users for part in one.split(":", 1)[1:])]
    query = url.partition("?")[2]
    parts += [query, *(one.partition("=")[2] for one in query.split("&"))]
    return tuple(sorted({part for part in parts if part}, key=len, reverse=True))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_folders(folder: Path) -> None:
    """Whoever may look into the archive's parent may not look into the archive."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def _told(location: str, doing: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(location, doing, what, error.strerror or str(error)) from error


def _refused(location: str, doing: str, what: str, why: str) -> StopError:
    could = doing if doing.startswith("be ") else f"{doing} file {what}"
    return StopError(f"The archive {location} could not {could}: {why}.")
