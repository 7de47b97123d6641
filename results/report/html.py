"""A page as one HTML file: no script, nothing fetched, legible in dark and light, on a phone and
by a screen reader."""

from html import escape
from importlib.resources import files

from results.report.drawing import svg
from results.report.page import (
    Block,
    Cell,
    Exchanges,
    Figure,
    Items,
    Link,
    Page,
    Section,
    Table,
    Text,
)
from results.report.thin import thinned

# Nothing may be fetched or run, whatever the page says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FIGURE_ROWS = 500  # of a figure's data; the JSON files beside the page have all
_LONG = 40  # characters of a cell
_WIDE = 4  # columns: on a phone each row of it is a card
_MARKS = {"pass": "✓", "fail": "✗", "warn": "!"}


def render(page: Page) -> str:
    style = (files("results.report") / "style.css").read_text(encoding="utf-8")
    title = escape(f"{page.title}: {page.state}" if page.state else page.title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{_header(page)}
{"".join(_section(section, n) for n, section in enumerate(page.sections))}</main>
</body>
</html>
"""


def _header(page: Page) -> str:
    state = f'<span class="state {page.tone}">{escape(page.state)}</span>' if page.state else ""
    lines = ["<header>", f"<h1><span>{escape(page.title)}</span> {state}</h1>"]
    if page.verdict is not None:
        lines.append(f'<div class="verdict {page.tone}">{_text(page.verdict)}</div>')
    if page.facts:
        pairs = (
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in page.facts
        )
        lines.append(f'<dl class="facts">{"".join(pairs)}</dl>')
    return "\n".join([*lines, "</header>"])


def _section(section: Section, number: int) -> str:
    """Figures that follow each other stand side by side where there is room."""
    head = f'<section aria-labelledby="s{number}">\n<h2 id="s{number}">{escape(section.title)}</h2>'
    lines, beside = [head], False
    for block in section.blocks:
        is_figure = isinstance(block, Figure)
        if is_figure != beside:
            lines.append('<div class="figures">' if is_figure else "</div>")
        beside = is_figure
        lines.append(_block(block))
    return "\n".join([*lines, *(["</div>"] if beside else []), "</section>\n"])


def _block(block: Block) -> str:
    match block:
        case Text():
            return _text(block)
        case Items(items=items):
            shown = (
                f'<li class="{item.tone}">{_mark(item.tone)}{escape(item.text)}</li>'
                for item in items
            )
            return f'<ul class="items">{"".join(shown)}</ul>'
        case Table():
            return _table(block)
        case Exchanges():
            return _exchanges(block)
        case Figure():
            return _figure(block)


def _mark(tone: str) -> str:
    mark = _MARKS.get(tone)
    return f'<span class="mark" aria-hidden="true">{mark}</span> ' if mark else ""


def _text(text: Text) -> str:
    lead = f"<strong>{escape(text.lead)}</strong>: " if text.lead else ""
    return f"<p>{lead}{escape(text.text)}</p>"


def _table(table: Table) -> str:
    """Wider than the page, it scrolls inside its box: reachable by keyboard, so with a name."""
    name = escape(table.caption or table.head[0])
    shown = f'<div class="box" role="region" aria-label="{name}" tabindex="0">{_grid(table)}</div>'
    if table.folded:
        return f"<details><summary>{name} ({len(table.rows)})</summary>{shown}</details>"
    return shown


def _grid(table: Table) -> str:
    caption = f"<caption><span>{escape(table.caption)}</span></caption>" if table.caption else ""
    head = "".join(
        f'<th scope="col"{_side(table, i)}>{escape(name)}</th>' for i, name in enumerate(table.head)
    )
    body = "\n".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    wide = ' class="wide"' if _is_wide(table) else ""
    return f"<table{wide}>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _cells(table: Table, row: tuple[Cell, ...]) -> str:
    first, *others = row
    named = f'<th scope="row"{_side(table, 0)}>{_cell(first)}</th>'
    return named + "".join(
        f"<td{_side(table, i)}{_named(table, i)}>{_cell(c)}</td>" for i, c in enumerate(others, 1)
    )


def _is_wide(table: Table) -> bool:
    return len(table.head) >= _WIDE


def _named(table: Table, column: int) -> str:
    """The cell's column, where it may stand without its head."""
    return f' data-head="{escape(table.head[column])}"' if _is_wide(table) else ""


def _side(table: Table, column: int) -> str:
    """How a column is set: numbers to the right, and long texts in several lines."""
    if column in table.right:
        return ' class="right"'
    cells = (row[column] for row in table.rows)
    is_long = any(isinstance(cell, str) and len(cell) > _LONG for cell in cells)
    return ' class="long"' if is_long else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f'<a href="{escape(cell.href)}">{escape(cell.text)}</a>'
    return escape(cell)


def _exchanges(block: Exchanges) -> str:
    cards = []
    for number, row in enumerate(block.rows, 1):
        pairs = "".join(
            f'<div class="said"><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>'
            for name, text in zip(block.names, row, strict=True)
        )
        cards.append(f'<article class="card"><h3>Sample {number}</h3><dl>{pairs}</dl></article>')
    return "\n".join(cards)


def _figure(figure: Figure) -> str:
    title, numbers = escape(figure.title), _grid(thinned(figure.data, _FIGURE_ROWS))
    lines = ["<figure>", f"<figcaption>{title}</figcaption>", svg(figure)]
    lines += [f'<p class="note">{escape(figure.note)}</p>'] if figure.note else []
    return "\n".join(
        [
            *lines,
            "<details><summary>Numbers of this figure</summary>",
            f'<div class="box" role="region" aria-label="{title}, numbers" tabindex="0">',
            f"{numbers}</div></details>",
            "</figure>",
        ]
    )
