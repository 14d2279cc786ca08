"""The lock file: what is written is read, and what is no lock file is told so."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.pipelines.lock_file import LockFile, read_lock, write_lock

TYPES = [
    pa.bool_(),
    pa.int16(),
    pa.int64(),
    pa.uint8(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.decimal128(38, 10),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("s"),
]


def schema(table: str) -> TableSchema:
    columns = [
        Column(
            name=f"c{number} \"'{chr(0x1F98A)}",
            type=kind,
            nullable=number > 1,
            declared=f"t{number}",
        )
        for number, kind in enumerate(TYPES)
    ]
    return TableSchema(table=table, columns=tuple(columns), key=(columns[1].name, columns[0].name))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shop.lock"
    assert read_lock(path, "shop") == LockFile(path=path, pipeline="shop")
    lock = LockFile(path=path, pipeline="shop", streams={"b": schema("b"), "a": schema('a "x"')})
    write_lock(lock)
    assert read_lock(path, "shop") == lock
    assert list(read_lock(path, "shop").streams) == ["b", "a"]
    assert list(tmp_path.iterdir()) == [path]
    write_lock(LockFile(path=path, pipeline="shop"))
    assert read_lock(path, "shop").streams == {}


def test_one_line_for_each_column(tmp_path: Path) -> None:
    path = tmp_path / "shop.lock"
    write_lock(LockFile(path=path, pipeline="shop", streams={"a": schema("a")}))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if '"declared"' in line]) == len(TYPES)
    assert json.loads(path.read_text(encoding="utf-8"))["rowtrail_lock"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no lock file of Rowtrail"),
        ("[1]", "is no lock file of Rowtrail"),
        ('{"version": 1}', "it has no 'rowtrail_lock'"),
        ('{"rowtrail_lock": 2}', "has format 2, and this Rowtrail knows 1"),
        ('{"rowtrail_lock": 1, "pipeline": "other", "streams": {}}', "is of pipeline other"),
        ('{"rowtrail_lock": 1, "pipeline": "shop", "streams": []}', "not where they belong"),
        (
            '{"rowtrail_lock": 1, "pipeline": "shop", "streams": {"a": {"table": "a", "key": ["x"],'
            ' "columns": []}}}',
            "has no column x",
        ),
        (
            '{"rowtrail_lock": 1, "pipeline": "shop", "streams": {"a": {"table": "a", "key": [],'
            ' "columns": [{"name": "x", "type": "marvel", "nullable": true, "declared": ""}]}}}',
            "marvel",
        ),
    ],
)
def test_what_is_no_lock_file_of_the_pipeline(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "shop.lock"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_lock(path, "shop")
    assert str(path) in str(caught.value)


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    path = tmp_path / "shop.lock"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_lock(path, "shop")
    nowhere = tmp_path / "nowhere" / "shop.lock"
    with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
        write_lock(LockFile(path=nowhere, pipeline="shop"))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "shop.lock"
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written: Is a directory"):
        write_lock(LockFile(path=path, pipeline="shop"))
    assert list(tmp_path.iterdir()) == [path]
