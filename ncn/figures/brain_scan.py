"""The signals of one text by token and layer, trained above untrained, as figure 4 of the preprint.

Every signal has one absolute scale, the same in every arm, run and experiment: pictures compare.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ncn.figures.palette import SCAN_COLOURS
from ncn.figures.style import (
    INK,
    MUTED,
    NARROW,
    WIDTH,
    font_size,
    new_figure,
    nothing,
    printable,
    short_name,
    style,
    wrapped,
)
from ncn.signals import SIGNALS
from ncn.statistics.interval import Floats

MOST_ARMS = 4  # in one picture
STATES = ("trained", "untrained")
LONGEST_TOKEN = 14  # letters
MANY_CELLS = 4000  # more are drawn as one image: an SVG with each would be megabytes
TITLE = "Signals by token and layer: trained, and below it the same network untrained"
STRIP = (0.3, 1.1)  # inches, the least and the most of a network's layers
ROW = 0.125  # inches a layer between them


class Scan(NamedTuple):
    """The tokens of a text, and by signal and state the values [layers, tokens]."""

    run: str
    tokens: list[str]
    values: dict[str, dict[str, Floats]]


def draw_scans(rows: Sequence[Mapping[str, Any]], text: str, width: float = WIDTH) -> Figure:
    """The first text of plots/brain_scan/scan.tsv as a picture: of each arm its first seed."""
    scans, left_out = read_scans(rows)
    notes = [
        printable(f"Text: {text}"),
        "Rows: layers, the first at the top. Colours: one absolute scale a signal, the same in"
        " every run; grey (1) does nothing.",
    ]
    if left_out:
        notes.append(f"Not shown: {', '.join(map(short_name, left_out))}.")
    with style(width):
        if not scans:
            figure = new_figure(width, 1.8, TITLE)
            nothing(figure.subplots(), "no arm has a control network")
            return figure
        sheet = Sheet(width, [strip_height(scan) for scan in scans], scans, notes)
        for place, scan in enumerate(scans):
            draw_arm(sheet, place, scan)
        return sheet.figure


class Sheet:
    """A figure in inches from its upper left corner: every strip as wide and high as the others."""

    def __init__(
        self, width: float, strips: Sequence[float], scans: Sequence[Scan], notes: Sequence[str]
    ) -> None:
        self.width = width
        self.size = font_size(width)
        self.line = self.size / 72 * 1.5
        self.strips = strips
        narrow = width < NARROW
        self.left, self.right = (0.72, 0.42) if narrow else (1.0, 0.62)
        title, below = wrapped(TITLE, width, 1.3), [wrapped(note, width, 0.84) for note in notes]
        top = 0.12 + self.line * 1.2 * (title.count("\n") + 1)
        self.tops = []  # of each arm
        for strip, scan in zip(strips, scans, strict=True):
            self.tops.append(top)
            top += 1.2 * self.line + len(scan.values) * self.signal_height(strip)
            top += self.letters(scan) + 0.6 * self.line
        lines = sum(note.count("\n") + 1 for note in below)
        self.height = top + 0.1 + lines * self.line
        self.figure = Figure(figsize=(width, self.height))
        self.text(0.1, 0.1, title, fontsize="large", weight="bold")
        self.text(0.1, top, "\n".join(below), fontsize="small", color=MUTED, linespacing=1.5)

    def signal_height(self, strip: float) -> float:
        """Inches of a signal: its name, two strips and what is between."""
        return 1.5 * self.line + 2 * strip + 0.05

    def letters(self, scan: Scan) -> float:
        """Inches below the strips for the tokens, which stand upright."""
        longest = max(len(short_token(token)) for token in scan.tokens)
        return self.size * 0.85 * 0.62 / 72 * longest + 0.12

    def text(self, x: float, y: float, text: str, **how: Any) -> None:
        """Text whose upper left corner is there."""
        place = (x / self.width, 1 - y / self.height)
        self.figure.text(*place, text, **{"va": "top", "ha": "left"} | how)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose upper left corner is there."""
        bottom = 1 - (y + height) / self.height
        share = (x / self.width, bottom, width / self.width, height / self.height)
        return self.figure.add_axes(share)


def strip_height(scan: Scan) -> float:
    """Inches of one network's layers."""
    layers = max(array.shape[0] for states in scan.values.values() for array in states.values())
    return min(max(ROW * layers, STRIP[0]), STRIP[1])


def draw_arm(sheet: Sheet, place: int, scan: Scan) -> None:
    """The signals of one arm under each other, the tokens below the last."""
    top, strip = sheet.tops[place], sheet.strips[place]
    across = sheet.width - sheet.left - sheet.right
    sheet.text(0.1, top, scan.run, weight="bold")
    top += 1.2 * sheet.line
    for name, states in scan.values.items():
        signal = SIGNALS[name]
        colours, norm = colouring(signal.scale, signal.neutral)
        under = top + 1.5 * sheet.line
        heading = f"{signal.words} {signal.symbol}"
        sheet.text(sheet.left, under - 0.05, heading, fontsize="small", va="bottom")
        last = name == list(scan.values)[-1]
        for state, y in zip(STATES, (under, under + strip + 0.05), strict=True):
            axes = sheet.axes(sheet.left, y, across, strip)
            sheet.text(0.1, y + strip / 2, state, fontsize="small", color=MUTED, va="center")
            if state not in states:
                nothing(axes, f"no {state} network")
                continue
            draw_strip(axes, states[state], colours, norm)
            if last and state == STATES[-1]:
                label_tokens(axes, scan.tokens, across, sheet.size)
        bar = sheet.axes(sheet.left + across + 0.1, under, 0.11, 2 * strip + 0.05)
        draw_scale(bar, colours, norm, signal.neutral)
        top += sheet.signal_height(strip)


def colouring(scale: tuple[float, float], neutral: float) -> tuple[Colormap, Normalize]:
    """The colours of a signal: those of the palette, the middle one at the neutral value."""
    colours = LinearSegmentedColormap.from_list("signals", SCAN_COLOURS)
    if scale[0] < neutral < scale[1]:
        return colours, TwoSlopeNorm(neutral, *scale)
    half = SCAN_COLOURS[2:] if neutral <= scale[0] else SCAN_COLOURS[:3]
    return LinearSegmentedColormap.from_list("signals", half), Normalize(*scale)


def draw_strip(axes: Axes, values: Floats, colours: Colormap, norm: Normalize) -> None:
    """One network's values, [layers, tokens], the first layer at the top."""
    layers, tokens = values.shape
    many = values.size > MANY_CELLS
    axes.pcolormesh(
        np.arange(tokens + 1), np.arange(layers + 1), np.ma.masked_invalid(values),
        cmap=colours, norm=norm, rasterized=many,
        edgecolor="none" if many else "white", linewidth=0 if many else 0.4,
    )  # fmt: skip
    axes.set(xlim=(0, tokens), ylim=(layers, 0), xticks=[])
    axes.grid(visible=False)
    shown = [1, layers] if layers > 1 else [1]
    axes.set_yticks([layer - 0.5 for layer in shown], [str(layer) for layer in shown])
    axes.tick_params(length=0, labelsize="x-small")
    axes.spines[:].set_visible(False)


def label_tokens(axes: Axes, tokens: Sequence[str], width: float, size: float) -> None:
    """The tokens along the axis, as many as find room."""
    every = ceil(len(tokens) * size * 0.95 / 72 / width)
    places = range(0, len(tokens), every)
    names = [short_token(tokens[place]) for place in places]
    axes.set_xticks([place + 0.5 for place in places], names)
    axes.tick_params(axis="x", rotation=90, length=0, pad=3, labelsize="small", labelcolor=INK)


def short_token(token: str) -> str:
    """A token as an axis can hold it."""
    return printable(token if len(token) <= LONGEST_TOKEN else token[: LONGEST_TOKEN - 1] + "…")


def draw_scale(axes: Axes, colours: Colormap, norm: Normalize, neutral: float) -> None:
    """The scale of a signal: lowest, neutral and highest value that have a colour of their own."""
    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    edges = np.linspace(low, high, 129)
    middles = (edges[:-1, None] + edges[1:, None]) / 2
    axes.pcolormesh([0, 1], edges, middles, cmap=colours, norm=norm)
    axes.set(xticks=[], yticks=sorted({low, neutral, high}), ylim=(low, high))
    axes.yaxis.tick_right()
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.tick_params(length=2, labelsize="x-small")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def read_scans(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Scan], list[str]]:
    """The first text under the first seed of each arm, and the arms that find no place."""
    first: dict[str, str] = {}
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if int(row["text"]) == 0 and first.setdefault(row["arm"], str(row["seed"])) == str(
            row["seed"]
        ):
            cells.setdefault(row["arm"], []).append(row)
    scans = [scan_of(f"{arm}, seed {first[arm]}", mine) for arm, mine in cells.items()]
    return scans[:MOST_ARMS], list(cells)[MOST_ARMS:]


def scan_of(run: str, rows: Sequence[Mapping[str, Any]]) -> Scan:
    """One run's rows as arrays; what no row says is NaN."""
    tokens = {int(row["position"]): str(row["token"]) for row in rows}
    layers = max(int(row["layer"]) for row in rows)
    values: dict[str, dict[str, Floats]] = {}
    for row in rows:
        states = values.setdefault(row["signal"], {})
        array = states.setdefault(row["state"], np.full((layers, max(tokens) + 1), np.nan))
        value = np.nan if row["value"] == "" else float(row["value"])
        array[int(row["layer"]) - 1, int(row["position"])] = value
    order = list(SIGNALS)
    known = sorted(values, key=lambda name: order.index(name) if name in order else len(order))
    names = [tokens.get(place, "") for place in range(max(tokens) + 1)]
    return Scan(run, names, {name: values[name] for name in known if name in SIGNALS})
