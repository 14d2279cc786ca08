"""Images of failed records: how large, encrypted with which key, and what is said without one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography.fernet import Fernet

from rowtrail import Pipeline, Retention, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import Failure
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines import image_keys
from rowtrail.pipelines.check import check_pipeline
from rowtrail.pipelines.image_keys import ImageKeys, is_key, keys_in
from rowtrail.pipelines.images import (
    SEALED,
    Keeping,
    UnreadableImageError,
    from_image,
    redacted_in,
    to_image,
)
from rowtrail.pipelines.redaction import Redaction
from tests.pipelines.world import World

ROW = pa.RecordBatch.from_pydict({"id": [1], "note": ["a note"]})
SECRET = "only-this-row-says-it"
KEYS = [Fernet.generate_key().decode() for _ in range(2)]


@pytest.fixture
def picky() -> dict[str, bool]:
    return {"mended": False}


def pipeline(
    world: World, picky: dict[str, bool], image_key: str | list[str] | None = None, **stream: Any
) -> Pipeline:
    def choosy(frame: Any) -> Any:
        if not picky["mended"] and frame["note"].str.startswith("bad").any():
            raise ValueError("no rate")
        return frame

    return Pipeline(
        name="test",
        source=f"sqlite:///{world.source}",
        destination=world.destination,
        ledger=world.ledger,
        streams=[Stream("orders", transforms=[choosy], **stream)],
        install_capture=True,
        image_key=image_key,
    )


def failure(world: World) -> Failure:
    with closing(open_ledger(world.ledger, "test")) as ledger:
        (found,) = ledger.failures.list()
        return found


def image(world: World) -> bytes | None:
    with closing(open_ledger(world.ledger, "test")) as ledger:
        return ledger.failures.image(failure(world).id)[0]


def spoil(world: World) -> None:
    world.put([(1, 1, "good"), (2, 2, f"bad {SECRET}")])


def test_a_row_above_the_cap_keeps_no_image(world: World, picky: dict[str, bool]) -> None:
    world.put([(1, 1, "good"), (2, 2, "bad" + "x" * 3_200_000)])
    result = pipeline(world, picky).run()
    assert [one.record for one in result.failed_records] == ["orders:2"]
    held = failure(world)
    words = "no image: 3.2 MB is more than image_bytes = 1 MB"
    assert (held.has_image, held.image_note) == (False, words)
    with closing(open_ledger(world.ledger, "test")) as ledger:
        assert words in ledger.trail(held.record_id)[-1].detail
    assert world.ledger.stat().st_size < 1_000_000
    picky["mended"] = True
    (retried,) = pipeline(world, picky).retry("orders", 2)
    assert f"the row at the source ({words}): 1 loaded" in retried.text


def test_the_cap_is_a_setting(world: World, picky: dict[str, bool]) -> None:
    spoil(world)
    pipeline(world, picky, image_bytes="100 B").run()
    assert failure(world).image_note is not None
    with pytest.raises(ConfigurationError, match="Stream orders: image_bytes: 'lots' is no size"):
        pipeline(world, picky, image_bytes="lots")


def test_without_images_it_is_said_why(world: World, picky: dict[str, bool]) -> None:
    spoil(world)
    pipeline(world, picky, capture_images=False).run()
    assert failure(world).image_note == "no image: capture_images = false"
    picky["mended"] = True
    (retried,) = pipeline(world, picky, capture_images=False).retry("orders", 2)
    assert "the row at the source (no image: capture_images = false)" in retried.text


def test_an_encrypted_image_says_so_and_is_used(world: World, picky: dict[str, bool]) -> None:
    spoil(world)
    pipeline(world, picky, KEYS[0]).run()
    kept = image(world)
    assert kept is not None and kept.startswith(SEALED)
    assert failure(world).image_note == "encrypted"
    files = b"".join(path.read_bytes() for path in world.folder.glob("ledger*"))
    assert SECRET.encode() not in files
    picky["mended"] = True
    (retried,) = pipeline(world, picky, KEYS[0]).retry("orders", 2)
    assert "from the captured image: 1 loaded" in retried.text
    assert world.loaded() == world.expected()


@pytest.mark.parametrize(
    ("keys", "origin"),
    [
        ([KEYS[1], KEYS[0]], "the captured image"),
        (f"{KEYS[1]},{KEYS[0]}", "the captured image"),
        (
            KEYS[1],
            "the row at the source (its image is encrypted with a key that is not in `image_key`)",
        ),
        (
            None,
            "the row at the source (its image is encrypted, and the pipeline has no `image_key`)",
        ),
    ],
    ids=["a list", "one text", "another", "none"],
)
def test_with_other_keys(
    world: World, picky: dict[str, bool], keys: str | list[str] | None, origin: str
) -> None:
    """A new key in front of the old one, a wrong one, none: never a crash."""
    spoil(world)
    pipeline(world, picky, KEYS[0]).run()
    picky["mended"] = True
    (retried,) = pipeline(world, picky, keys).retry("orders", 2)
    assert f"from {origin}: 1 loaded" in retried.text
    assert world.loaded() == world.expected()


def test_the_first_key_encrypts(world: World, picky: dict[str, bool]) -> None:
    spoil(world)
    pipeline(world, picky, [KEYS[1], KEYS[0]]).run()
    kept = image(world)
    assert kept is not None
    assert from_image(kept, ImageKeys([KEYS[1]])).column("note").to_pylist() == [f"bad {SECRET}"]


def test_a_transformed_image_is_encrypted_too(world: World, picky: dict[str, bool]) -> None:
    picky["mended"] = True
    world.put([(1, 1, "good")])
    assert pipeline(world, picky, KEYS[0]).run().complete
    world.change_target("CREATE UNIQUE INDEX one_note ON orders (note)")
    world.put([(2, 2, "good")])
    assert [one.stage for one in pipeline(world, picky, KEYS[0]).run().failed_records] == ["load"]
    with closing(open_ledger(world.ledger, "test")) as ledger:
        images = ledger.failures.image(failure(world).id)
    assert all(one is not None and one.startswith(SEALED) for one in images)
    world.change_target("DROP INDEX one_note")
    (retried,) = pipeline(world, picky, KEYS[0]).retry("orders", 2)
    assert "from the transformed image: 1 loaded" in retried.text


def test_a_damaged_image_is_not_used(world: World, picky: dict[str, bool]) -> None:
    spoil(world)
    pipeline(world, picky, KEYS[0]).run()
    import sqlite3

    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE failures SET extracted = x'0011'")
    picky["mended"] = True
    (retried,) = pipeline(world, picky, KEYS[0]).retry("orders", 2)
    assert "the row at the source (its image is damaged): 1 loaded" in retried.text


def test_what_waits_is_kept_whatever_its_size() -> None:
    keeping = Keeping(most_bytes=10)
    assert keeping.extracted(ROW).image is None
    assert from_image(keeping.extracted(ROW, waits=True).image or b"").equals(ROW)


def test_an_image_says_what_was_redacted() -> None:
    keeping = Keeping(redaction=Redaction(columns=frozenset({"note"})))
    kept = keeping.extracted(ROW)
    assert kept.note == "without note, which is redacted" and kept.image is not None
    assert b"a note" not in kept.image
    row = from_image(kept.image)
    assert row.to_pydict() == {"id": [1], "note": [None]}
    assert redacted_in(row) == ("note",) and redacted_in(from_image(to_image(ROW))) == ()
    assert keeping.transformed(ROW) is None, "a transform may have copied the value"


def test_an_image_is_redacted_and_encrypted() -> None:
    keys = ImageKeys([KEYS[0]])
    keeping = Keeping(redaction=Redaction(columns=frozenset({"note"})), keys=keys)
    kept = keeping.extracted(ROW)
    assert kept.note == "encrypted; without note, which is redacted" and kept.image is not None
    assert redacted_in(from_image(kept.image, keys)) == ("note",)
    tampered = kept.image[:-1] + bytes([kept.image[-1] ^ 1])
    with pytest.raises(UnreadableImageError, match="with a key that is not in"):
        from_image(tampered, keys)


@pytest.mark.parametrize(
    "key",
    ["", "short", "x" * 44, KEYS[0][:-4], f"{KEYS[0]}é"],
    ids=["empty", "short", "one letter", "cut", "not ascii"],
)
def test_a_key_that_is_none(world: World, picky: dict[str, bool], key: str) -> None:
    assert not all(map(is_key, keys_in(key)))
    with pytest.raises(ConfigurationError, match=r"pipeline\.image_key: is no key") as caught:
        pipeline(world, picky, key)
    assert not key or key not in str(caught.value)


def test_a_key_is_in_no_representation(world: World, picky: dict[str, bool]) -> None:
    definition = pipeline(world, picky, KEYS[0]).definition
    assert definition.image_keys == (KEYS[0],)
    assert KEYS[0] not in repr(definition) + repr(ImageKeys(KEYS)) + repr(Retention())


def test_without_the_package_nothing_is_read(
    world: World, picky: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_keys, "PACKAGE", "no_such_package_of_cryptography")
    spoil(world)
    (problem,) = check_pipeline(pipeline(world, picky, KEYS[0]).definition).problems
    assert problem.fatal and "is not installed" in problem.message
    result = pipeline(world, picky, KEYS[0]).run()
    assert "pip install 'rowtrail[encryption]'" in (result.streams["orders"].error or "")
    assert not Path(world.target).exists() or world.query("SELECT * FROM _rowtrail_gaps") == []
