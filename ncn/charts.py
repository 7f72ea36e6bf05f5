"""Figures, drawn without a display; equal data give equal bytes.

Every arm keeps its colour in all figures (Okabe-Ito palette: told apart by colour-blind readers).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ncn.files import replacing

PUBLISHED = "published"  # the arm name of the series logged by the published run
ARM_COLOURS = {
    PUBLISHED: "#A0A0A0",
    "baseline": "#333333",
    "ncn": "#0072B2",
    "ncn_causal": "#E69F00",
}
FURTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}

Rows = Sequence[Mapping[str, Any]]


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """A colour (#RRGGBB) for each arm: fixed for the named ones, then by order of appearance."""
    further = cycle(FURTHER_COLOURS)
    return {arm: ARM_COLOURS.get(arm) or next(further) for arm in arms}


@contextmanager
def figure_saved(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure (inches) that is written to `path` as PNG when the block ends."""
    # "default" first: a personal matplotlibrc must not change a declared output.
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path, "wb") as file:
            # The library's version in the file would make equal figures differ.
            figure.savefig(file, format="png", dpi=150, metadata={"Software": None})


def draw_convergence(
    path: str | Path, rows: Rows, status: Mapping[str, str], slope_share: float
) -> None:
    """Draw the training curves (left) and whether their ends still fall (right).

    Args:
        path: the PNG to write.
        rows: one for each arm, seed and logged point: arm, seed, step, tokens, loss, and short,
            long, the EWMAs of the loss (nats per token). The arm "published" is drawn in grey.
        status: arm -> what the legend says about its end.
        slope_share: share of the points, at the end, that decides the status; it is shaded.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    colours = arm_colours(arms)
    with figure_saved(path, 11, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        for arm in arms:
            mine = [row for row in rows if row["arm"] == arm]
            _draw_learning(left, mine, arm, colours[arm])
            _draw_end(right, mine, f"{arm}: {status[arm]}", colours[arm])
        left.set_xscale("log")
        left.set(title="Learning", xlabel="target tokens seen", ylabel="loss (nats per token)")
        left.legend(title="thin: as logged; bold: EWMA, mean of seeds", alignment="left")
        right.axvspan(1 - slope_share, 1, color="#F3F3F3", zorder=0)
        right.set_xlim(0.5, 1)
        right.set_ylim(*_range_of_ends(rows))
        right.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        right.set(title="Convergence", xlabel="share of the training steps (slope: shaded part)")
        right.legend(title="solid: short EWMA; dashed: long EWMA", alignment="left")


def _draw_learning(axes: Axes, rows: Rows, label: str, colour: str) -> None:
    for seed in dict.fromkeys(row["seed"] for row in rows):
        run = [row for row in rows if row["seed"] == seed]
        x, y = [row["tokens"] for row in run], [row["loss"] for row in run]
        axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.6)
    axes.plot(*_mean_over_seeds(rows, "tokens", "short"), color=colour, linewidth=1.8, label=label)


def _draw_end(axes: Axes, rows: Rows, label: str, colour: str) -> None:
    steps, short = _mean_over_seeds(rows, "step", "short")
    _, long = _mean_over_seeds(rows, "step", "long")
    share = steps / steps[-1]
    axes.plot(share, short, color=colour, linewidth=1.4, label=label)
    axes.plot(share, long, color=colour, linewidth=1.4, linestyle=(0, (4, 2)))


def _mean_over_seeds(
    rows: Rows, x: str, y: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The distinct values of column `x`, and the mean of column `y` at each; both [points]."""
    points, index = np.unique([float(row[x]) for row in rows], return_inverse=True)
    sums = np.bincount(index, [float(row[y]) for row in rows])
    return points, sums / np.bincount(index)


def _range_of_ends(rows: Rows) -> tuple[float, float]:
    """Limits that hold both EWMAs of all arms in the second half of training.

    The published series counts only where there is no other: its loss is on another scale unless
    data and tokenizer are the published ones.
    """
    shown = [row for row in rows if row["arm"] != PUBLISHED] or rows
    half = max(row["step"] for row in shown) / 2
    values = [row[kind] for row in shown if row["step"] >= half for kind in ("short", "long")]
    margin = 0.05 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin
