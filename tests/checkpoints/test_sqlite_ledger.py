"""The ledger in a SQLite file: all that every ledger does, and what is particular to files."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from rowtrail.checkpoints import sqlite
from rowtrail.checkpoints.errors import (
    LedgerAccessError,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
)
from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.checkpoints.states import BatchKind, BatchState, DecisionKind
from tests.checkpoints.desk import NOTHING, Desk, FakeClock, failure, manifest, record
from tests.checkpoints.ledger_conformance import LedgerConformance
from tests.checkpoints.rules_leases import PROCESSES

Opener = Callable[[], Ledger]


class TestSqliteLedger(LedgerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path, clock: FakeClock) -> Opener:
        return partial(open_ledger, tmp_path / "ledger.db", "shop", clock=clock)

    @pytest.fixture
    def new_opener(self, tmp_path: Path, clock: FakeClock) -> Opener:
        return partial(open_ledger, tmp_path / "other.db", "shop", clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = open_ledger(path, "shop")
    yield ledger
    ledger.close()


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    return Desk(ledger)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


class TestTheFile:
    def test_others_cannot_read_it(self, desk: Desk, path: Path, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            desk.close([1], 1)
            names = ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
            assert sorted(file.name for file in path.parent.iterdir()) == names
            assert {mode(file) for file in path.parent.iterdir()} == {0o600}
            assert mode(path.parent) == 0o700
            desk.ledger.backup(tmp_path / "copy.db")
            assert mode(tmp_path / "copy.db") == 0o600
        finally:
            os.umask(before)

    def test_its_side_files_go_when_it_is_closed(self, ledger: Ledger, path: Path) -> None:
        ledger.close()
        assert [file.name for file in path.parent.iterdir()] == ["ledger.db"]

    def test_opening_writes_nothing_to_a_ledger_that_is_current(
        self, ledger: Ledger, path: Path
    ) -> None:
        ledger.close()
        before = path.read_bytes()
        open_ledger(path, "shop").close()
        assert path.read_bytes() == before

    def test_many_processes_may_make_it_at_once(self, path: Path) -> None:
        code = (
            "import sys; from rowtrail.checkpoints.ledger import open_ledger\n"
            "sys.stdin.read()\n"
            f"print(open_ledger({str(path)!r}, 'shop').id)"
        )
        makers = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.close()
        ids = set()
        for maker in makers:
            assert maker.stdout is not None
            ids.add(maker.stdout.read())
            maker.stdout.close()
            assert maker.wait() == 0
        assert len(ids) == 1

    def test_another_pipeline_is_refused(self, ledger: Ledger, path: Path) -> None:
        with pytest.raises(LedgerError, match=r"belongs to the pipeline shop, not to store"):
            open_ledger(path, "store")

    def test_a_lost_ledger_s_id_is_taken_over(self, path: Path, tmp_path: Path) -> None:
        with closing(open_ledger(path, "shop", ledger_id="lost")) as ledger:
            assert ledger.id == "lost"
        with closing(open_ledger(path, "shop")) as ledger:
            assert ledger.id == "lost"
        with pytest.raises(LedgerError, match=r"exists and has another id \(lost\)"):
            open_ledger(path, "shop", ledger_id="another")

    def test_another_database_is_refused_and_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE schema_versions (version)")
        before = path.read_bytes()
        with pytest.raises(LedgerCorruptError, match=r"app\.db is a database but no ledger"):
            open_ledger(path, "shop")
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["app.db"]

    def test_another_file_is_refused_and_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("milk, bread\n" * 200)
        before = path.read_bytes()
        with pytest.raises(LedgerCorruptError, match=r"notes\.txt cannot be used: it is damaged"):
            open_ledger(path, "shop")
        assert path.read_bytes() == before

    def test_a_damaged_ledger_is_said_to_be_damaged(self, desk: Desk, path: Path) -> None:
        desk.close(range(1_000), 1)
        desk.ledger.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(LedgerCorruptError, match=r"Restore a back-up, or rebuild it"):
            Desk(open_ledger(path, "shop"))

    def test_a_path_that_cannot_be_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file" / "ledger.db", tmp_path):
            with pytest.raises(LedgerAccessError, match=r"cannot be opened: .*Check the path"):
                open_ledger(path, "shop")


class TestCrashes:
    @pytest.mark.parametrize("step", ["open", "prepare", "close"])
    def test_a_batch_is_whole_or_not_there(self, path: Path, step: str) -> None:
        """The process dies inside the transaction, after all of its writes but the commit."""
        ledger = open_ledger(path, "shop")
        Desk(ledger).close([1], 1)
        ledger.close()
        child = PROCESSES.Process(target=_die_in, args=(path, step))
        child.start()
        child.join()
        assert child.exitcode == 9
        check_integrity(path)
        ledger = open_ledger(path, "shop")
        found = [one.state for one in ledger.batches.unfinished()]
        assert found == {"open": [], "prepare": ["open"], "close": ["prepared"]}[step]
        stream = ledger.streams.get("orders")
        assert stream is not None and stream.position == "after 1"
        assert ledger.failures.list() == []
        for batch in ledger.batches.unfinished():
            if batch.state is BatchState.PREPARED:
                ledger.batches.close(batch.batch_id, NOTHING)
            else:
                ledger.batches.abandon(batch.batch_id)
        Desk(ledger).close([4], 3)
        ledger.close()
        check_integrity(path)

    def test_a_killed_process_leaves_a_consistent_ledger(self, path: Path) -> None:
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, "-c", _WRITE_FOR_EVER, str(path)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            ) as child:
                assert child.stdout is not None
                for _ in range(6):
                    child.stdout.readline()
                child.kill()
                closed = [int(line) for line in child.stdout.read().split()]
            check_integrity(path)
            ledger = open_ledger(path, "shop")
            stream = ledger.streams.get("orders")
            assert stream is not None
            if closed:  # what was said to be closed is
                assert stream.sequence >= closed[-1]
            assert stream.position == f"after {stream.sequence}"
            assert len(ledger.failures.held_back("orders")) == stream.sequence
            for batch in ledger.batches.unfinished():
                ledger.batches.abandon(batch.batch_id)
            ledger.close()


def _die_in(path: Path, step: str) -> None:
    desk = Desk(open_ledger(path, "shop"))
    batch = None if step == "open" else desk.open()
    content = manifest(batch.batch_id if batch else "", [2, 3], 2, failures=(failure(4, 2),))
    if step == "close":
        desk.ledger.batches.prepare(content)
    from sqlalchemy import event

    @event.listens_for(desk.ledger._store.engine, "commit")
    def die(_connection: object) -> None:
        os._exit(9)

    match step:
        case "open":
            desk.open()
        case "prepare":
            desk.ledger.batches.prepare(content)
        case "close":
            assert batch is not None
            desk.ledger.batches.close(batch.batch_id, pa.array([0], pa.uint32()))


_WRITE_FOR_EVER = """
import sys
from rowtrail.checkpoints.ledger import open_ledger
from tests.checkpoints.desk import Desk, failure
desk = Desk(open_ledger(sys.argv[1], "shop"))
while True:
    position = desk.ledger.streams.get("orders").sequence + 1
    desk.close(range(3_000), position, failures=(failure(position, position),))
    print(position, flush=True)
"""


class TestSharing:
    def test_others_read_while_one_writes(self, desk: Desk, path: Path) -> None:
        desk.close([1], 1)
        with desk.ledger._store.write() as connection:
            connection.exec_driver_sql("UPDATE streams SET position = 'half way'")
            code = (
                "import sys; from rowtrail.checkpoints.ledger import open_ledger\n"
                "from rowtrail.checkpoints.record_id import RecordId\n"
                "ledger = open_ledger(sys.argv[1], 'shop')\n"
                "print(ledger.streams.get('orders').position,\n"
                "      [e.event for e in ledger.trail(RecordId('orders', (1,)))])"
            )
            said = subprocess.run(
                [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
            )
        assert said.stdout.strip() == "after 1 ['loaded']"

    def test_a_writer_that_waits_too_long_is_told_so(
        self, desk: Desk, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.0)
        with closing(open_ledger(path, "shop")) as other, desk.ledger._store.write():
            assert other.streams.get("orders") is not None
            with pytest.raises(LedgerBusyError, match=r"another process is writing to it"):
                other.runs.start()
        assert desk.ledger.runs.start()

    def test_threads_share_a_ledger(self, desk: Desk) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def use(number: int) -> int:
            return desk.ledger.streams.next_read("orders")

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(use, range(40))) == list(range(1, 41))


class TestBackup:
    def test_a_copy_is_a_ledger(self, desk: Desk, tmp_path: Path) -> None:
        desk.close([1, 2], 1, failures=(failure(3, 1),))
        copy = tmp_path / "backups" / "copy.db"
        desk.ledger.backup(copy)
        desk.close([1], 2)
        check_integrity(copy)
        with closing(open_ledger(copy, "shop")) as older:
            assert older.id == desk.ledger.id
            stream = older.streams.get("orders")
            assert stream is not None and stream.sequence == 1
            assert [entry.event for entry in older.trail(record(3))] == ["failed"]
        assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]

    def test_a_copy_is_made_while_another_process_writes(self, path: Path, tmp_path: Path) -> None:
        ledger = open_ledger(path, "shop")
        with subprocess.Popen(
            [sys.executable, "-c", _WRITE_FOR_EVER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as writer:
            assert writer.stdout is not None
            for number in range(5):
                closed = int(writer.stdout.readline())
                copy = tmp_path / f"copy{number}.db"
                ledger.backup(copy)
                check_integrity(copy)
                with closing(open_ledger(copy, "shop")) as older:
                    stream = older.streams.get("orders")
                    assert stream is not None and stream.sequence >= closed
                    assert len(older.failures.held_back("orders")) == stream.sequence
            writer.kill()
        ledger.close()

    def test_nothing_is_overwritten(self, ledger: Ledger, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        copy.write_text("precious")
        with pytest.raises(LedgerError, match=r"copy\.db exists already and is not overwritten"):
            ledger.backup(copy)
        assert copy.read_text() == "precious"

    def test_a_file_system_without_links_will_do(
        self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_names: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        desk.ledger.backup(tmp_path / "copy.db")
        check_integrity(tmp_path / "copy.db")
        assert not (tmp_path / "copy.db.partial").exists()

    def test_a_folder_that_cannot_be_is_named(self, ledger: Ledger, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(LedgerAccessError, match=r"file/copy\.db cannot be written"):
            ledger.backup(tmp_path / "file" / "copy.db")


class TestFullDisk:
    def test_a_full_disk_loses_nothing(self, desk: Desk, path: Path) -> None:
        desk.close([1], 1)
        _limit(desk.ledger, pages=0)
        before = desk.ledger.streams.get("orders")
        batch = desk.open()
        with pytest.raises(
            LedgerFullError, match=r"the disk is full .* nothing is lost: make room"
        ):
            _prepare_much(desk, batch.batch_id)
        assert desk.ledger.batches.get(batch.batch_id).state is BatchState.OPEN
        assert desk.ledger.streams.get("orders") == before
        _limit(desk.ledger, pages=1_000_000)
        _prepare_much(desk, batch.batch_id)
        desk.ledger.batches.close(batch.batch_id, NOTHING)
        check_integrity(path)

    def test_a_disk_that_is_really_full(self, small_disk: Path) -> None:
        path = small_disk / "ledger.db"
        ledger = open_ledger(path, "shop")
        desk = Desk(ledger)
        desk.close([1], 1)
        closed = 1
        with pytest.raises(LedgerFullError, match=r"make room"):
            while True:
                batch = desk.open()
                _prepare_much(desk, batch.batch_id)
                ledger.batches.close(batch.batch_id, NOTHING)
                closed += 1
        (small_disk / "other").unlink()  # room is made
        stream = ledger.streams.get("orders")
        assert stream is not None and stream.sequence == closed
        for unfinished in ledger.batches.unfinished():
            ledger.batches.abandon(unfinished.batch_id)
        desk.close([2], 2)
        ledger.close()
        check_integrity(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, half of them taken."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "other").write_bytes(bytes(1_000_000))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _limit(ledger: Ledger, pages: int) -> None:
    """SQLite says that the disk is full when a file would get more pages; 0: more than it has."""
    with ledger._store.read() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages or 1}")


def _prepare_much(desk: Desk, batch_id: str) -> None:
    images = tuple(failure(key, 9, extracted=bytes([key]) * 50_000) for key in range(10))
    desk.ledger.batches.prepare(manifest(batch_id, [1, 2], 9, failures=images))


def test_pandas_is_not_needed(path: Path) -> None:
    code = (
        "import sys; from rowtrail.checkpoints.ledger import open_ledger\n"
        f"ledger = open_ledger({str(path)!r}, 'shop')\n"
        "ledger.streams.all(), ledger.runs.recent(), ledger.leases.current()\n"
        "print([name for name in ('pandas', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert said == "[]\n"


class TestALossOfPower:
    """What the ledger may lose is closed or opened again; a manifest, a decision or a lease never.

    https://sqlite.org/pragma.html#pragma_synchronous: 1 is NORMAL, 2 is FULL.
    """

    def synchronous(self, ledger: Ledger) -> int:
        raw = ledger._store.engine.raw_connection()
        try:
            (level,) = raw.cursor().execute("PRAGMA synchronous").fetchone() or (None,)
        finally:
            raw.close()
        assert isinstance(level, int)
        return level

    def test_what_must_be_on_the_disk_is_waited_for(self, desk: Desk) -> None:
        ledger = desk.ledger
        batch = ledger.batches.open(desk.run, "orders", BatchKind.CAPTURE, 1)
        assert self.synchronous(ledger) == 1
        ledger.batches.prepare(manifest(batch.batch_id, [1], 1))
        assert self.synchronous(ledger) == 2
        ledger.batches.close(batch.batch_id, NOTHING)
        assert self.synchronous(ledger) == 1
        ledger.decisions.request(DecisionKind.RETRY, "orders", [], actor="ann")
        assert self.synchronous(ledger) == 2
        ledger.runs.start()
        assert self.synchronous(ledger) == 1
        ledger.leases.acquire("here")
        assert self.synchronous(ledger) == 2
        ledger.streams.next_read("orders")
        assert self.synchronous(ledger) == 1
        ledger.streams.begin_epoch("orders", "cursor", "orders")
        assert self.synchronous(ledger) == 2
