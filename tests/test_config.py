"""Pipeline files: what they may say, and how every mistake in one is told at once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from rowtrail.connectors.base import Capture, Deletes
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.ages import parse_age
from rowtrail.pipelines.config import load_pipeline
from rowtrail.pipelines.config_model import json_schema
from rowtrail.pipelines.definition import (
    Breakers,
    NewTables,
    PipelineDefinition,
    Retention,
)

HEAD = """\
[pipeline]
name = "shop"
source = "sqlite:///shop.db"
destination = "duckdb:///warehouse.duckdb"
"""
KEY = "dGhpcyBpcyBhIGtleSBvZiBieXRlcywgMzIgb2YgaXQ="
ORDERS = """
[streams.orders]
capture = "trigger"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text("def clean(orders):\n    return orders\n")
    return tmp_path


def load(folder: Path, text: str) -> PipelineDefinition:
    file = folder / "rowtrail.toml"
    file.write_text(dedent(text), encoding="utf-8")
    return load_pipeline(file)


def mistakes(folder: Path, text: str) -> list[str]:
    """The lines that tell the mistakes."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    first, *listed = str(caught.value).splitlines()
    assert str(folder / "rowtrail.toml") in first
    assert all(line.startswith("  - ") for line in listed)
    count = "one mistake" if len(listed) == 1 else f"{len(listed)} mistakes"
    assert not listed or first.endswith(f"has {count}:")
    return [line.removeprefix("  - ") for line in listed] or [first]


def test_a_full_file(folder: Path) -> None:
    pipeline = load(
        folder,
        HEAD
        + """
        ledger = "state/shop.ledger"
        install_capture = true

        [defaults]
        capture = "cursor"
        cursor = "updated_at"
        deletes = "hard"
        batch_rows = 1000
        types = { MONEY = "decimal(12,2)" }

        [streams.orders]
        table = "sales"
        target = "sales_copy"
        key = ["id"]
        cursor_lag = 5
        exclude = ["secret"]
        types = { placed = "timestamp" }
        transforms = ["mine:clean"]
        capture_images = false

        [streams.lines]
        capture = "snapshot"
        deletes = "soft"
        columns = ["id", "n"]

        [breakers]
        failed_records = 5
        """.replace("        ", ""),
    )
    orders, lines = pipeline.streams
    assert (orders.name, orders.table, orders.target) == ("orders", "sales", "sales_copy")
    assert (orders.capture, orders.cursor, orders.cursor_lag) == (Capture.CURSOR, "updated_at", 5.0)
    assert (orders.deletes, orders.key, orders.exclude) == (Deletes.HARD, ("id",), ("secret",))
    assert orders.types == {"MONEY": "decimal(12,2)", "placed": "timestamp"}
    assert [step.name for step in orders.transforms] == ["mine:clean"]
    assert (orders.batch_rows, orders.capture_images) == (1000, False)
    assert (lines.table, lines.capture, lines.deletes) == ("lines", Capture.SNAPSHOT, Deletes.SOFT)
    assert (lines.columns, lines.transforms) == (("id", "n"), ())
    assert pipeline.ledger == folder / "state/shop.ledger"
    assert pipeline.install_capture
    assert pipeline.breakers == Breakers(failed_records=5)


def test_what_is_kept_of_failed_records(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD_KEY", KEY.swapcase())
    pipeline = load(
        folder,
        HEAD
        + f"""
        image_key = ["{KEY}", "${{OLD_KEY}}"]

        [defaults]
        capture = "trigger"
        redact = ["email"]

        [streams.orders]
        redact = ["phone"]
        image_bytes = "200 kB"

        [streams."public.*"]
        redact = ["name"]

        [retention]
        images = "30d"
        """.replace("        ", ""),
    )
    (orders,), (others,) = pipeline.streams, pipeline.patterns
    assert (orders.redact, orders.redact_where_found) == (("phone",), ("email",))
    assert orders.image_bytes == 200_000
    assert (others.template.redact, set(others.template.redact_where_found)) == (
        (),
        {"name", "email"},
    )
    assert pipeline.image_keys == (KEY, KEY.swapcase())
    assert pipeline.retention == Retention(images=timedelta(days=30))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (HEAD + 'image_key = "short"\n' + ORDERS, "line 5, pipeline.image_key: is no key: a key"),
        (HEAD + 'image_key = ""\n' + ORDERS, "line 5, pipeline.image_key: is no key: a key"),
        (
            HEAD + 'image_key = "${NO_SUCH_KEY}"\n' + ORDERS,
            "line 5, pipeline.image_key: the environment variable NO_SUCH_KEY is not set",
        ),
        (
            HEAD + ORDERS + 'key = ["Id"]\nredact = ["id"]\n',
            "line 9, streams.orders.redact: holds Id, which is part of the key or the cursor",
        ),
        (
            HEAD + ORDERS + 'policy = "block"\nredact = ["email"]\n',
            "line 8, streams.orders.policy: block keeps the changes that wait in the ledger as",
        ),
        (
            HEAD + ORDERS + "image_bytes = 0\n",
            "line 8, streams.orders.image_bytes: should be more than 0 bytes",
        ),
        (
            HEAD + ORDERS + '[retention]\ntrails = "9 moons"\n',
            "line 9, retention.trails: '9 moons' is no length of time: write a number and h, d, w",
        ),
        (
            HEAD + ORDERS + '[retention]\nimage = "9d"\n',
            "line 9, retention.image: there is no such setting; did you mean images?",
        ),
    ],
)
def test_mistakes_about_what_is_kept(folder: Path, text: str, mistake: str) -> None:
    (told,) = mistakes(folder, text)
    assert told.startswith(mistake)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        (" 2 W ", timedelta(weeks=2)),
        ("1y", timedelta(days=365)),
        ("0d", timedelta()),
    ],
)
def test_lengths_of_time(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5d", "1m", "1000000000d", 90, None])
def test_what_is_no_length_of_time(text: object) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        parse_age(text)


def test_what_the_streams_of_a_log_share(folder: Path) -> None:
    text = HEAD + "slot = 'nightly_1'\nreaders = 5\nretained_log = '1.5 GiB'\n"
    pipeline = load(folder, text + ORDERS.replace("trigger", "log"))
    (orders,) = pipeline.streams
    assert (orders.capture, pipeline.slot, pipeline.readers) == (Capture.LOG, "nightly_1", 5)
    assert (orders.source_spec().log, orders.source_spec().readers) == ("nightly_1", 5)
    assert pipeline.retained_log == 3 * 2**29


def test_the_slot_is_named_after_the_pipeline(folder: Path) -> None:
    text = HEAD.replace('"shop"', '"Sh-op.2"') + ORDERS
    pipeline = load(folder, text)
    assert pipeline.streams[0].source_spec().log == pipeline.slot == "rowtrail_sh_op_2"
    assert (pipeline.readers, pipeline.retained_log) == (2, 10 * 10**9)
    assert load(folder, text.replace("Sh-op.2", "s" * 99)).slot == f"rowtrail_{'s' * 54}"


def test_a_pattern_of_tables(folder: Path) -> None:
    pipeline = load(
        folder,
        HEAD
        + """
        [defaults]
        capture = "snapshot"
        new_tables = "report"

        [streams."public.*"]
        exclude_tables = ["audit_*", "tmp"]
        exclude = ["secret"]
        transforms = ["mine:clean"]

        [streams."sales.*"]
        capture = "log"
        new_tables = "take"

        [streams.orders]
        """.replace("        ", ""),
    )
    public, sales = pipeline.patterns
    assert [stream.name for stream in pipeline.streams] == ["orders"]
    assert (public.name, public.new_tables) == ("public.*", NewTables.REPORT)
    assert public.exclude_tables == ("audit_*", "tmp")
    assert public.template.exclude == ("secret",)
    assert [step.name for step in public.template.transforms] == ["mine:clean"]
    assert (sales.new_tables, sales.template.capture) == (NewTables.TAKE, Capture.LOG)
    assert sales.exclude_tables == ()


def test_paths_start_at_the_file(folder: Path) -> None:
    pipeline = load(folder, HEAD + ORDERS)
    assert pipeline.source == f"sqlite:///{folder}/shop.db"
    assert pipeline.destination == f"duckdb:///{folder}/warehouse.duckdb"
    assert pipeline.ledger == folder / ".rowtrail/shop.ledger"
    absolute = load(folder, HEAD.replace("///shop.db", "////data/shop.db") + ORDERS)
    assert absolute.source == "sqlite:////data/shop.db"
    with_options = load(folder, HEAD.replace(".duckdb", ".duckdb?threads=1") + ORDERS)
    assert with_options.destination == f"duckdb:///{folder}/warehouse.duckdb?threads=1"


def test_environment_variables_are_put_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_FILE", "live.db")
    monkeypatch.setenv("SHOP_ROWS", "77")
    text = HEAD.replace("shop.db", "${SHOP_FILE}") + ORDERS + 'batch_rows = "${SHOP_ROWS}"\n'
    pipeline = load(folder, text)
    assert pipeline.source.endswith("/live.db")
    assert pipeline.streams[0].batch_rows == 77


def test_a_missing_variable_is_told_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_FILE", raising=False)
    told = mistakes(folder, HEAD.replace("sqlite:///shop.db", "${SHOP_FILE}") + ORDERS)
    assert told == [
        "line 3, pipeline.source: the environment variable SHOP_FILE is not set; export it first"
    ]


def test_three_mistakes_of_three_kinds_are_told_at_once(folder: Path) -> None:
    text = HEAD.replace("sqlite:", "oracle:") + ORDERS.replace("trigger", "triger")
    told = mistakes(folder, text + 'transforms = ["mine:claen"]\n')
    assert len(told) == 3
    assert told[0].startswith("line 3, pipeline.source: ") and "oracle://" in told[0]
    assert told[1] == (
        "line 7, streams.orders.capture: should be 'log', 'trigger', 'cursor' or 'snapshot'"
    )
    assert told[2].startswith("line 8, streams.orders.transforms: Transform mine:claen: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + ORDERS + "colour = 1\n", "line 8, streams.orders.colour: there is no such setting"),
        (
            HEAD + ORDERS + "colums = ['a']\n",
            "line 8, streams.orders.colums: there is no such setting; did you mean columns?",
        ),
        (HEAD + ORDERS + "batch_rows = 0\n", "line 8, streams.orders.batch_rows: should be"),
        (HEAD + ORDERS + "key = 'id'\n", "line 8, streams.orders.key: should be a valid list"),
        (HEAD + ORDERS + "types = { a = 'money' }\n", "line 8, streams.orders.types.a: 'money' is"),
        (HEAD + "[streams.orders]\n", "line 5, streams.orders.capture: is missing; set it to"),
        (HEAD + ORDERS.replace("trigger", "cursor"), "line 6, streams.orders.cursor: is missing"),
        (HEAD + ORDERS + "columns = ['a']\nexclude = ['b']\n", "line 9, streams.orders.exclude:"),
        (HEAD + "slot = 'Sl-ot'\n" + ORDERS, "line 5, pipeline.slot: may hold only small letters"),
        (HEAD + f"slot = '{'s' * 64}'\n" + ORDERS, "line 5, pipeline.slot: may hold only small"),
        (HEAD + "slot = ''\n" + ORDERS, "line 5, pipeline.slot: may hold only small letters"),
        (HEAD + "readers = 17\n" + ORDERS, "line 5, pipeline.readers: should be less than"),
        (HEAD + "readers = 0\n" + ORDERS, "line 5, pipeline.readers: should be greater than"),
        (HEAD + "retained_log = '9 GX'\n" + ORDERS, "line 5, pipeline.retained_log: '9 GX' is no"),
        (HEAD + "retained_log = true\n" + ORDERS, "line 5, pipeline.retained_log: True is no size"),
        (HEAD + "retained_log = 0\n" + ORDERS, "line 5, pipeline.retained_log: should be more"),
        (HEAD + ORDERS + "new_tables = 'take'\n", "line 8, streams.orders.new_tables: is only"),
        (HEAD + ORDERS + "exclude_tables = ['a']\n", "line 8, streams.orders.exclude_tables: is o"),
        (HEAD + ORDERS + "new_tables = 'some'\n", "line 8, streams.orders.new_tables: should"),
        (
            HEAD + ORDERS.replace("orders", '"a.*"') + "target = 'a'\n",
            "line 8, streams.a.*.target: cannot be that of many tables",
        ),
        (HEAD + "[streams.'a*']\n", "line 5, streams.a*.capture: is missing; set it to log"),
        (HEAD + ORDERS + "[breakers]\nfailed_share = 3\n", "line 9, breakers.failed_share: should"),
        (HEAD + ORDERS + "[breaker]\n", "line 8, breaker: there is no such setting; did you"),
        (HEAD, "streams: is missing"),
        (HEAD + "[streams]\n", "line 5, streams: there is none; add one"),
        (HEAD + "[streams]\norders = 3\n", "line 6, streams.orders: should be a table, such as ["),
        (HEAD.replace("shop\"", "s h/op\"", 1) + ORDERS, "line 2, pipeline.name: may hold only"),
        (HEAD.replace('name = "shop"\n', "") + ORDERS, "line 1, pipeline.name: is missing"),
        (ORDERS, "pipeline: is missing"),
        (
            HEAD + ORDERS + "[streams.Orders]\ncapture = 'snapshot'\n",
            "line 8, streams.Orders.target: Orders is the target of stream orders already",
        ),
        (
            HEAD + "[defaults]\ncapture = 'triger'\n[streams.a]\n[streams.b]\n",
            "line 6, defaults.capture: should be 'log', 'trigger'",
        ),
    ],
)  # fmt: skip
def test_one_mistake_is_told_once_with_its_line(folder: Path, text: str, expected: str) -> None:
    (told,) = mistakes(folder, text)
    assert told.startswith(expected)


def test_a_stream_that_stands_there_twice(folder: Path) -> None:
    (told,) = mistakes(folder, HEAD + ORDERS + ORDERS)
    assert "has the stream orders twice (lines 6 and 9)" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[pipeline\n", "is not valid TOML"),
        (b"name = 'caf\xe9'\n", "is not UTF-8 text"),
        (b"", "pipeline: is missing"),
    ],
    ids=["not TOML", "not UTF-8", "empty"],
)
def test_a_file_that_cannot_be_read(folder: Path, content: bytes, words: str) -> None:
    file = folder / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_pipeline(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_a_folder(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="rowtrail init SOURCE DESTINATION"):
        load_pipeline(folder / "no.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_pipeline(folder)


def test_without_transforms_no_code_is_imported(folder: Path) -> None:
    (folder / "mine.py").write_text("raise SystemError('imported')\n")
    load(folder, HEAD + ORDERS)
    file = folder / "rowtrail.toml"
    file.write_text(HEAD + ORDERS + 'transforms = ["mine:clean"]\n')
    assert load_pipeline(file, with_transforms=False).streams[0].transforms == ()
    with pytest.raises(ConfigurationError, match="SystemError: imported"):
        load_pipeline(file)


def test_the_published_schema_is_current() -> None:
    """Make it anew with: python -m rowtrail.pipelines.config_model > docs/rowtrail.schema.json"""
    published = Path(__file__).parents[1] / "docs" / "rowtrail.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == json_schema()
