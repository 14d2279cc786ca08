"""The first snapshot of a table: ranges of its blocks, read side by side by several connections.

A range is some consecutive blocks of a table or of one partition, and is read in pages of exactly
one batch of rows (targets take whole batches faster). Reading by blocks needs no index, goes over
the disk in order, and works for every key. Each page is one short transaction, so that no old
snapshot keeps the server from cleaning up: a row that moves between two of them is told by the log.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Lock, Semaphore, Thread
from typing import Any

import pyarrow as pa

from rowtrail.connectors.base import StreamSpec
from rowtrail.connectors.capture.log import Part
from rowtrail.connectors.capture.pages import Page
from rowtrail.connectors.errors import PositionLostError
from rowtrail.connectors.postgres_client import quote, quote_text
from rowtrail.connectors.sources.postgres_connection import Connection
from rowtrail.connectors.sources.postgres_rows import PostgresRows
from rowtrail.connectors.sources.postgres_select import Query, in_table, select

_BATCHES = 8  # of a range: few enough that readers end together, as only its last one is not whole
_ROWS_OF_A_BLOCK = 100  # where the server has no statistics yet

_PLAN = (
    ("max_parallel_workers_per_gather", 0),
    ("synchronize_seqscans", "off"),
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
)
"""Parallel plans, scans that join others under way, and scans of an index (of a key that is mostly
NULL, say) would not read in the order of the disk, by which a page tells where the next begins."""

Place = tuple[int, int]
"""A row's ctid: block, and number within it."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A table that has rows itself: a plain one, or one partition."""

    oid: int
    schema: str
    name: str
    file: int  # pg_relation_filenode; another one when the table was written anew
    blocks: int  # when the ranges were made; what comes behind them since is in the log
    step: int  # blocks of a range

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


@dataclass(frozen=True, kw_only=True)
class Range:
    number: int  # among all ranges of the table
    leaf: Leaf
    first: int  # block
    end: int  # the block after the last one


def plan_ranges(connection: Connection, rows: PostgresRows) -> str:
    """The table's ranges as text, for the position.

    To be called after the snapshot was taken that says which transactions the log need not tell:
    then whatever it shows lies in the blocks that are there now.
    """
    table = rows.table
    parts = [(one.oid, one.schema, one.name) for one in table.partitions]
    leaves = parts if table.kind == "p" else [(table.oid, table.schema, table.relation)]
    return json.dumps(
        [_planned(connection, rows.stream, *leaf) for leaf in leaves],
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _planned(
    connection: Connection, stream: StreamSpec, oid: int, schema: str, name: str
) -> list[object]:
    file, size, block, pages, tuples = connection.catalog_entry(
        f"{schema}.{name}",
        "SELECT pg_catalog.pg_relation_filenode(c.oid)::int8, pg_catalog.pg_relation_size(c.oid), "
        "current_setting('block_size')::int8, c.relpages, c.reltuples "
        "FROM pg_catalog.pg_class AS c "
        "WHERE c.oid = %s::int8::oid AND pg_catalog.pg_relation_size(c.oid) IS NOT NULL",
        oid,
    )
    density = tuples / pages if pages and tuples > 0 else _ROWS_OF_A_BLOCK
    blocks = -(-size // block)
    batches = blocks * density / stream.batch_rows
    ranges = max(round(batches / _BATCHES), min(stream.readers, int(batches)), 1)
    return [oid, schema, name, file, blocks, max(1, -(-blocks // ranges))]


def parse_ranges(text: str) -> list[Range]:
    found: list[Range] = []
    for oid, schema, name, file, blocks, step in json.loads(text):
        leaf = Leaf(oid=oid, schema=schema, name=name, file=file, blocks=blocks, step=step)
        found += [
            Range(
                number=len(found) + number,
                leaf=leaf,
                first=first,
                end=min(first + step, blocks),
            )
            for number, first in enumerate(range(0, blocks, step))
        ]
    return found


class Done:
    """Which ranges were read, as text such as `0-17,19,20@81:5`: 20 up to row 5 of block 81."""

    def __init__(self, text: str) -> None:
        self._whole: set[int] = set()
        self._begun: dict[int, Place] = {}
        for item in filter(None, text.split(",")):
            if "@" in item:
                number, _, place = item.partition("@")
                block, _, row = place.partition(":")
                self._begun[int(number)] = (int(block), int(row))
            else:
                first, _, last = item.partition("-")
                self._whole |= set(range(int(first), int(last or first) + 1))

    def __contains__(self, number: int) -> bool:
        return number in self._whole

    def after(self, number: int) -> Place | None:
        return self._begun.get(number)

    def add(self, number: int, place: Place | None) -> None:
        """Read up to this row; None: to its end."""
        self._begun.pop(number, None)
        if place is None:
            self._whole.add(number)
        else:
            self._begun[number] = place

    def text(self) -> str:
        items: list[str] = []
        whole = sorted(self._whole)
        start = 0
        for place, number in enumerate(whole):
            if place + 1 == len(whole) or whole[place + 1] != number + 1:
                first = whole[start]
                items.append(str(first) if first == number else f"{first}-{number}")
                start = place + 1
        begun = sorted(self._begun.items())
        return ",".join([*items, *(f"{n}@{block}:{row}" for n, (block, row) in begun)])


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A page of a range; `last` is None when it was the range's last one."""

    number: int
    page: Page
    last: Place | None


def read_parts(rows: PostgresRows, ranges: str, done: str) -> Iterator[Part]:
    """The pages of all ranges that are not done, as they come from several connections."""
    finished = Done(done)
    waiting = [one for one in parse_ranges(ranges) if one.number not in finished]
    readers = min(rows.stream.readers, len(waiting))
    if readers <= 1:
        found = _one_by_one(rows, waiting, finished)
    else:
        found = _side_by_side(rows, waiting, finished, readers)
    with closing(found):
        for read in found:
            finished.add(read.number, read.last)
            part = Part(page=read.page, done=finished.text())
            del read
            if len(part.page.rows):
                yield part
            del part


def _one_by_one(
    rows: PostgresRows, waiting: Sequence[Range], done: Done
) -> Generator[_Read, None, None]:
    for one in waiting:
        yield from _read_range(rows, rows.connection, one, done.after(one.number))


def _side_by_side(
    rows: PostgresRows, waiting: Sequence[Range], done: Done, readers: int
) -> Generator[_Read, None, None]:
    team = _Team(
        rows=rows,
        waiting=iter([(one, done.after(one.number)) for one in waiting]),
        wanted=Semaphore(readers),
    )
    threads = [
        Thread(target=team.work, name=f"rowtrail-snapshot-{number}") for number in range(readers)
    ]
    for thread in threads:
        thread.start()
    try:
        working = readers
        while working:
            found = team.pages.get()
            if found is None:
                working -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                team.wanted.release()
                yield found
            del found
    finally:
        team.stopped.set()
        team.wanted.release(readers)
        for thread in threads:
            thread.join()


@dataclass(frozen=True, kw_only=True)
class _Team:
    """Several threads, each with its own connection, that take ranges from one list.

    A page is begun only when the one before it was taken: no more of them are in memory than there
    are threads, however slow the target is.
    """

    rows: PostgresRows
    waiting: Iterator[tuple[Range, Place | None]]
    wanted: Semaphore
    # None: a thread has nothing more to do.
    pages: SimpleQueue[_Read | BaseException | None] = field(default_factory=SimpleQueue)
    taking: Lock = field(default_factory=Lock)
    stopped: Event = field(default_factory=Event)

    def work(self) -> None:
        try:
            with closing(self.rows.connection.another()) as connection:
                while (taken := self._take()) is not None:
                    pages = _read_range(self.rows, connection, *taken)
                    while self._is_wanted() and (read := next(pages, None)) is not None:
                        self.pages.put(read)
                        del read
                    self.wanted.release()
            self.pages.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by who takes the pages
            self.pages.put(error)

    def _is_wanted(self) -> bool:
        self.wanted.acquire()
        return not self.stopped.is_set()

    def _take(self) -> tuple[Range, Place | None] | None:
        with self.taking:
            return None if self.stopped.is_set() else next(self.waiting, None)


def _read_range(
    rows: PostgresRows, connection: Connection, one: Range, after: Place | None
) -> Iterator[_Read]:
    """The range's rows in the order of the disk, beyond this one."""
    rows = replace(rows, connection=connection)
    limit = rows.stream.batch_rows
    more = True
    while more:
        low = f"t.ctid >= '({one.first},0)'" if after is None else f"t.ctid > '{_ctid(after)}'"
        high = f" AND t.ctid < '({one.end},0)'::tid"
        query = Query(
            tail=f"FROM ONLY {one.leaf.sql} AS t WHERE {low}::tid{high} "
            f"{''.join(f'AND {condition} ' for condition in rows.whole_key())}LIMIT {limit}",
            reference=in_table,
            extra=("t.ctid",),
        )
        with connection.reading():
            _check_file(rows, connection, one.leaf)
            rows.refuse_doubles(f"SELECT {rows.listed_keys()} {query.tail}")
            found = select(connection, query, rows.readers, rows.schema.key)
        page = rows.as_page(found)
        more = page.full
        after = _place(found.extra[0]) if more else None
        read = _Read(number=one.number, page=page, last=after)
        del found, page
        yield read
        del read  # before the next one is read: pages are large


def _check_file(rows: PostgresRows, connection: Connection, leaf: Leaf) -> None:
    """The blocks are those that the ranges were made of. The lock keeps them until the end."""
    name = rows.stream.name
    there = f"SELECT pg_catalog.to_regclass({quote_text(leaf.sql)})::oid::int8 AS o"
    if connection.query(there).column(0)[0].as_py() != leaf.oid:
        raise PositionLostError(
            f"Table {leaf.schema}.{leaf.name} was dropped or renamed in the midst of the first "
            f"read of stream {name}, which had yet to read it. Read it anew: rowtrail run "
            f"--resnapshot {name}"
        )
    connection.query(f"LOCK TABLE ONLY {leaf.sql} IN ACCESS SHARE MODE")
    for setting, value in _PLAN:
        connection.query(f"SET LOCAL {setting} = {value}")
    found = connection.query(f"SELECT pg_catalog.pg_relation_filenode({leaf.oid}::oid)::int8 AS f")
    if found.column(0)[0].as_py() != leaf.file:
        raise PositionLostError(
            f"Table {leaf.schema}.{leaf.name} was written anew (by TRUNCATE, VACUUM FULL, CLUSTER "
            f"or ALTER TABLE) in the midst of the first read of stream {name}, so that nobody can "
            f"tell which rows were read. Read it anew: rowtrail run --resnapshot {name}"
        )


def _place(ctids: Any) -> Place:
    """The last of some ctids, which the driver gives as the server sends them: 4 and 2 bytes."""
    array = ctids.storage if isinstance(ctids, pa.ExtensionArray) else ctids
    octets = array[-1].as_py()
    return int.from_bytes(octets[:4], "big"), int.from_bytes(octets[4:6], "big")


def _ctid(place: Place) -> str:
    return f"({place[0]},{place[1]})"
