"""Names of Snowflake's tables as people write them: which table one means, and how each is listed.

`orders` is ORDERS in the URL's schema, `sales.orders` is ORDERS in schema SALES, and what is in
double quotes is taken as it is: `"orders"`, `sales."Order.Items"`. Where there is no such table, a
name is tried as it was written.
"""

from __future__ import annotations

import re

from rowtrail.connectors.snowflake_client import fold, quote_exactly, unfold

Place = tuple[str, str]
"""Schema and table, as Snowflake stores them."""

_PART = r'"(?:[^"]|"")+"|[^".]+'
_NAME = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<table>{_PART})")


def meanings(name: str, schema: str) -> list[Place]:
    """What a name may mean, in the order in which it is tried; `schema` is that of the URL."""
    found: list[Place] = []
    if match := _NAME.fullmatch(name):
        for folded in (True, False):
            within = schema if match["schema"] is None else _stored(match["schema"], folded)
            found.append((within, _stored(match["table"], folded)))
    return list(dict.fromkeys([*found, (schema, name)]))


def listed(stored: str) -> str:
    """The plainest form that means this table of the URL's schema."""
    plain = unfold(stored)
    match = _NAME.fullmatch(plain)
    if match and match["schema"] is None and not plain.startswith('"') and fold(plain) == stored:
        return plain
    return quote_exactly(stored)


def in_sql(place: Place) -> str:
    return ".".join(quote_exactly(part) for part in place)


def _stored(part: str, folded: bool) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return fold(part) if folded else part
