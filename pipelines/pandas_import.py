"""When pandas is imported: pyarrow does it for its first array, which takes a third of a second.

pyarrow wants to recognise a Series that it is given, so it looks for pandas once and remembers the
answer (`pandas-shim.pxi` in its source). A command whose pipeline has no transform never meets one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


class _NotNow:
    """A finder of modules that finds no pandas. See `sys.meta_path`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def put_off_pandas() -> None:
    """Lets pyarrow look for pandas in vain.

    For a process that is Rowtrail's own: in another's, pyarrow would take a Series for a list.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    refusal = _NotNow()
    sys.meta_path.insert(0, refusal)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(refusal)


def bring_pandas() -> None:
    """pyarrow knows pandas from here on. For what may hand it pandas' objects, before it does."""
    import pyarrow as pa

    pa.nulls(0).to_pandas()
