"""How long the tests are that are long by nature: random lives, kills, generated values, load.

They have a short form, for each `make test`, and a long one, for `make soak`, which sets
`ROWTRAIL_SOAK=1`. `ROWTRAIL_SOAK=5` is five times as long as that. It is read here and nowhere
else; docs/proofs.md lists the tests.
"""

from __future__ import annotations

import os

SOAK = int(os.environ.get("ROWTRAIL_SOAK", "0"))
"""0: the short forms; else so many times the long ones."""


def times(short: int, long: int) -> int:
    """How many rounds, examples or seconds: the short form's, or those of the long form."""
    return SOAK * long or short
