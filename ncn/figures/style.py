"""What all figures share: size, font, ink, and how a figure says that it has nothing to show."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font

Keywords = dict[str, Any]  # what matplotlib takes of one look
WIDTH = 8.3  # inches: about 830 pixels, what GitHub gives a picture
NARROW = 5.0  # inches: below, as in one column of a paper, panels stand under each other
INK, MUTED, LINE, SHADE = "#1F2328", "#57606A", "#D0D7DE", "#EEF1F4"
LONGEST_NAME = 24  # letters of an arm's name; longer ones lose their middle
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

# Over matplotlib's own defaults, so that nobody's matplotlibrc changes a picture.
SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, which finds its own copy first
    "text.hinting": "no_hinting",  # letters as wide in every format as where the layout was found
    "text.parse_math": False,  # "$" in a token or a name is a dollar
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titlepad": 7,
    "axes.labelsize": "small",
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "figure.titlesize": "large",
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.hspace": 0.04,
    "figure.constrained_layout.wspace": 0.04,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "legend.handlelength": 3.2,
    "figure.facecolor": "white",  # opaque: read on a dark page too
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # letters look the same where DejaVu is not installed
    "svg.hashsalt": "ncn",  # ids are random otherwise
    "pdf.fonttype": 42,  # TrueType, as publishers ask
}


def font_size(width: float) -> float:
    """Points of a figure that is `width` inches wide."""
    return 7.0 if width < NARROW else 9.5


@contextmanager
def style(width: float = WIDTH) -> Iterator[None]:
    """Within, figures of `width` inches are drawn and written in the project's style."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        size = font_size(width)
        matplotlib.rcParams.update(SETTINGS | {"font.size": size, "lines.markersize": 0.47 * size})
        yield


def new_figure(width: float, height: float, title: str, notes: Iterable[str] = ()) -> Figure:
    """A figure of so many inches with its title, and notes below what is drawn."""
    figure = Figure(figsize=(width, height), layout="constrained")
    edge = 0.1 / width
    figure.suptitle(wrapped(title, width, 1.3), x=edge, ha="left")
    if text := "\n".join(wrapped(note, width, 0.84) for note in notes):
        figure.supxlabel(text, x=edge, ha="left", fontsize="small", color=MUTED, linespacing=1.4)
    return figure


def wrapped(text: str, width: float, scale: float = 1.0) -> str:
    """`text` in lines that fit into `width` inches, at `scale` times the font's size."""
    return fill(text, max(20, int(width * 72 / (font_size(width) * scale * 0.56))))


def nothing(axes: Axes, why: str) -> None:
    """Say in the empty axes that there is nothing to show, and why."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_facecolor(SHADE)
    text = fill(printable(f"nothing to show: {why}"), 34)
    middle: Keywords = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, color=MUTED, fontsize="small", **middle)


@cache
def _drawable() -> frozenset[int]:
    """The characters that the font has."""
    return frozenset(get_font(str(FONT)).get_charmap())


def printable(text: str) -> str:
    """`text` with a box for each character that the font lacks."""
    return "".join(each if each == "\n" or ord(each) in _drawable() else "□" for each in text)


def short_name(arm: str, longest: int = LONGEST_NAME) -> str:
    """An arm's name, its middle left out where it is long."""
    if len(arm) > longest:
        half = (longest - 1) // 2
        arm = f"{arm[: longest - 1 - half]}…{arm[-half:]}"
    return printable(arm)


def signed(value: float, digits: int = 4) -> str:
    """A number with its sign; few decimals where it is large."""
    if value and abs(value) < 0.5 * 10**-digits:
        return f"{value:+.1e}".replace("-", "−")
    decimals = max(0, digits - (0 if abs(value) < 1 else len(str(int(abs(value))))))
    return f"{value:+.{decimals}f}".replace("-", "−")
