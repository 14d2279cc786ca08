"""Which streams the patterns of a pipeline stand for: what the source has, or the ledger knows.

A table with a section of its own is not taken by a pattern, and the pattern that says most takes
it from the others. The source is asked whenever it is opened, so that a new table is taken up and
one that is gone is noticed; who only asks the ledger gets the streams that it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from rowtrail.checkpoints.ledger import Ledger, open_ledger
from rowtrail.connectors.base import Catalog, ListsColumns, Source
from rowtrail.connectors.errors import ConfigurationError
from rowtrail.pipelines.definition import (
    NewTables,
    PatternDefinition,
    PipelineDefinition,
    StreamDefinition,
)
from rowtrail.pipelines.table_names import (
    matches,
    may_be_of,
    same_table,
    stream_name,
    weight,
)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A pipeline with a stream for each table, and what its patterns found beside them."""

    definition: PipelineDefinition
    left_out: Mapping[str, str] = field(default_factory=dict)  # table -> why it cannot be a stream
    new: Mapping[str, str] = field(default_factory=dict)  # table -> what to do; none is a stream
    gone: Mapping[str, str] = field(default_factory=dict)  # stream whose table is gone -> words

    def stream(self, name: str) -> StreamDefinition:
        """The stream of that name; ConfigurationError says what is known of its table."""
        for table, why in {**self.left_out, **self.new}.items():
            if name in (table, stream_name(table)):
                raise ConfigurationError(f"Table {table} is not a stream: {why}")
        return self.definition.stream(name)


def known_targets(ledger: Ledger) -> dict[str, str]:
    """The streams that a ledger knows, with their target tables."""
    return {record.name: record.target for record in ledger.streams.all()}


def resolve(definition: PipelineDefinition, source: Source, known: Mapping[str, str]) -> Resolved:
    """The pipeline with the streams that its patterns stand for at this source now.

    `known` are the ledger's streams with their targets. Tables that cannot be streams are left out;
    what the ledger knows already is not asked about: its stream says itself what is wrong. Raises
    ConfigurationError for a source that cannot list its tables, and what listing them raises.
    """
    if not definition.patterns:
        return Resolved(definition=definition)
    tables = _tables(source, definition.patterns)
    own = _own_streams(definition)
    found = list(own)
    left_out: dict[str, str] = {}
    new: dict[str, str] = {}
    targets = {stream.target.lower(): stream.name for stream in own}
    seen_before = {pattern.name for name in known if (pattern := _of_known(definition, name))}
    for pattern, table in _taken(definition.patterns, tables, own, known):
        name = stream_name(table)
        if name not in known and _reports(pattern) and pattern.name in seen_before:
            new[table] = _how_to_take(pattern, name, table)
            continue
        stream = _stream(pattern, table, tables[table])
        if (other := targets.setdefault(stream.target.lower(), name)) != name:
            left_out[table] = (
                f"its target {stream.target} is filled by stream {other} already. Give it a "
                f"section of its own with `table` and another `target`, or put it into "
                f"`exclude_tables`."
            )
        elif name not in known and (why := _unfit(source, stream)):
            left_out[table] = f"{why} Or put it into `exclude_tables` of {pattern.name}."
        else:
            found.append(stream)
    gone = _gone(definition, known, {stream_name(table) for table in tables})
    streams = (*found, *gone)
    return Resolved(
        definition=replace(definition, streams=streams),
        left_out=left_out,
        new=new,
        gone={
            stream.name: f"The table of stream {stream.name}, which pattern {stream.pattern} took, "
            f"is gone from the source; what was loaded stays at the target. If it is gone for "
            f"good, `rowtrail stream drop {stream.name}` forgets it."
            for stream in gone
        },
    )


def resolve_known(definition: PipelineDefinition, known: Mapping[str, str]) -> PipelineDefinition:
    """The pipeline with those of its patterns' streams that are known, with their targets.

    A stream whose name was derived has that name as its table: `at_source` finds the real one.
    """
    if not definition.patterns:
        return definition
    own = _own_streams(definition)
    streams = _gone(definition, known, {stream.name for stream in own})
    return replace(definition, streams=(*own, *streams))


def resolve_from_ledger(definition: PipelineDefinition) -> PipelineDefinition:
    """`resolve_known` with what the pipeline's ledger knows, if it has one yet."""
    if not definition.patterns or not definition.ledger.exists():
        return definition
    with closing(open_ledger(definition.ledger, definition.name)) as ledger:
        return resolve_known(definition, known_targets(ledger))


def resolve_beside_ledger(definition: PipelineDefinition, source: Source) -> Resolved:
    """`resolve` for who holds no ledger open; without one every table is new."""
    known = resolve_from_ledger(definition)
    derived = (stream for stream in known.streams if stream.pattern is not None)
    return resolve(definition, source, {stream.name: stream.target for stream in derived})


def register(ledger: Ledger, definition: PipelineDefinition) -> None:
    """Notes the tables of patterns that only report new ones: what comes later is new to them."""
    reporting = {pattern.name for pattern in definition.patterns if _reports(pattern)}
    for stream in definition.streams:
        if stream.pattern in reporting and ledger.streams.get(stream.name) is None:
            ledger.streams.begin_epoch(stream.name, stream.capture.value, stream.target)


def at_source(definition: PipelineDefinition, source: Source, name: str) -> StreamDefinition:
    """A stream that the ledger knows, with its table as the source has it now."""
    stream = definition.stream(name)
    if stream.pattern is None:
        return stream
    tables = _tables(source, definition.patterns)
    for table, columns in tables.items():
        if stream_name(table) == name and (pattern := _of_known(definition, name)):
            return _stream(pattern, table, columns)
    return stream


def is_taken(definition: PipelineDefinition, source: Source, name: str) -> bool:
    """Whether a pattern takes a table of the source for the stream of this name now."""
    taken = _taken(
        definition.patterns, _tables(source, definition.patterns), _own_streams(definition), {}
    )
    return any(stream_name(table) == name for _, table in taken)


def _reports(pattern: PatternDefinition) -> bool:
    return pattern.new_tables is NewTables.REPORT


def _tables(
    source: Source, patterns: Sequence[PatternDefinition]
) -> Mapping[str, Sequence[str] | None]:
    """The source's tables with the names of their columns, where it tells them."""
    if isinstance(source, ListsColumns):
        return dict(source.columns())
    if isinstance(source, Catalog):
        return dict.fromkeys(source.tables())
    raise ConfigurationError(
        f"This source cannot list its tables, so {patterns[0].name} cannot stand for any. Give "
        f"each table a section of its own."
    )


def _own_streams(definition: PipelineDefinition) -> list[StreamDefinition]:
    return [stream for stream in definition.streams if stream.pattern is None]


def _taken(
    patterns: Sequence[PatternDefinition],
    tables: Mapping[str, object],
    own: Sequence[StreamDefinition],
    known: Mapping[str, str],
) -> Iterator[tuple[PatternDefinition, str]]:
    """Tables with the pattern that takes each; those first whose stream has its name already."""
    with_section = {_meant(stream.table, tables) for stream in own}
    for table in sorted(tables, key=lambda one: stream_name(one) not in known):
        if table not in with_section and (pattern := _deciding(patterns, table, matches)):
            yield pattern, table


def _meant(name: str, tables: Mapping[str, object]) -> str | None:
    """The table of the catalog that a section means; some sources take it in any case."""
    exact = (table for table in tables if same_table(table, name))
    folded = (table for table in tables if same_table(table.lower(), name.lower()))
    return next(exact, None) or next(folded, None)


def _deciding(
    patterns: Sequence[PatternDefinition], name: str, fits: Callable[[str, str], bool]
) -> PatternDefinition | None:
    """The pattern that takes a name; None where none does, or the one that says most leaves it."""
    meant = [pattern for pattern in patterns if fits(pattern.name, name)]
    found = max(meant, key=lambda pattern: weight(pattern.name), default=None)
    if found is None or any(fits(one, name) for one in found.exclude_tables):
        return None
    return found


def _of_known(definition: PipelineDefinition, name: str) -> PatternDefinition | None:
    """The pattern that a stream of the ledger is one of; None where it is of another making."""
    own = _own_streams(definition)
    if any(name in (stream.name, stream_name(stream.table)) for stream in own):
        return None
    return _deciding(definition.patterns, name, may_be_of)


def _gone(
    definition: PipelineDefinition, known: Mapping[str, str], there: set[str]
) -> list[StreamDefinition]:
    """The patterns' streams that are known and are not among those that are there."""
    return [
        replace(pattern.template, name=name, table=name, target=target, pattern=pattern.name)
        for name, target in known.items()
        if name not in there and (pattern := _of_known(definition, name))
    ]


def _stream(
    pattern: PatternDefinition, table: str, columns: Sequence[str] | None
) -> StreamDefinition:
    """The stream of a table. Columns that it has not are no mistake, since others may have them."""
    template, name = pattern.template, stream_name(table)
    stream = replace(template, name=name, table=table, target=name, pattern=pattern.name)
    if columns is None:
        return stream
    there = {column.lower() for column in columns}
    taken = tuple(column for column in template.columns if column.lower() in there)
    return replace(
        stream,
        # With none of them left all would be taken: let it be refused instead.
        columns=taken or template.columns,
        exclude=tuple(column for column in template.exclude if column.lower() in there),
    )


def _unfit(source: Source, stream: StreamDefinition) -> str | None:
    """Why a table cannot be a stream; None where it can."""
    try:
        source.describe(stream.source_spec())
    except ConfigurationError as error:
        return str(error)
    return None


def _how_to_take(pattern: PatternDefinition, name: str, table: str) -> str:
    section = f'[streams."{name}"]' + ("" if name == table else " with its `table`")
    return (
        f"it is new, and {pattern.name} only reports new tables. To copy it, add {section}, or run "
        f'once with `new_tables = "take"`; to hear no more of it, put it into `exclude_tables`.'
    )
