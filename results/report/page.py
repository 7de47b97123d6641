"""What a page is made of, before it is Markdown or HTML. All text in it is plain: the writers
escape it, so nothing that a model or a data file says can become structure."""

from typing import Literal

from msgspec import Struct

Tone = Literal["", "pass", "fail", "warn"]


class Link(Struct, frozen=True):
    text: str
    href: str


Cell = str | Link


class Table(Struct, frozen=True, kw_only=True):
    """Rows under a head; the first column names its row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[int, ...] = ()  # columns of numbers
    folded: bool = False  # shown when asked for, where a page can


class Text(Struct, frozen=True, kw_only=True):
    text: str
    lead: str = ""  # its first words, in bold


class Item(Struct, frozen=True):
    text: str
    tone: Tone = ""


class Items(Struct, frozen=True):
    items: tuple[Item, ...]


class Exchanges(Struct, frozen=True, kw_only=True):
    """What was asked and answered: long texts under the same names."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Series(Struct, frozen=True, kw_only=True):
    """A line through (x, y); `marked`: few points, each of them seen."""

    name: str
    points: tuple[tuple[float, float], ...]
    color: int = 0
    marked: bool = False


class Lines(Struct, frozen=True, kw_only=True):
    series: tuple[Series, ...]
    x: str
    y: str


class BarSet(Struct, frozen=True, kw_only=True):
    """One bar a label; None: not measured. `spans` are intervals, low and high."""

    name: str
    values: tuple[float | None, ...]
    spans: tuple[tuple[float, float] | None, ...] = ()
    color: int = 0


class Bars(Struct, frozen=True, kw_only=True):
    labels: tuple[str, ...]
    sets: tuple[BarSet, ...]
    x: str


Chart = Lines | Bars


class Figure(Struct, frozen=True, kw_only=True):
    """A chart, the same in words, and its numbers."""

    name: str  # letters and hyphens, one of its kind on a page
    title: str
    text: str  # what it shows, for who does not see it
    note: str = ""  # what it shows or how to read it, below it
    chart: Chart
    data: Table
    sparkline: str = ""  # where only characters can be drawn
    picture: str = ""  # a PNG of it beside the page


Block = Text | Items | Table | Exchanges | Figure


class Section(Struct, frozen=True):
    title: str
    blocks: tuple[Block, ...]


class Page(Struct, frozen=True, kw_only=True):
    title: str
    state: str = ""
    tone: Tone = ""
    verdict: Text | None = None
    facts: tuple[tuple[str, str], ...] = ()  # label and value of what is asked first
    sections: tuple[Section, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(b for s in self.sections for b in s.blocks if isinstance(b, Figure))
