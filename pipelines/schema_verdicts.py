"""What a stream's columns at the source and at the target have to do with each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum

from rowtrail.connectors.base import Capabilities, TargetTable
from rowtrail.connectors.schema import Column, TableSchema
from rowtrail.connectors.type_names import type_name


class Verdict(StrEnum):
    """Of one column."""

    SAME = "same"  # the type that a run would make
    WIDENED = "widened"  # the target's type takes every value of the source, and more
    COMPATIBLE = "compatible"  # another type, which takes the same values
    NARROW = "narrow"  # a run widens it first, so that it takes every value of the source
    LOSSY = "lossy"  # some value would not come through: a run fails, or holds its rows back
    MISSING = "missing"  # the target has yet to get it
    EXTRA = "extra"  # the stream does not bring it
    ORDER = "order"  # as `same`, at another place among the columns


@dataclass(frozen=True, kw_only=True)
class Side:
    """A column on one of the two sides."""

    type: str  # in the database's own words
    nullable: bool
    key: int | None  # its place in the key, from 1
    length: int | None  # of text, bytes or bits that are limited: how many of them
    precision: int | None  # digits of a number, or of the fraction of a second
    scale: int | None  # how many of a number's digits are behind the point


@dataclass(frozen=True, kw_only=True)
class ColumnVerdict:
    """One column, side by side."""

    name: str
    source: Side | None  # None: the source has no such column
    target: Side | None  # of a missing column what a run would make; None: it can make none
    verdict: Verdict
    why: str = ""  # where the verdict says too little; no full stop
    loses: bool = False  # a run would fail on it, or lose something


def column_verdicts(
    source: TableSchema, wanted: TableSchema, there: TargetTable | None, can: Capabilities
) -> tuple[ColumnVerdict, ...]:
    """The columns that a run would write, in their order, then those that only the target has.

    `source` is the shape of the rows at the source, `wanted` that of the rows after the transforms.
    """
    have = () if there is None else there.schema.columns
    own = _by_wanted_name(wanted, have, can)
    known = [one.name for one in own.values() if one is not None]
    moved = _moved(known, [one.name for one in have if one.name in known])
    found = []
    for column in wanted.columns:
        at_target = own[column.name]
        if at_target is None:
            verdict = _missing(column, source, wanted, there, can)
        else:
            verdict = _both(column, at_target, source, wanted, there, can)
            if verdict.verdict is Verdict.SAME and at_target.name in moved:
                verdict = replace(verdict, verdict=Verdict.ORDER)
        found.append(verdict)
    return (*found, *(_extra(one, source, there) for one in have if one.name not in known))


def _by_wanted_name(
    wanted: TableSchema, have: Sequence[Column], can: Capabilities
) -> dict[str, Column | None]:
    """What the target has for each column. Spelled alike nearly always: that is looked at first."""
    alike = {one.name: one for one in have}
    return {
        name: alike.get(name) or next((one for one in have if can.same_name(one.name, name)), None)
        for name in wanted.names
    }


def _moved(wanted: Sequence[str], have: Sequence[str]) -> set[str]:
    """The names that are not in the same order as the others."""
    blocks = SequenceMatcher(None, wanted, have, autojunk=False).get_matching_blocks()
    kept = {name for block in blocks for name in wanted[block.a : block.a + block.size]}
    return set(wanted) - kept


def _missing(
    column: Column,
    source: TableSchema,
    wanted: TableSchema,
    there: TargetTable | None,
    can: Capabilities,
) -> ColumnVerdict:
    kind = can.type_of(column.type)
    at_source = _source_side(column, source)
    if kind is None:
        return ColumnVerdict(
            name=column.name,
            source=at_source,
            target=None,
            verdict=Verdict.LOSSY,
            why=f"the target has no type that holds every {type_name(column.type)}: choose one "
            f"under `types`, or leave the column out with `exclude`",
            loses=True,
        )
    in_key = column.name in wanted.key
    filled = there is not None and there.live_rows > 0
    why = _origin(column, source)
    if filled:
        why = f"{why}; rows that are there have NULL until they are loaded again".lstrip("; ")
    return ColumnVerdict(
        name=column.name,
        source=at_source,
        target=_side(replace(column, declared=kind, nullable=not in_key), wanted.key),
        verdict=Verdict.MISSING,
        why=why,
        loses=filled,
    )


def _both(
    column: Column,
    at_target: Column,
    source: TableSchema,
    wanted: TableSchema,
    there: TargetTable | None,
    can: Capabilities,
) -> ColumnVerdict:
    assert there is not None
    kind, has = can.type_of(column.type), at_target.declared
    verdict, why = Verdict.SAME, _origin(column, source)
    holds = kind is not None and can.takes(has, kind)
    if kind is None or not (holds or can.widens(has, kind, column.name in wanted.key)):
        verdict = Verdict.LOSSY
        why = f"{has} does not hold every {kind or type_name(column.type)}"
    elif column.nullable and not at_target.nullable and column.name not in wanted.key:
        verdict, why = Verdict.LOSSY, "the target takes no NULL: rows that have one are held back"
    elif not holds:
        verdict, why = Verdict.NARROW, "; ".join(filter(None, (why, f"a run makes it {kind}")))
    elif kind != has:
        verdict = Verdict.COMPATIBLE if can.takes(kind, has) else Verdict.WIDENED
    return ColumnVerdict(
        name=column.name,
        source=_source_side(column, source),
        target=_side(at_target, there.schema.key),
        verdict=verdict,
        why=why,
        loses=verdict is Verdict.LOSSY,
    )


def _extra(column: Column, source: TableSchema, there: TargetTable | None) -> ColumnVerdict:
    assert there is not None
    refuses = not column.nullable and not column.default
    left_out = column.name in source.names
    whose = "a transform drops it" if left_out else "the stream does not bring it"
    what = (
        "every new row would be refused, since it may not be NULL"
        if refuses
        else ("new rows get its default" if column.default else "new rows have NULL")
    )
    return ColumnVerdict(
        name=column.name,
        source=_source_side(column, source),
        target=_side(column, there.schema.key),
        verdict=Verdict.EXTRA,
        why=f"{whose}; {what}",
        loses=refuses,
    )


def _origin(column: Column, source: TableSchema) -> str:
    if column.name not in source.names:
        return "made by a transform"
    if column.chosen:
        return f"read as {type_name(column.type)}; rows that do not fit are held back"
    return ""


def _source_side(column: Column, source: TableSchema) -> Side | None:
    if column.name not in source.names:
        return None
    return _side(source.column(column.name), source.key)


_SIZE = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_LIMITED = ("char", "text", "binary", "blob", "bit", "clob")
_COUNTED = ("num", "dec", "time")


def _side(column: Column, key: Sequence[str]) -> Side:
    declared = column.declared or type_name(column.type)
    size, lower = _SIZE.search(declared), declared.lower()
    first, second = (None, None) if size is None else size.groups()
    limited = first is not None and any(word in lower for word in _LIMITED)
    counted = first is not None and not limited and any(word in lower for word in _COUNTED)
    return Side(
        type=declared,
        nullable=column.nullable,
        key=key.index(column.name) + 1 if column.name in key else None,
        length=int(first) if first is not None and limited else None,
        precision=int(first) if first is not None and counted else None,
        scale=int(second) if second is not None and counted else None,
    )
