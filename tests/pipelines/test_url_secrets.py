"""Passwords of URLs, which a file does not get."""

from __future__ import annotations

import pytest

from rowtrail.pipelines.url_secrets import mask

V = "${ROWTRAIL_SOURCE_PASSWORD}"
S = "${ROWTRAIL_SOURCE_SSLPASSWORD}"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@h:5432/d", f"postgresql://u:{V}@h:5432/d"),
        ("postgresql://u:p%40x@h1:1,h2:2/d?a=b", f"postgresql://u:{V}@h1:1,h2:2/d?a=b"),
        ("postgresql://u:p@x@h/d", f"postgresql://u:{V}@h/d"),
        ("postgresql://u:p:q@h/d", f"postgresql://u:{V}@h/d"),
        ("postgresql://:p@h/d", f"postgresql://:{V}@h/d"),
        ("postgresql://u:p@h", f"postgresql://u:{V}@h"),
        ("postgresql://u:p@[::1]:5432/d", f"postgresql://u:{V}@[::1]:5432/d"),
        ("postgresql://h/d?user=u&password=p&x=y", f"postgresql://h/d?user=u&password={V}&x=y"),
        ("postgresql://h/d?Password=p", f"postgresql://h/d?Password={V}"),
        ("postgresql://u:p@h/d?sslpassword=k", f"postgresql://u:{V}@h/d?sslpassword={S}"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:@h/d", "postgresql://u:@h/d"),
        ("postgresql://u:${MINE}@h/d", "postgresql://u:${MINE}@h/d"),
        ("postgresql://u:${MINE}x@h/d", f"postgresql://u:{V}@h/d"),
        ("postgresql:///d?host=/var/run", "postgresql:///d?host=/var/run"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("duckdb:///w.duckdb?threads=4", "duckdb:///w.duckdb?threads=4"),
        ("no url", "no url"),
    ],
)
def test_masking(url: str, masked: str) -> None:
    found = mask(url, "source")
    assert found.url == masked
    assert set(found.variables) == {one.strip("${}") for one in (V, S) if one in masked}
