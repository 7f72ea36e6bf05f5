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
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ncn.brain_scan import Scan, printable
from ncn.config import SIGNALS
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
    "legend.title_fontsize": 8,
}

BINS_PER_DECADE = 20

Floats = npt.NDArray[np.float64]
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
    with figure_saved(path, 11, 5.4) as figure:
        left, right = figure.subplots(1, 2)
        for arm in arms:
            mine = [row for row in rows if row["arm"] == arm]
            _draw_learning(left, mine, arm, colours[arm])
            _draw_end(right, mine, f"{arm}: {status[arm]}", colours[arm])
        left.set_xscale("log")
        left.set(
            title="Learning: loss against tokens",
            xlabel="target tokens seen",
            ylabel="loss (nats per token)",
        )
        _legend_below(left, "thin: as logged, each seed; bold: mean", columns=2)
        right.axvspan(1 - slope_share, 1, color="#EFEFEF", zorder=0, linewidth=0)
        right.set_xlim(0.5, 1)
        right.set_ylim(*_range_of_ends(rows))
        right.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        right.set(
            title="Convergence: moving averages in the second half",
            xlabel="share of the training steps",
        )
        note = "solid: short EWMA, dashed: long; slope of the shaded part, nats per 1,000 steps"
        _legend_below(right, f"{note} [95 %]", columns=1)


def _draw_learning(axes: Axes, rows: Rows, label: str, colour: str) -> None:
    for seed in dict.fromkeys(row["seed"] for row in rows):
        run = [row for row in rows if row["seed"] == seed]
        x, y = [row["tokens"] for row in run], [row["loss"] for row in run]
        axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.6)
    # Bins of equal width on the log axis: an EWMA would trail the steep start by far.
    tokens = np.array([row["tokens"] for row in rows], np.float64)
    bins = np.floor(np.log10(tokens) * BINS_PER_DECADE)
    losses = np.array([row["loss"] for row in rows], np.float64)
    mean = _group_mean(tokens, bins), _group_mean(losses, bins)
    axes.plot(*mean, color=colour, linewidth=1.8, label=label)


def _draw_end(axes: Axes, rows: Rows, label: str, colour: str) -> None:
    steps = np.array([row["step"] for row in rows], np.float64)
    share = np.unique(steps) / steps.max()
    for kind, dashes, name in (("short", (0, ()), label), ("long", (0, (4, 2)), None)):
        mean = _group_mean(np.array([row[kind] for row in rows], np.float64), steps)
        axes.plot(share, mean, color=colour, linewidth=1.2, linestyle=dashes, label=name)


def _legend_below(axes: Axes, title: str, columns: int) -> None:
    """A legend outside the axes, where it can hide no curve."""
    axes.legend(
        title=title, alignment="left", ncols=columns, loc="upper left", bbox_to_anchor=(0, -0.14)
    )


def _group_mean(values: Floats, groups: Floats) -> Floats:
    """Mean of `values` [n] for each distinct value of `groups` [n], in increasing order of it."""
    _, index = np.unique(groups, return_inverse=True)
    mean: Floats = np.bincount(index, values) / np.bincount(index)
    return mean


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


# One scale for all scans and signals: white is neutral (1), so pictures can be compared.
SCAN_LIMITS = {"gain": (0.0, 2.0), "precision": (0.0, 4.0), "ffn_gate": (0.0, 2.0)}


def draw_brain_scan(path: str | Path, title: str, scans: Mapping[str, Sequence[Scan]]) -> None:
    """The signals by token (across) and layer (down), the states of a model side by side.

    Args:
        path: of the PNG.
        title: of the figure.
        scans: by state (trained, untrained) one scan for each text.
    """
    n_texts = len(next(iter(scans.values())))
    n_rows = n_texts * len(SIGNALS)
    with figure_saved(path, 6.5 * len(scans), 0.6 + 1.9 * n_rows) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        grid = figure.subplots(n_rows, len(scans), squeeze=False)
        for text in range(n_texts):
            for row, name in enumerate(SIGNALS, start=text * len(SIGNALS)):
                for axes, (state, mine) in zip(grid[row], scans.items(), strict=True):
                    image = _draw_signal(axes, mine[text], name, state)
                low, high = SCAN_LIMITS[name]
                figure.colorbar(image, ax=grid[row].tolist(), ticks=[low, 1, high], pad=0.01)


def _draw_signal(axes: Axes, scan: Scan, name: str, state: str) -> AxesImage:
    values = scan.signals[name]
    low, high = SCAN_LIMITS[name]
    norm = TwoSlopeNorm(vmin=low, vcenter=1.0, vmax=high)
    image = axes.imshow(values.T, cmap="RdBu_r", norm=norm, aspect="auto")
    axes.set_title(f"{name}, {state}: mean {values.mean():.3f}, sd {values.std():.3f}")
    axes.set_ylabel("layer")
    axes.set_yticks(range(values.shape[1]), [str(layer + 1) for layer in range(values.shape[1])])
    axes.set_xticks(
        range(len(scan.tokens)), [printable(t) for t in scan.tokens], rotation=60, ha="right"
    )
    axes.tick_params(labelsize=7)
    axes.grid(False)
    return image
