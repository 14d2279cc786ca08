"""An archive behind a URL, over fsspec; and nobody is told the secrets in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rowtrail.connectors.errors import ConfigurationError, StopError
from rowtrail.pipelines.archive_store import FsspecStore, open_store, without_secrets
from tests.pipelines.archived import Archived, assert_goes_on, change, fill
from tests.pipelines.witness import ledger_of
from tests.pipelines.world import World

SECRETS = ("hunter2", "k3y", "etl")


class Faulty(MemoryFileSystem):  # type: ignore[misc]
    """Fails as the protocols of clouds do: with an error of its own, and the URL in it."""

    protocol = "faulty"

    def pipe_file(self, path: str, value: bytes, **options: object) -> None:
        raise RuntimeError("403 for faulty://etl:hunter2@bucket/archive?key=k3y")


@pytest.fixture
def url() -> Iterator[str]:
    yield "memory://archive-of-tests"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_a_target_is_rebuilt_from_a_url(world: World, url: str) -> None:
    archived = Archived(world, url)
    pipeline = archived.pipeline()
    fill(world)
    pipeline.run()
    change(world)
    pipeline.run()
    batch = archived.batches()[0]
    assert fsspec.filesystem("memory").exists(f"/archive-of-tests/{batch.path}")
    archived.lose_target()
    archived.lose_ledger()
    with archived.without_source():
        assert archived.replay(pipeline).complete
    assert world.loaded() == world.expected()
    assert_goes_on(world, pipeline)


def test_files_are_written_read_listed_and_removed(url: str) -> None:
    store = open_store(url)
    assert store.files("shop") == []
    store.write("shop/orders/1/a%2Fb.parquet", b"bytes")
    store.write("shop/lines/1/b.parquet", b"others")
    assert store.files("shop") == ["shop/lines/1/b.parquet", "shop/orders/1/a%2Fb.parquet"]
    assert store.files("shop/orders") == ["shop/orders/1/a%2Fb.parquet"]
    assert store.read("shop/orders/1/a%2Fb.parquet") == b"bytes"
    store.remove("shop/lines/1/b.parquet")
    store.remove("shop/lines/1/b.parquet")
    assert store.files("shop") == ["shop/orders/1/a%2Fb.parquet"]
    with pytest.raises(StopError, match="could not give file"):
        store.read("shop/lines/1/b.parquet")


def test_no_secret_of_a_url_is_told_or_kept(world: World) -> None:
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    place = "faulty://etl:hunter2@bucket/archive?key=k3y"
    assert without_secrets(place) == "faulty://bucket/archive"
    fill(world)
    result = Archived(world, place).pipeline().run()
    told = result.streams["orders"].error
    assert told is not None and "RuntimeError: 403 for" in told
    with ledger_of(world) as ledger:
        found = ledger.streams.get("orders")
    assert found is not None and found.state_reason == told
    kept = b"".join(path.read_bytes() for path in world.folder.glob("ledger.db*"))
    for secret in SECRETS:
        assert secret not in told and secret.encode() not in kept


def test_an_unknown_protocol_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StopError, match="could not be opened"):
        FsspecStore("nosuch://bucket/archive")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigurationError, match=r"rowtrail\[archive\]"):
        FsspecStore("memory://archive")


def test_a_file_url_is_a_folder(world: World) -> None:
    archived = Archived(world, f"file://{world.folder}/archive")
    fill(world)
    archived.pipeline().run()
    assert len(list((world.folder / "archive").rglob("*.parquet"))) == len(archived.batches()) == 4
