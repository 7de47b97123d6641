"""A page as Markdown (CommonMark with GitHub's tables), legible as it is in a terminal too."""

import re
from collections.abc import Sequence

from results.report.page import Block, Cell, Exchanges, Figure, Items, Link, Page, Table, Text
from results.report.thin import thinned

# What could start a tag, an entity, a code span, emphasis, a link, an image, a quotation or a next
# cell of a table. As entities they are text wherever they stand (CommonMark 0.31, section 2.5). An
# underscore within a word starts nothing (6.2), and names of metrics stay legible.
_MARKS = re.compile(r"[|`\[\]*\\~&<]|^>|(?<![^\W_])_|_(?![^\W_])")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PADDED = 40  # characters; a longer cell runs over its column
_FIGURE_ROWS = 12  # of a figure's data: the page beside this one and the JSON files have all


def render(page: Page) -> str:
    title = f"{page.title}: {page.state}" if page.state else page.title
    parts = [f"# {escape(title)}"]
    parts += [_text(page.verdict)] if page.verdict is not None else []
    if page.facts:
        facts = (f"- {escape(name)}: {escape(value)}" for name, value in page.facts)
        parts.append("\n".join(facts))
    for section in page.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text stays text, on one line."""
    one_line = " ".join(text.split())
    return _MARKS.sub(lambda mark: _NAMED.get(mark[0], f"&#{ord(mark[0])};"), one_line)


def _block(block: Block) -> str:
    match block:
        case Text():
            return _text(block)
        case Items(items=items):
            return "\n".join(f"- {escape(item.text)}" for item in items)
        case Table():
            return _table(block)
        case Exchanges(names=names, rows=rows):
            return _rows(names, rows, ())
        case Figure():
            return _figure(block)


def _text(text: Text) -> str:
    return f"**{escape(text.lead)}**: {escape(text.text)}" if text.lead else escape(text.text)


def _figure(figure: Figure) -> str:
    parts = [f"### {escape(figure.title)}"]
    parts += [f"![{escape(figure.title)}]({figure.picture})"] if figure.picture else []
    parts += [f"`{figure.sparkline}`"] if figure.sparkline else []
    parts += [escape(figure.note)] if figure.note else []
    return "\n\n".join([*parts, _table(thinned(figure.data, _FIGURE_ROWS))])


def _table(table: Table) -> str:
    caption = [escape(table.caption) + ":"] if table.caption else []
    return "\n\n".join([*caption, _rows(table.head, table.rows, table.right)])


def _rows(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[int]) -> str:
    cells = [[escape(name) for name in head], *([_cell(cell) for cell in row] for row in rows)]
    columns = range(len(head))
    widths = [max(3, *(min(_PADDED, len(row[i])) for row in cells)) for i in columns]
    rule = ["-" * (w - 1) + ":" if i in right else "-" * w for i, w in enumerate(widths)]
    lines = [
        [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f"[{escape(cell.text)}](<{cell.href.replace('<', '%3C').replace('>', '%3E')}>)"
    return escape(cell)
