"""Figures as files, the same bytes each time: no date, no version, no random ids."""

from pathlib import Path

from matplotlib.figure import Figure

from ncn.common.files import replacing
from ncn.common.paths import FIGURES
from ncn.figures.style import style

DPI = 200
FORMATS = ("svg", "png", "pdf")
# None leaves out what matplotlib would write of itself and of the time.
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
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
        for path in paths:
            kind = path.suffix[1:]
            with replacing(path, "wb") as file:
                figure.savefig(file, format=kind, dpi=dpi, metadata=METADATA[kind])
