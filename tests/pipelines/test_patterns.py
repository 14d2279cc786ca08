"""Streams for all tables whose name fits a pattern: taken up, left out, gone and back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rowtrail import Pipeline, Stream
from rowtrail.checkpoints.ledger import open_ledger
from rowtrail.checkpoints.states import RunState, StreamRecord, StreamState
from rowtrail.connectors import registry
from rowtrail.connectors.base import Capture, StreamSpec
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.connectors.schema import TableSchema
from rowtrail.connectors.sources.sqlite import SqliteSource
from rowtrail.pipelines.patterns import at_source, resolve, resolve_from_ledger
from rowtrail.pipelines.rebuild import rebuild_ledger
from rowtrail.pipelines.stream_actions import drop, pause, rename, resume
from rowtrail.pipelines.table_names import stream_name
from tests.pipelines.world import World


def shop(world: World, *streams: Stream | str, **pattern: Any) -> Pipeline:
    """Snapshots of the tables that a pattern means; a text is such a pattern."""
    settings = {"capture": "snapshot", **pattern}
    return Pipeline(
        name="test",
        source=f"sqlite:///{world.source}",
        destination=f"duckdb:///{world.target}",
        ledger=world.ledger,
        streams=[
            Stream(one, **settings) if isinstance(one, str) else one for one in streams or ("*",)
        ],
    )


def table(world: World, name: str, *rows: tuple[int, str]) -> None:
    world.sql(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, note TEXT)')
    for row in rows:
        world.sql(f'INSERT INTO "{name}" VALUES (?, ?)', row)


def record(world: World, stream: str) -> StreamRecord | None:
    with closing(open_ledger(world.ledger, "test")) as ledger:
        return ledger.streams.get(stream)


def state(world: World, stream: str) -> StreamState | None:
    found = record(world, stream)
    return None if found is None else found.state


def found_now(world: World, pipeline: Pipeline) -> dict[str, str]:
    """Stream -> table, for a ledger that knows nothing."""
    with closing(SqliteSource(f"sqlite:///{world.source}")) as source:
        resolved = resolve(pipeline.definition, source, {})
    return {stream.name: stream.table for stream in resolved.definition.streams}


@pytest.fixture
def two(world: World) -> World:
    """orders and lines, with a row each."""
    world.put([(1, 1, "a")])
    table(world, "lines", (1, "a"))
    return world


def test_each_table_is_a_stream_and_a_new_one_is_taken_up(two: World) -> None:
    pipeline = shop(two)
    first = pipeline.run()
    assert first.complete and set(first.streams) == {"orders", "lines"}
    table(two, "payments", (7, "new"))
    second = pipeline.run()
    assert second.complete and second.streams["payments"].loaded == 1
    assert second.streams["orders"].loaded == 0, "the others go on from where they were"
    assert two.query("SELECT id, note FROM payments") == [(7, "new")]


def test_what_the_pattern_sets_holds_for_each_stream(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = Stream(
        "public.*",
        capture="cursor",
        cursor="id",
        deletes="hard",
        key=["id"],
        exclude=["note", "nowhere"],
        types={"NUMERIC": "text"},
        batch_rows=7,
        capture_images=False,
    )
    shared = Pipeline(
        name="test",
        source=f"sqlite:///{two.source}",
        destination=f"duckdb:///{two.target}",
        streams=[pattern],
        slot="mine",
        readers=3,
    )
    described: dict[str, StreamSpec] = {}
    describe = SqliteSource.describe

    def note(self: SqliteSource, spec: StreamSpec) -> TableSchema:
        described[spec.name] = spec
        return describe(self, spec)

    monkeypatch.setattr(SqliteSource, "describe", note)
    with closing(SqliteSource(f"sqlite:///{two.source}")) as source:
        streams = resolve(shared.definition, source, {}).definition.streams
    assert [stream.name for stream in streams] == ["lines", "orders"]
    for stream in streams:
        assert (stream.capture, stream.cursor, stream.key) == (Capture.CURSOR, "id", ("id",))
        assert (stream.batch_rows, stream.capture_images, stream.pattern) == (7, False, "public.*")
        assert (stream.log, stream.readers) == ("mine", 3)
        assert described[stream.name].log == "mine", "asked about as it will be read"
        assert stream.exclude == ("note",), "a column that a table has not is no mistake"


def test_columns_are_taken_where_a_table_has_them(two: World) -> None:
    result = shop(two, columns=["id", "AMOUNT"]).run()
    assert result.complete
    for name, expected in (("orders", {"id", "amount"}), ("lines", {"id"})):
        columns = {column for column, *_ in two.query(f"DESCRIBE {name}")}
        assert {one for one in columns if not one.startswith("_rowtrail")} == expected


def test_a_table_with_none_of_the_columns_is_left_out_not_taken_whole(two: World) -> None:
    result = shop(two, columns=["amount"]).run()
    assert set(result.streams) == {"orders"}
    assert "amount" in result.left_out["lines"]


def test_a_table_with_a_section_of_its_own_is_not_taken(two: World) -> None:
    own = Stream("orders", name="sales", target="sales", capture="snapshot")
    result = shop(two, "*", own).run()
    assert set(result.streams) == {"sales", "lines"}
    spelled = Stream("public.ORDERS", name="sales", target="sales", capture="snapshot")
    assert set(found_now(two, shop(two, "*", spelled))) == {"sales", "lines"}


def test_tables_are_excluded_by_name_and_by_pattern(two: World) -> None:
    table(two, "audit_a")
    table(two, "audit_b")
    left = shop(two, "public.*", exclude_tables=["audit_*", "public.lines"])
    assert set(found_now(two, left)) == {"orders"}


def test_the_pattern_that_says_most_decides(two: World) -> None:
    table(two, "order_items")
    for patterns in ([0, 1], [1, 0]):
        both = [
            Stream("*", capture="snapshot"),
            Stream("order*", capture="snapshot", deletes="hard", exclude_tables=["order_items"]),
        ]
        pipeline = shop(two, *(both[number] for number in patterns))
        with closing(SqliteSource(f"sqlite:///{two.source}")) as source:
            streams = resolve(pipeline.definition, source, {}).definition.streams
        assert {one.name: one.pattern for one in streams} == {"orders": "order*", "lines": "*"}


def test_a_table_that_cannot_be_a_stream_is_named_and_stops_no_other(two: World) -> None:
    two.sql("CREATE TABLE journal (line TEXT)")
    two.sql("CREATE TABLE shapes (id INTEGER PRIMARY KEY, outline GEOMETRY)")
    two.sql("CREATE VIEW seen AS SELECT * FROM orders")
    result = shop(two).run()
    assert set(result.streams) == {"orders", "lines"}
    assert all(stream.complete for stream in result.streams.values())
    assert set(result.left_out) == {"journal", "shapes"}, "a view is no table"
    assert "no primary key" in result.left_out["journal"]
    assert "outline" in result.left_out["shapes"]
    assert "exclude_tables` of *" in result.left_out["shapes"]
    assert result.state is RunState.COMPLETE_EXCEPT
    assert shop(two, exclude_tables=["journal", "shapes"]).run().complete
    with pytest.raises(ConfigurationError, match=r"journal is not a stream: .* no primary key"):
        shop(two).run("journal")
    assert shop(two).run("orders").complete, "what was not asked for is not missing"


def test_a_known_stream_that_can_be_none_any_more_is_stopped(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    two.sql("DROP TABLE lines")
    two.sql("CREATE TABLE lines (id INTEGER, note TEXT)")
    result = pipeline.run()
    assert "no primary key" in (result.streams["lines"].error or "")
    assert state(two, "lines") is StreamState.STOPPED
    assert result.left_out == {} and result.streams["orders"].complete


def test_a_table_that_is_gone_stops_its_stream_and_no_other(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    two.sql("DROP TABLE lines")
    two.put([(2, 2, "b")])
    for _ in range(2):
        result = pipeline.run()
        error = result.streams["lines"].error or ""
        assert "table of stream lines, which pattern * took, is gone" in error
        assert "rowtrail stream drop lines" in error
        assert result.state is RunState.FAILED
        assert state(two, "lines") is StreamState.STOPPED
    assert two.loaded() == two.expected()
    assert two.query("SELECT id FROM lines") == [(1,)], "what was loaded stays"


def test_a_table_that_is_back_goes_on(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    two.sql("ALTER TABLE lines RENAME TO elsewhere")
    assert set(pipeline.run().streams) == {"orders", "lines", "elsewhere"}
    two.sql("ALTER TABLE elsewhere RENAME TO lines")
    two.sql("INSERT INTO lines VALUES (2, 'b')")
    result = pipeline.run()
    assert result.streams["lines"].loaded == 1 and result.streams["lines"].complete
    assert "is gone" in (result.streams["elsewhere"].error or "")


def test_a_stream_whose_table_is_gone_is_dropped(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    known = resolve_from_ledger(pipeline.definition)
    with pytest.raises(
        ConfigurationError, match="Put its table into `exclude_tables` of \\* first"
    ):
        drop(known, "lines")
    two.sql("DROP TABLE lines")
    drop(known, "lines")
    assert pipeline.run().complete
    assert record(two, "lines") is None


def test_a_stream_whose_table_is_excluded_is_dropped(two: World) -> None:
    shop(two).run()
    less = shop(two, exclude_tables=["lines"])
    assert set(less.run().streams) == {"orders"}
    drop(resolve_from_ledger(less.definition), "lines")
    assert record(two, "lines") is None


def test_odd_names_get_safe_ones_that_stay(two: World) -> None:
    table(two, "my lines", (1, "a"))
    table(two, "my_lines", (2, "b"))
    table(two, "größe:1", (3, "c"))
    pipeline = shop(two)
    names = {one: stream_name(one) for one in ("my lines", "my_lines", "größe:1")}
    result = pipeline.run()
    assert result.complete and set(names.values()) < set(result.streams)
    for number, name in enumerate(names.values(), 1):
        assert two.query(f'SELECT id FROM "{name}"') == [(number,)]
    two.sql("INSERT INTO \"my lines\" VALUES (9, 'z')")
    assert pipeline.run().streams[names["my lines"]].loaded == 1
    assert "1 loaded" in pipeline.replay(names["größe:1"], 3).text
    known = resolve_from_ledger(pipeline.definition)
    with closing(SqliteSource(f"sqlite:///{two.source}")) as source:
        assert at_source(known, source, names["my lines"]).table == "my lines"
    two.sql('DROP TABLE "my lines"')
    assert "is gone" in (pipeline.run().streams[names["my lines"]].error or "")


def test_a_target_that_is_filled_already_is_not_taken_by_a_pattern(two: World) -> None:
    own = Stream("orders", target="LINES", capture="snapshot")
    result = shop(two, "*", own).run()
    assert set(result.streams) == {"orders"}
    assert "lines is filled by stream orders already" in result.left_out["lines"]


def test_a_schema_in_the_name_is_a_schema_at_the_target(two: World) -> None:
    table(two, "sales.items", (1, "a"))
    result = shop(two, "sales.*").run()
    assert set(result.streams) == {"sales.items"}
    assert two.query("SELECT id FROM sales.items") == [(1,)]


def test_new_tables_are_only_reported_if_so_wished(two: World) -> None:
    pipeline = shop(two, new_tables="report")
    first = pipeline.run("orders")
    assert set(first.streams) == {"orders"} and first.complete
    table(two, "payments", (7, "new"))
    second = pipeline.run()
    assert set(second.streams) == {"orders", "lines"}, "lines was there at the first run"
    assert set(second.new_tables) == {"payments"}
    assert '[streams."payments"]' in second.new_tables["payments"]
    assert second.complete, "it was asked for no more than a report"
    with pytest.raises(ConfigurationError, match="payments is not a stream: it is new"):
        pipeline.run("payments")
    taken = shop(two, "*", Stream("payments", capture="snapshot"), new_tables="report").run()
    assert taken.streams["payments"].loaded == 1 and not taken.new_tables


def test_a_pattern_that_reports_takes_all_at_first_even_if_the_run_dies(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = shop(two, new_tables="report")

    class Died(BaseException):
        pass

    def die(self: SqliteSource, *arguments: object) -> Iterator[Any]:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(SqliteSource, "read", die)
        pipeline.run()
    result = pipeline.run()
    assert set(result.streams) == {"orders", "lines"} and result.complete


def test_records_of_its_streams_are_retried_and_replayed(two: World) -> None:
    two.sql("INSERT INTO orders VALUES (5, 'no number', 'x', 1)")
    pipeline = shop(two)
    assert pipeline.run().streams["orders"].held_back == 1
    two.put([(5, 5, "mended")])
    (retried,) = pipeline.retry(from_stage="extract")
    assert (retried.stream, retried.failed) == ("orders", ())
    assert "1 loaded" in pipeline.replay("lines", 1).text
    with pytest.raises(ConfigurationError, match=r"no stream liens. Its streams are .*, those of"):
        pipeline.replay("liens", 1)


def test_a_lost_ledger_is_rebuilt_with_them(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    for file in two.folder.glob("ledger.db*"):
        file.unlink()
    assert len(rebuild_ledger(pipeline.definition)) == 2
    two.put([(2, 2, "b")])
    assert pipeline.run().complete and two.loaded() == two.expected()


def test_a_stream_leaves_its_pattern_and_goes_on_under_another_name(two: World) -> None:
    shop(two).run()
    with pytest.raises(ConfigurationError, match="has no stream sales"):
        rename(shop(two).definition, "orders", "sales")
    own = Stream("orders", name="sales", target="orders", capture="snapshot")
    renamed = shop(two, "*", own)
    rename(renamed.definition, "orders", "sales")
    two.put([(2, 2, "b")])
    result = renamed.run()
    assert set(result.streams) == {"sales", "lines"}
    assert result.complete and result.streams["sales"].loaded == 1


def test_a_renamed_table_may_keep_its_stream(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    two.sql("ALTER TABLE orders RENAME TO sales")
    moved = shop(two, "*", Stream("sales", target="orders", capture="snapshot"))
    rename(moved.definition, "orders", "sales")
    result = moved.run()
    assert result.complete and set(result.streams) == {"sales", "lines"}


def test_a_paused_stream_of_a_pattern(two: World) -> None:
    pipeline = shop(two)
    pipeline.run()
    pause(pipeline.definition, "lines")
    assert (pipeline.run().streams["lines"].skipped or "").startswith("paused")
    resume(pipeline.definition, "lines")
    assert pipeline.run().complete


def test_capture_is_made_for_its_tables_and_taken_away(two: World) -> None:
    two.sql("CREATE TABLE journal (line TEXT)")
    pipeline = shop(two, capture="trigger")
    ran = pipeline.install_capture()
    assert any("_rowtrail_log_lines" in one for one in ran)
    pipeline.run()
    two.sql("DROP TABLE lines")
    assert pipeline.install_capture() == [], "a table that is gone needs nothing"
    assert any("_rowtrail_log_lines" in one for one in pipeline.remove_capture())
    left = two.sql("SELECT name FROM sqlite_schema WHERE name LIKE '\\_rowtrail%' ESCAPE '\\'")
    assert left == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda world: shop(world, "a*", target="x"), "target = 'x' cannot be that of many tables"),
        (lambda world: shop(world, "a*", "a*"), "two streams of this name"),
        (lambda world: shop(world, "a*", capture="cursor"), "a*.cursor: is missing"),
        (lambda world: shop(world, "a*", columns=["a"], exclude=["b"]), "set one of the two"),
        (lambda world: shop(world, "a*", new_tables="ignore"), "not one of take, report"),
        (lambda world: shop(world, "a", exclude_tables=["b"]), "exclude_tables is only for a patt"),
        (lambda world: shop(world, "a", new_tables="report"), "new_tables is only for a pattern"),
    ],
)
def test_mistakes_are_told_when_the_pipeline_is_made(world: World, make: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(world)
    assert words in str(caught.value)


def test_a_name_makes_a_star_an_ordinary_letter(world: World) -> None:
    table(world, "a*b", (1, "a"))
    stream = Stream("a*b", name="ab", capture="snapshot")
    assert not stream.is_pattern
    assert set(shop(world, stream).run().streams) == {"ab"}


class Silent:
    """A source that cannot list its tables."""

    def __init__(self, url: str) -> None: ...

    def close(self) -> None: ...


def test_a_source_that_cannot_list_its_tables(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**registry._BUILT_IN["source"], "sqlite": (__name__, "Silent", None)}
    monkeypatch.setattr(registry, "_BUILT_IN", {**registry._BUILT_IN, "source": known})
    with pytest.raises(ConfigurationError, match="cannot list its tables, so \\* cannot stand"):
        shop(world).run()


class Plain:
    """A source that lists its tables and not their columns."""

    def __init__(self, url: str) -> None:
        inner = SqliteSource(url)
        for name in ("describe", "read", "fetch", "acknowledge", "preflight", "tables", "close"):
            setattr(self, name, getattr(inner, name))


def test_without_the_columns_a_view_is_a_table_and_columns_are_taken_as_they_stand(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**registry._BUILT_IN["source"], "sqlite": (__name__, "Plain", None)}
    monkeypatch.setattr(registry, "_BUILT_IN", {**registry._BUILT_IN, "source": known})
    two.sql("CREATE VIEW seen AS SELECT * FROM orders")
    result = shop(two, exclude=["amount"]).run()
    assert set(result.streams) == {"orders"}
    assert set(result.left_out) == {"lines", "seen"}
