"""What Snowflake costs on this side: rows to staged Parquet, and the statements of a run.

Measured is what this machine does for a batch until its bytes are on their way: no account took
part, and a warehouse's own work is not in these figures. The floor is pyarrow writing the same
columns as they are; the peer is what the connector's `write_pandas` does with a DataFrame that it
is given: Parquet with gzip. Statements are counted over the wire, at the server that stands in for
Snowflake.

That uploads overlap with merges is told by two syncs by turns, of which one makes nothing ahead.
Each merge waits for MERGE_SECONDS, as for a warehouse elsewhere, which does not take this machine's
processor as the server that stands in for it does.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.connectors.builders import load_of, target_of
from tests.snowflake_server import SnowflakeServer

from benchmarks.orders import change_source, make_source
from benchmarks.report import Limit, Report, ratios
from benchmarks.settings import Settings
from rowtrail import Pipeline, Stream
from rowtrail.connectors.base import Cost, Load
from rowtrail.connectors.changes import (
    Operation,
    Version,
    constant_operations,
    constant_versions,
)
from rowtrail.connectors.destinations.snowflake_merge import Staged
from rowtrail.connectors.destinations.snowflake_staging import parts, to_parquet, write_parquet
from rowtrail.connectors.destinations.snowflake_types import check_limits
from rowtrail.pipelines import run_stream

ROWS = 1_000_000
SYNCED = 100_000
BATCHES, MERGE_SECONDS = 5, 1.0
SEED = 20_240_131
AHEAD, IN_TURN = (
    f"a sync of {BATCHES} batches, uploaded {how}" for how in ("beside the merges", "in turn")
)
STAGED, FLOOR, PEER = "Rowtrail, checked and staged", "pyarrow, zstd", "write_pandas, gzip"


def batch(rows: int) -> Load:
    """A shop's orders as one load: numbers, a decimal, texts, a date and a time."""
    random = np.random.default_rng(SEED)
    numbers = np.arange(rows)
    columns = {
        "id": pa.array(numbers),
        "customer_id": pa.array(random.integers(0, 50_021, rows)),
        "total": pa.array(random.integers(0, 10**5, rows)).cast(pa.decimal128(21, 2)),
        "weight": pa.array(random.random(rows) * 1_000),
        "status": pa.array(np.array(["new", "paid", "shipped", "returned"])[numbers % 4]),
        "note": pa.array([f"please ring at door {one}" for one in random.integers(0, 1_009, rows)]),
        "ordered_on": pa.array((19_723 + numbers % 700).astype(np.int32)).view(pa.date32()),
        "updated_at": pa.array(1_704_067_200_000_000 + numbers * 61_000_000).view(
            pa.timestamp("us")
        ),
    }
    target = target_of({name: values.type for name, values in columns.items()})
    empty = load_of(target)
    return Load(
        target=target,
        rows=pa.RecordBatch.from_pydict(columns, schema=target.schema.arrow()),
        operations=constant_operations(Operation.UPDATE, rows),
        filtered=pa.array(np.zeros(rows, dtype=np.bool_)),
        versions=constant_versions(Version(1, 1, 0, 0), rows),
        receipt=empty.receipt,
    )


def main(settings: Settings) -> Report:
    """Each round stages the same batch by each way; the runs are counted once."""
    rows = settings.rows(ROWS)
    load = batch(rows)
    frame = load.rows.to_pandas()
    sizes: dict[str, int] = {}

    def staged() -> None:
        check_limits(load.target.table, load.rows)
        files = [write_parquet(part) for part in parts(to_parquet(load, load.receipt.written_at))]
        sizes[STAGED] = sum(file.tell() for file in files)

    def floor() -> None:
        data = BytesIO()
        pq.write_table(pa.Table.from_batches([load.rows]), data, compression="zstd")
        sizes[FLOOR] = data.tell()

    def peer() -> None:
        data = BytesIO()
        frame.to_parquet(data, compression="gzip")
        sizes[PEER] = data.tell()

    ways = {STAGED: staged, FLOOR: floor} | ({PEER: peer} if settings.peers else {})
    rounds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(settings.rounds)]
    seconds = {name: [one[name] for one in rounds] for name in ways}
    to_floor = ratios(seconds[STAGED], seconds[FLOOR])
    costs = runs(settings)
    syncs = [{way: sync(settings, ahead=way == AHEAD) for way in (AHEAD, IN_TURN)} for _ in "12"]
    to_turns = ratios([one[AHEAD] for one in syncs], [one[IN_TURN] for one in syncs])
    return Report(
        title=f"{rows:,} rows to staged Parquet, and the statements of runs into Snowflake",
        columns=("way, or run", "s", "million rows/s", "MB", "statements"),
        rows=[
            (
                name,
                f"{median(taken):.2f}",
                f"{rows / median(taken) / 10**6:.2f}",
                f"{sizes[name] / 10**6:.1f}",
                "",
            )
            for name, taken in seconds.items()
        ]
        + [
            (name, "", "", f"{cost.staged_bytes / 10**6:.1f}", f"{cost.statements}")
            for name, cost in costs.items()
        ]
        + [(name, f"{median(one[name] for one in syncs):.2f}", "", "", "") for name in syncs[0]],
        limits=[
            Limit(what="staged / the floor", figure=median(to_floor), most=2.0),
            Limit(
                what="statements of a run that finds nothing",
                figure=costs["a run that finds nothing"].statements,
                most=30,
            ),
            Limit(what="uploads ahead / in turn", figure=median(to_turns), most=1.0),
        ],
        notes=[
            "No account took part: what stands in for Snowflake counts statements, and takes the "
            "bytes over HTTP.",
        ],
        raw={
            "seconds": seconds,
            "syncs": syncs,
            "bytes": sizes,
            "statements": {name: cost.statements for name, cost in costs.items()},
        },
    )


def _seconds(way: Callable[[], None]) -> float:
    gc.collect()
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def runs(settings: Settings) -> dict[str, Cost]:
    """What a first sync cost, one after some changes, and one after none."""
    costs: dict[str, Cost] = {}
    with TemporaryDirectory(dir=settings.folder) as folder, SnowflakeServer() as server:
        source = Path(folder) / "shop.db"
        make_source(source, settings.rows(SYNCED))
        pipeline = _pipeline(Path(folder), server)
        costs[f"a first sync of {settings.rows(SYNCED):,} rows"] = _cost(pipeline)
        changes = change_source(source, 0.01, 1)
        costs[f"a run after {changes:,} changes"] = _cost(pipeline)
        costs["a run that finds nothing"] = _cost(pipeline)
    return costs


def sync(settings: Settings, *, ahead: bool) -> float:
    """Seconds of a first sync in BATCHES batches, each merge of which waits."""
    rows = settings.rows(ROWS)
    merge, prepare = Staged.merge, run_stream.prepare_ahead

    def waiting(staged: Staged, deletes: Any) -> Any:
        time.sleep(MERGE_SECONDS)
        return merge(staged, deletes)

    with TemporaryDirectory(dir=settings.folder) as folder, SnowflakeServer() as server:
        source = Path(folder) / "shop.db"
        make_source(source, rows)
        pipeline = _pipeline(Path(folder), server, batch_rows=-(-rows // BATCHES))
        way = prepare if ahead else (lambda lane, changes: None)
        with (
            patch.object(Staged, "merge", waiting),
            patch.object(run_stream, "prepare_ahead", way),
        ):
            return _seconds(lambda: _cost(pipeline))


def _pipeline(folder: Path, server: SnowflakeServer, **stream: Any) -> Pipeline:
    return Pipeline(
        name="benchmark",
        source=f"sqlite:///{folder / 'shop.db'}",
        destination=server.url(),
        ledger=folder / "ledger.db",
        streams=[Stream("orders", capture="trigger", **stream)],
        install_capture=True,
    )


def _cost(pipeline: Pipeline) -> Cost:
    result = pipeline.run()
    cost = result.streams["orders"].cost
    assert result.complete and cost is not None
    return cost
