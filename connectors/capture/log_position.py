"""How far a stream has come under capture `log`: its snapshot, range by range, then the log."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from rowtrail.connectors.capture.position import Values, decode, encode
from rowtrail.connectors.changes import Version

NAME = "log"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which log it is. Another server, slot, publication or history has other values."""

    system: str  # identifier of the server's data, and its timeline
    slot: str
    published: str  # the table's entry in the publication; a new one when it was added again


@dataclass(frozen=True, kw_only=True)
class LogPosition:
    """Phases: `keyless`, `snapshot`, `sweep` (where the target may have older rows), `log`.

    Places in the log (LSNs) are integers. What all transactions that end up to `upto` have changed
    is applied, and visible to everybody; of later ones that which comes before (`commit`,
    `ordinal`), inclusively.
    """

    phase: str
    system: str
    slot: str
    published: str
    start: (
        int  # the version's position of all rows of the snapshot: a lower bound of what they show
    )
    upto: int
    commit: int  # of the last transaction read from the log; 0: none yet
    xid: int  # of that transaction
    time: int  # of its commit, µs since 1970; with its place and id it is that one and no other
    ordinal: int  # of the last change read of it; 0: all of it was read
    ranges: str  # `snapshot`: the table's parts, as the source describes them
    done: str  # `snapshot`: what has been read of them; `keyless`: how many rows
    visible: str | None  # what the snapshot shows: transactions that the log need not tell again
    sweep: bool  # keys that only older epochs have are to be looked for
    after: Values | None  # `sweep`: the last key looked at, in the source's own values
    known: Values | None  # `sweep`: the last key that fitted the schema

    @classmethod
    def parse(cls, stream: str, token: str) -> LogPosition:
        """Raises PositionLostError when the token is another capture's."""
        return cls(**decode(stream, NAME, token, {field.name for field in fields(cls)}))

    def token(self) -> str:
        return encode(NAME, vars(self))

    @property
    def origin(self) -> Origin:
        return Origin(system=self.system, slot=self.slot, published=self.published)

    def snapshot_version(self, epoch: int) -> Version:
        return Version(epoch, self.start, 0, 0)

    def version(self, epoch: int) -> Version:
        """A version up to which everything is applied, and beyond which nothing is.

        It is what a row that is read now shows at least: all that was applied is visible, since a
        read of the log ends before the first transaction that is not.
        """
        if self.phase != "log":
            return self.snapshot_version(epoch)
        if self.ordinal == 0:
            return Version(epoch, self.upto, 0, 0)
        return Version(epoch, self.commit, 2 * self.ordinal + 1, 0)

    def read_to(self, upto: int, commit: int, xid: int, time: int) -> LogPosition:
        """All transactions that end up to there have been read; the last one is named.

        What the snapshot shows was committed before that, and need not be known any more.
        """
        return replace(self, upto=upto, commit=commit, xid=xid, time=time, ordinal=0, visible=None)

    def within(self, commit: int, xid: int, time: int, ordinal: int) -> LogPosition:
        """In the midst of the log, after this change."""
        return replace(self, commit=commit, xid=xid, time=time, ordinal=ordinal)
