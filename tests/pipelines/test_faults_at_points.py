"""Every fault that the proxy knows, at every named point of a batch, at the source and the target.

`test_postgres_cuts.py` cuts by bytes, wherever they fall; here it is the point that is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product

import pytest

from rowtrail import Pipeline
from rowtrail.pipelines import retrying
from rowtrail.pipelines.commit import Point
from rowtrail.pipelines.run import run_pipeline
from tests.pipelines.copied_table import CopiedTable, Notes
from tests.postgres_server import PostgresServer
from tests.proxy import Proxy, Way
from tests.soak import times


def refuse(proxy: Proxy) -> None:
    """Nobody listens any more, and who was connected is not."""
    proxy.refuse()
    proxy.cut()


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "cut now": Proxy.cut,
    "cut in what is sent next": lambda proxy: proxy.cut_after(20, Way.UP),
    "cut in what comes next": lambda proxy: proxy.cut_after(20, Way.DOWN),
    "the next reply is lost": lambda proxy: proxy.lose_reply_to(b""),
    "refused for a while": refuse,
}
ALL = times(0, 1) > 0
"""In the short form one end has one half of them, the other end the other, in the first batch."""
OCCURRENCES = 3 if ALL else 1


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(network=True) as server:
        yield server


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[Proxy]:
    with closing(Proxy(server.port)) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)


@dataclass
class FaultAt:
    """A `Faults` that lets something happen to the proxy at a point, once."""

    proxy: Proxy
    fault: Callable[[Proxy], None]
    point: Point
    occurrence: int
    reached: list[Point] = field(default_factory=list)

    def __call__(self, point: Point) -> None:
        if point is self.point:
            self.reached.append(point)
            if len(self.reached) == self.occurrence:
                self.fault(self.proxy)


class Reopening(Notes):
    """Lets connections in again as soon as the run says that it waits."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def note(self, text: str) -> None:
        super().note(text)
        if "Trying again in" in text:
            reopen(self._proxy)


def reopen(proxy: Proxy) -> None:
    proxy.refuse()  # does nothing where nobody listens
    proxy.accept()


def every_fault_at_every_point(
    table: CopiedTable, pipeline: Pipeline, proxy: Proxy, half: int
) -> None:
    assert pipeline.run().complete
    struck = dict.fromkeys(FAULTS, 0)
    for (fault, name), (place, point) in product(enumerate(FAULTS), enumerate(Point)):
        if ALL or (fault + place) % 2 == half:
            for occurrence in range(1, OCCURRENCES + 1):
                cuts = proxy.cuts
                _run_with(table, pipeline, proxy, name, point, occurrence)
                struck[name] += proxy.cuts > cuts
    assert all(struck.values()), struck


def _run_with(
    table: CopiedTable, pipeline: Pipeline, proxy: Proxy, name: str, point: Point, occurrence: int
) -> None:
    table.happen()
    faults = FaultAt(proxy, FAULTS[name], point, occurrence)
    result = run_pipeline(pipeline.definition, reporter=Reopening(proxy), faults=faults)
    proxy.pass_all()
    if name.startswith("refused"):
        reopen(proxy)
    where = (name, point, occurrence, result.streams["orders"].error)
    assert len(faults.reached) >= occurrence, where
    assert result.complete, where
    assert result.recovered == (), where
    table.check()


def test_at_the_source(from_server: CopiedTable, proxy: Proxy) -> None:
    pipeline = from_server.pipeline(
        source=proxy.url(from_server.source), capture="log", batch_rows=40
    )
    every_fault_at_every_point(from_server, pipeline, proxy, half=0)


def test_at_the_target(to_server: CopiedTable, proxy: Proxy) -> None:
    pipeline = to_server.pipeline(
        destination=proxy.url(to_server.target), capture="trigger", batch_rows=40
    )
    every_fault_at_every_point(to_server, pipeline, proxy, half=1)
