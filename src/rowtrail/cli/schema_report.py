"""The comparison of schemas as a document that people pass on."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from rowtrail.cli.schema import COLUMNS, cells, drifts, heading, notes

if TYPE_CHECKING:
    from rowtrail.pipelines.schema_comparison import SchemaComparison

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .25rem .75rem;
text-align: left; border-bottom: 1px solid #ddd } code, td { font-family: ui-monospace, monospace }
.loses td { background: #fdecea } .problem { color: #b3261e }
"""


def markdown_report(pipeline: str, found: Sequence[SchemaComparison]) -> str:
    """Signs that mean something in Markdown or HTML are escaped in names and types."""
    parts = [f"# {_plain(f'Schemas of pipeline {pipeline}')}"]
    for one in found:
        parts.append(f"## {_plain(one.stream)}\n\n{_plain(heading(one))}")
        if one.columns:
            rows = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, one.columns)]
            head, rule, *body = ([_plain(cell) for cell in row] for row in rows)
            del rule
            parts.append("\n".join(map(_row, [head, ["---"] * len(COLUMNS), *body])))
        told = [*notes(one), *drifts(one), *([f"Problem: {one.problem}"] if one.problem else [])]
        if told:
            parts.append("\n".join(f"- {_plain(line)}" for line in told))
        if one.plan:
            statements = ";\n".join(one.plan).replace("```", "'''")
            parts.append(f"A run would:\n\n```sql\n{statements};\n```")
    return "\n\n".join(parts) + "\n"


def _row(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    line = " ".join(escape(text, quote=False).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]|#" else sign for sign in line)


def html_report(pipeline: str, found: Sequence[SchemaComparison]) -> str:
    """A page that stands alone: no script, nothing from elsewhere."""
    title = escape(f"Schemas of pipeline {pipeline}")
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"<h1>{title}</h1>",
    ]
    for one in found:
        parts.append(f"<h2>{escape(one.stream)}</h2><p>{escape(heading(one))}</p>")
        if one.columns:
            head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
            parts.append(f"<table><tr>{head}</tr>")
            for column in one.columns:
                body = "".join(f"<td>{escape(cell)}</td>" for cell in cells(column))
                parts.append(f"<tr{' class=loses' if column.loses else ''}>{body}</tr>")
            parts.append("</table>")
        told = "".join(f"<li>{escape(line)}</li>" for line in (*notes(one), *drifts(one)))
        parts.append(f"<ul>{told}</ul>" if told else "")
        parts += [f"<p>A run would: <code>{escape(one_plan)}</code></p>" for one_plan in one.plan]
        if one.problem:
            parts.append(f'<p class="problem">Problem: {escape(one.problem)}</p>')
    return "\n".join(part for part in (*parts, "</html>") if part) + "\n"
