"""`python -m ncn figures`: the figures of a finished run, drawn for a paper or a page."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import (
    COMPARISON,
    CONDITIONAL,
    CONVERGENCE,
    CURVES,
    FIGURES,
    ROBUSTNESS,
    SCALING,
    SCANS,
    SUMMARY,
    TUNING,
)
from ncn.common.tsv import read_tsv
from ncn.figures.brain_scan import draw_scans
from ncn.figures.conditional import draw_conditional
from ncn.figures.convergence import draw_convergence
from ncn.figures.curves import draw_curves
from ncn.figures.result import draw_result
from ncn.figures.robustness import draw_robustness
from ncn.figures.saving import DPI, FORMATS, write
from ncn.figures.scaling import draw_scaling
from ncn.figures.series import future_arms
from ncn.figures.style import WIDTH
from ncn.settings import Params, load_params

INCHES = {"in": 1.0, "mm": 1 / 25.4, "cm": 1 / 2.54, "pt": 1 / 72}
NARROWEST, WIDEST = 2.5, 30.0  # inches; text would overlap, or pixels be too many
LEAST_DPI, MOST_DPI = 50, 1200

# Each reads what the stage of that figure wrote, and draws it as that stage does.
DRAWN: dict[str, Callable[[Params, float], Figure]] = {
    "result": lambda params, width: draw_result(read_json(SUMMARY), read_json(COMPARISON), width),
    "robustness": lambda params, width: draw_robustness(
        read_json(ROBUSTNESS), read_json(TUNING), width
    ),
    "curves": lambda params, width: draw_curves(read_tsv(CURVES), future_arms(params), width),
    "convergence": lambda params, width: draw_convergence(
        read_tsv(CURVES), read_json(CONVERGENCE), params.convergence, future_arms(params), width
    ),
    "scaling": lambda params, width: draw_scaling(read_json(SCALING), width),
    "brain_scan": lambda params, width: draw_scans(
        read_tsv(SCANS), params.brain_scan.texts[0], width
    ),
    "conditional": lambda params, width: draw_conditional(read_json(CONDITIONAL), width),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("names", metavar="NAME", nargs="*", help=f"{', '.join(DRAWN)}; without: all")
    add("--format", metavar="FORMAT", action="append", help="svg, png, pdf; may be repeated (pdf)")
    add("--width", metavar="WIDTH", default=f"{WIDTH}in", help="in, mm, cm or pt (%(default)s)")
    add("--dpi", metavar="N", type=int, default=DPI, help="of PNG (%(default)s)")
    add("--out", metavar="DIR", default="figures", help="where they are written (%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Draw the figures from metrics/ and plots/ of the present folder; no model is loaded."""
    for name in arguments.names:
        if name not in DRAWN:
            raise InputError(f"no figure {name!r}; there are {', '.join(DRAWN)}")
    formats = list(dict.fromkeys(arguments.format or ["pdf"]))
    for kind in formats:
        if kind not in FORMATS:
            raise InputError(f"--format {kind!r}; it must be one of {', '.join(FORMATS)}")
    if not LEAST_DPI <= arguments.dpi <= MOST_DPI:
        raise InputError(f"--dpi {arguments.dpi}; it must be from {LEAST_DPI} to {MOST_DPI}")
    width, folder, params = inches(arguments.width), Path(arguments.out), load_params()
    if folder.resolve() == FIGURES.resolve():
        raise InputError(f"--out {folder}: the pipeline's own figures are there: name another")
    for name in dict.fromkeys(arguments.names or DRAWN):
        paths = [folder / f"{name}.{kind}" for kind in formats]
        write(drawn(name, params, width), paths, arguments.dpi)
        print("\n".join(map(str, paths)), flush=True)


def drawn(name: str, params: Params, width: float) -> Figure:
    """A figure from the files of its stage.

    Raises:
        InputError: they are not there, or hold something else.
    """
    try:
        return DRAWN[name](params, width)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: its files are not this pipeline's: {error!r}") from None


def inches(text: str) -> float:
    """`3.3in`, `84mm`, `8.4cm` or `240pt` in inches."""
    found = re.fullmatch(r"([\d.]+) ?(in|mm|cm|pt)", text.strip())
    try:
        width = float(found[1]) * INCHES[found[2]] if found else math.nan
    except ValueError:
        width = math.nan
    if not NARROWEST <= width <= WIDEST:
        raise InputError(
            f"--width {text!r}; it must be a number with in, mm, cm or pt, such as 3.3in or 84mm,"
            f" from {NARROWEST:g}in to {WIDEST:g}in"
        )
    return width
