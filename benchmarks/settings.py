"""What every benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How often to measure, how much, and where the data goes."""

    folder: Path  # temporary; on the disk that is to be measured
    rounds: int = 7  # in each, every variant is measured once
    scale: float = 1.0  # all row counts are multiplied by it; the limits hold at 1
    peers: bool = True  # whether other programs are measured beside Rowtrail

    def rows(self, count: int) -> int:
        """A row count at this scale."""
        return max(100, round(count * self.scale))
