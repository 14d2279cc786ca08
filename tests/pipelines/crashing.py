"""Ways for a run to come to an end that no handler sees coming."""

from __future__ import annotations

from rowtrail.pipelines.commit import Point


class Crash(BaseException):
    """No `except Exception` catches it: as far as the engine can tell, the process dies here."""


class CrashAt:
    """A `Faults` that crashes when a point is reached for the n-th time (1 is the first)."""

    def __init__(self, point: Point, occurrence: int = 1) -> None:
        self.point = point
        self.occurrence = occurrence
        self.reached = 0

    def __call__(self, point: Point) -> None:
        if point is not self.point:
            return
        self.reached += 1
        if self.reached == self.occurrence:
            raise Crash(point)
