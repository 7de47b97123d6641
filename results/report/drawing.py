"""Charts by matplotlib: SVG inside a page, in the page's own colours; PNG beside it, on white."""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from results.report.page import Bars, Chart, Figure, Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


class Ink(NamedTuple):
    text: str
    grid: str
    series: tuple[str, ...]


# style.css has the same names and, for the light scheme, the same colours.
_NAMES = ("--text", "--line", *(f"--series-{i}" for i in range(6)))
_WHITE = Ink(
    "#1c2530", "#d0d7de", ("#0b63b5", "#b3500a", "#6b7280", "#7a3ea8", "#0c7a63", "#b02a5b")
)
# No real colours: each stands for one of _NAMES until the SVG is made.
_STAND_INS = tuple(f"#0a0b{i:02x}" for i in range(len(_NAMES)))
_THEMED = Ink(_STAND_INS[0], _STAND_INS[1], _STAND_INS[2:])
_DASHES = ("-", "--", "-.", ":")  # lines differ by more than their colour
_CURVE = 3  # points: a line through fewer tells of a course that nobody measured

_WIDTH = 4.8  # inches: 346 units of the SVG, legible on a phone of 375 px and at twice the width
_FONT = 9.0  # points
_DPI = 160  # of a PNG


def svg(figure: Figure) -> str:
    """The chart, without identifiers of its own: several stand on one page."""
    drawn = io.StringIO()
    with _settings(figure.name):
        canvas = _canvas((figure.chart,), _THEMED)
        canvas.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for name, stand_in in zip(_NAMES, _STAND_INS, strict=True):
        text = text.replace(stand_in, f"var({name})")
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]+;?", "", text)
    text = _own_ids(text, figure.name)
    box = re.search(r'viewBox="[^"]+"', text)
    assert box is not None, "matplotlib writes a viewBox"
    body = text[text.index(">") + 1 :]
    named = f"{figure.name}-title", f"{figure.name}-text"
    return (
        f'<svg {box.group()} role="img" aria-labelledby="{" ".join(named)}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{named[0]}">{escape(figure.title)}</title>'
        f'<desc id="{named[1]}">{escape(figure.text)}</desc>{body.rstrip()}'
    )


def png(charts: Sequence[Chart]) -> bytes:
    """The charts side by side."""
    drawn = io.BytesIO()
    with _settings("png"):
        canvas = _canvas(charts, _WHITE)
        canvas.savefig(
            drawn, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None}
        )
    return drawn.getvalue()


def _own_ids(text: str, name: str) -> str:
    """Only identifiers that something refers to stay, and begin with the figure's name."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))

    def renamed(found: re.Match[str]) -> str:
        return f' id="{name}-{found[1]}"' if found[1] in used else ""

    text = re.sub(r' id="([^"]+)"', renamed, text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)


def _canvas(charts: Sequence[Chart], ink: Ink) -> "Canvas":
    from matplotlib.figure import Figure as Canvas  # imported where something is drawn

    height = max(_height(chart) for chart in charts)
    canvas = Canvas(figsize=(_WIDTH * len(charts), height), layout="constrained")
    for axes, chart in zip(canvas.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        match chart:
            case Lines():
                _lines(axes, chart, ink)
            case Bars():
                _bars(axes, chart, ink)
        _frame(axes, chart, ink)
    _legend(canvas, ink)
    return canvas


def _legend(canvas: "Canvas", ink: Ink) -> None:
    """Above the charts, of the first one that shows several things."""
    for axes in canvas.axes:
        marks, names = axes.get_legend_handles_labels()
        if len(names) > 1:
            canvas.legend(
                marks, names, loc="outside upper left", ncols=min(len(names), 3), frameon=False,
                fontsize=_FONT, labelcolor=ink.text, handlelength=1.3, columnspacing=1.2,
                borderaxespad=0.1,
            )  # fmt: skip
            return


def _height(chart: Chart) -> float:
    """Inches: a bar is as thick in a chart of two as in one of twenty."""
    if isinstance(chart, Lines):
        return 3.0
    return 0.8 + len(chart.labels) * (0.1 + 0.17 * len(chart.sets))


def _lines(axes: "Axes", chart: Lines, ink: Ink) -> None:
    """Over steps, which are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    for number, series in enumerate(chart.series):
        x, y = [p[0] for p in series.points], [p[1] for p in series.points]
        color = ink.series[series.color % len(ink.series)]
        dashes = _DASHES[series.color % len(_DASHES)]
        few = len(x) < _CURVE
        mark = "o" if series.marked or few else ""
        axes.plot(
            x, y, linestyle="none" if few else dashes, color=color, marker=mark, markersize=4.5,
            linewidth=1.6, label=series.name, zorder=3 + number,
        )  # fmt: skip
    if all(y >= 0 for series in chart.series for _, y in series.points):
        axes.set_ylim(bottom=0)
    axes.set_ylabel(chart.y, fontsize=_FONT, color=ink.text)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 5, 10), integer=True))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set(color=ink.text, fontsize=_FONT - 0.5)


def _bars(axes: "Axes", chart: Bars, ink: Ink) -> None:
    """Horizontal, the first label on top: long names stay legible."""
    thick = 0.82 / len(chart.sets)
    known = [v for bars in chart.sets for v in bars.values if v is not None]
    reach = max((abs(v) for v in known), default=0.0) or 1.0
    for number, bars in enumerate(chart.sets):
        color = ink.series[bars.color]
        for row, value in enumerate(bars.values):
            if value is None:
                continue
            y = row + (number - (len(chart.sets) - 1) / 2) * thick
            axes.barh(y, value, height=thick * 0.9, color=color, zorder=3)
            span = bars.spans[row] if bars.spans else None
            if span is not None:
                axes.plot(span, (y, y), color=ink.text, linewidth=1.2, zorder=4)
            end = max(value, span[1]) if span is not None else value
            axes.text(
                end + reach * 0.02, y, f"{value:.3g}", va="center", color=ink.text,
                fontsize=_FONT - 1.5, zorder=5,
            )  # fmt: skip
        axes.barh(0, 0, color=color, label=bars.name)  # for the legend, values or none
    axes.set_yticks(range(len(chart.labels)), list(chart.labels))
    axes.set_ylim(len(chart.labels) - 0.45, -0.55)
    highest = [s[1] for bars in chart.sets for s in bars.spans if s is not None]
    axes.set_xlim(min(0.0, *known, 0.0), max([reach, *highest]) * 1.14)


def _frame(axes: "Axes", chart: Chart, ink: Ink) -> None:
    axes.patch.set_visible(False)
    axes.set_xlabel(chart.x, fontsize=_FONT, color=ink.text)
    axes.tick_params(colors=ink.text, labelsize=_FONT - 0.5, length=0)
    axes.grid(
        axis="y" if isinstance(chart, Lines) else "x", color=ink.grid, linewidth=0.7, zorder=0
    )
    for side, spine in axes.spines.items():
        spine.set_visible(side == ("bottom" if isinstance(chart, Lines) else "left"))
        spine.set_color(ink.grid)


def _settings(salt: str) -> AbstractContextManager[None]:
    """Held while a chart is made as well: each text keeps what holds then."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.hashsalt": salt,
            "svg.fonttype": "none",
            "text.parse_math": False,  # a name may have a $
        }
    )
