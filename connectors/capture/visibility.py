"""PostgreSQL's snapshots as text: which transactions were visible, asked of many at once.

Format and rules: https://www.postgresql.org/docs/current/functions-info.html (pg_current_snapshot).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_EPOCH = 2**32


def visible(snapshot: str, xids: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Per transaction, whether its changes are visible in the snapshot `xmin:xmax:xip,…`.

    The log has the low 32 bits of transaction ids only. They stand for the id nearest to the
    snapshot's, as they always do: older ones are frozen before half of the ids are used.
    """
    lowest, highest, running = snapshot.split(":")
    xmin, xmax = int(lowest), int(highest)
    full = _nearest(xids.astype(np.int64), xmax)
    found: npt.NDArray[np.bool_] = full < xmin
    active = np.array([int(xid) for xid in running.split(",") if xid], dtype=np.int64)
    return found | ((full < xmax) & ~np.isin(full, active))


def _nearest(low: npt.NDArray[np.int64], near: int) -> npt.NDArray[np.int64]:
    """The ids with these low 32 bits that are nearest to `near`."""
    offset = (low - near % _EPOCH + _EPOCH // 2) % _EPOCH - _EPOCH // 2
    return near + offset
