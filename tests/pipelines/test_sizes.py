"""Sizes as people write them."""

from __future__ import annotations

import pytest

from rowtrail.pipelines.sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        ("1", 1),
        ("512 bytes", None),
        ("512B", 512),
        ("10GB", 10**10),
        ("10 gb", 10**10),
        ("1.5kB", 1500),
        ("2 MiB", 2**21),
        ("1GiB", 2**30),
        (" 1TB ", 10**12),
        ("9007199254740993", 9007199254740993),
        ("1e3", None),
        ("-1GB", None),
        (-1, None),
        (0, None),
        ("0.1B", None),
        (True, None),
        (1.5, None),
        (None, None),
        ("", None),
        ("GB", None),
    ],
)
def test_parsing(text: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match=r"is no size|more than 0 bytes"):
            parse_size(text)
    else:
        assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_234_567, "1.2 MB"),
        (10**10, "10 GB"),
        (3 * 10**15, "3,000 TB"),
    ],
)
def test_telling(size: int, text: str) -> None:
    assert size_text(size) == text
