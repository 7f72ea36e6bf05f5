"""Figures as files, the same bytes each time: no date, no version, no random ids."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ncn.common.files import replacing
from ncn.common.paths import FIGURES
from ncn.figures.style import style

DPI = 200
# The method of each format's canvas, and what it would write of itself and of the time.
FORMATS = {
    "svg": ("print_svg", ("Date", "Creator")),
    "png": ("print_png", ("Software",)),
    "pdf": ("print_pdf", ("CreationDate", "Creator", "Producer")),
}


def save(name: str, figure: Figure) -> None:
    """Write plots/figures/NAME.svg and NAME.png, as the stages do."""
    write(figure, [FIGURES / f"{name}.svg", FIGURES / f"{name}.png"])


def write(figure: Figure, paths: list[Path], dpi: float = DPI) -> None:
    """Write a figure to each path, in the format of its suffix; PNG at `dpi`."""
    with style():
        if layout := figure.get_layout_engine():
            layout.execute(figure)  # once for all formats
            figure.set_layout_engine("none")
            settle(figure)
        for path in paths:
            kind = path.suffix[1:]
            method, unwanted = FORMATS[kind]
            figure.set_dpi(dpi)  # the other formats set their own, of pictures in them this
            with replacing(path, "wb") as file:
                # Figure.savefig would draw everything twice: once in vain, for layout.
                getattr(_canvas(kind)(figure), method)(file, metadata=dict.fromkeys(unwanted))


def _canvas(kind: str) -> Any:
    """What matplotlib draws a format on."""
    if kind == "pdf":  # which no stage writes, and which takes a quarter of a second to import
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        return FigureCanvasPdf
    return {"svg": FigureCanvasSVG, "png": FigureCanvasAgg}[kind]


def settle(figure: Figure) -> None:
    """Cut places to five digits: the layout's solver goes through its variables by their addresses,
    so that its last bits differ between runs, and with them the ids of an SVG."""
    for axes in figure.axes:
        left, bottom, width, height = (round(x, 5) for x in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((round(x, 5), round(y, 5)))
