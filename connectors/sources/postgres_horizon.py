"""Which transactions are still open: what they write has values behind those already seen.

Values of a cursor are drawn when a transaction begins or writes, and seen when it commits. So
behind the newest one that is seen there may be more to come, from every transaction that is open
now; a plain `updated_at > last` missed a third of the rows of four writers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rowtrail.connectors.sources.postgres_connection import Connection

UNREPORTED_SECONDS = 5
"""Between taking its time and showing up among the others a transaction may be held up so long."""

PREPARED_SECONDS = 3_600
"""A prepared transaction tells when it was prepared, not when it began: taken to be so long before.
"""

_OPEN = f"""
SELECT clock_timestamp(),
  least(
    (SELECT min(a.xact_start) FROM pg_catalog.pg_stat_activity AS a
      WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND a.backend_type <> 'autovacuum worker'),
    (SELECT min(p.prepared) - interval '{PREPARED_SECONDS} s' FROM pg_catalog.pg_prepared_xacts AS p
      WHERE p.database = current_database())),
  pg_is_in_recovery(), pg_has_role('pg_read_all_stats', 'USAGE')
"""


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """Taken before the rows are read. Times are the server's."""

    now: datetime
    oldest: datetime | None  # when the oldest transaction began that is still open
    blind: str | None  # why this cannot be known; None when it can

    @property
    def begun(self) -> datetime:
        """No transaction that is still open began before."""
        return self.now if self.oldest is None else min(self.now, self.oldest)


def horizon(connection: Connection) -> Horizon:
    ((now, oldest, standby, sees_others),) = connection.records(
        _OPEN, doing="look at open transactions"
    )
    blind = (
        f"{connection.name} is a standby, which does not know the primary's open transactions"
        if standby
        else f"this user of {connection.name} may not see other users' open transactions"
        if not sees_others
        else None
    )
    return Horizon(now=now, oldest=None if blind else oldest, blind=blind)
