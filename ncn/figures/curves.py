"""Training loss over the steps, as figure 1 of the preprint: this run, and the published one."""

from collections.abc import Collection, Mapping, Sequence
from math import ceil, log
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from ncn.analysis.comparison import BASELINE
from ncn.figures.palette import Look, arm_looks
from ncn.figures.series import Curves, Series, mean_of, over_seeds, read_series
from ncn.figures.style import (
    INK,
    MUTED,
    NARROW,
    WIDTH,
    Keywords,
    font_size,
    new_figure,
    nothing,
    short_name,
    style,
)  # fmt: skip
from ncn.settings import PUBLISHED_SERIES
from ncn.statistics.interval import Floats

PERPLEXITIES = [m * 10**e for e in range(5) for m in (1, 2, 5)]
TITLE = "Training loss over the steps"
MARKS = 9  # on a line
RAW: Keywords = {"linewidth": 0.6, "alpha": 0.4}


def draw_curves(
    rows: Sequence[Mapping[str, Any]], future: Collection[str], width: float = WIDTH
) -> Figure:
    """plots/curves.tsv as a picture; `future` names the arms that train with the future."""
    curves = read_series(rows)
    looks = arm_looks(curves.arms)
    notes = [kinds_of_line(curves)]
    if set(future) & curves.arms.keys():
        notes.append("Hollow marks: trained with the future, which makes the loss lower.")
    with style(width):
        legend = legend_height(looks, width)
        if width < NARROW:
            heights = [2.1, 2.1, 1.5, legend]
            figure = new_figure(width, 1 + sum(heights), TITLE, notes)
            ours, theirs, gap, names = figure.subplots(4, height_ratios=heights)
        else:
            heights = [2.7, 1.9, legend]
            figure = new_figure(width, 1.1 + sum(heights), TITLE, notes)
            panels = figure.subplot_mosaic("AB;CC;DD", height_ratios=heights)
            ours, theirs, gap, names = panels.values()
        ours.set_title("this run, its own tokens")
        draw_losses(ours, curves, looks, future, width)
        theirs.set_title("published run 1, GPT-2's tokens")
        draw_published(theirs, curves.published, width)
        gap.set_title("this run, arm − baseline (short moving average)")
        draw_gap(gap, curves, looks, future, width)
        draw_legend(names, looks, future, width)
    return figure


def kinds_of_line(curves: Curves) -> str:
    """What the thin and the thick lines are."""
    if not curves.few:
        return "Thick: short moving average, mean over the seeds; thin: the long one."
    seeds = ", mean over the seeds" if any(len(runs) > 1 for runs in curves.arms.values()) else ""
    return f"Pale: as logged; thick: short moving average{seeds}; thin: the long one."


def legend_columns(looks: Mapping[str, Look], width: float) -> int:
    """How many names stand beside each other."""
    longest = max((len(short_name(arm)) for arm in looks), default=1)
    letter = font_size(width) * 0.55 / 72  # inches, of the small letters of a legend
    return max(1, min(len(looks), int(width / (letter * (longest + 9)))))


def legend_height(looks: Mapping[str, Look], width: float) -> float:
    """Inches that the names take."""
    return 0.1 + font_size(width) / 50 * ceil(len(looks) / legend_columns(looks, width))


def draw_legend(
    axes: Axes, looks: Mapping[str, Look], future: Collection[str], width: float
) -> None:
    """A line and its mark for each arm, in axes of their own below the data."""
    axes.axis("off")
    handles = [
        Line2D([], [], label=short_name(arm), **line(look), **mark(look, arm in future))
        for arm, look in looks.items()
    ]
    if handles:
        axes.legend(
            handles=handles, loc="center left", ncols=legend_columns(looks, width),
            borderpad=0, borderaxespad=0,
        )  # fmt: skip


def line(look: Look, width: float = 1.6) -> Keywords:
    """A thick line of an arm, in its colour and dashes."""
    return {"color": look.colour, "linewidth": width, "linestyle": (0, look.dashes or None)}


def mark(look: Look, hollow: bool) -> Keywords:
    """The marks on an arm's line."""
    face = "white" if hollow else look.colour
    return {"marker": look.marker, "markerfacecolor": face}


def marked(
    axes: Axes,
    curve: tuple[Floats, Floats],
    look: Look,
    hollow: bool,
    turn: tuple[int, int],
    width: float = 1.6,
) -> None:
    """An arm's thick line; its marks stand aside from those of others, which may lie on one line.

    `turn`: which of how many arms it is.
    """
    x, y = curve
    place, of = turn
    step = max(1, len(x) // MARKS)
    every = (min(len(x) - 1, step * place // of), step)
    axes.plot(x, y, **line(look, width), **mark(look, hollow), markevery=every)


def draw_losses(
    axes: Axes, curves: Curves, looks: Mapping[str, Look], future: Collection[str], width: float
) -> None:
    """The arms' losses: as logged, and both moving averages."""
    if not curves.arms:
        nothing(axes, "no training log can be used")
        return
    for arm, runs in curves.arms.items():
        colour = looks[arm].colour
        for run in runs if curves.few else []:
            axes.plot(run.steps, run.loss, color=colour, **RAW)
    for place, (arm, runs) in enumerate(curves.arms.items()):
        axes.plot(*mean_of(runs, "long"), **line(looks[arm], 0.8))
        marked(axes, mean_of(runs, "short"), looks[arm], arm in future, (place, len(looks)))
    label_losses(axes)


def draw_published(axes: Axes, series: Series | None, width: float) -> None:
    """The published series, in nats a token of another vocabulary: an axis of its own."""
    if series is None:
        nothing(axes, "data/reference/run_1.tsv cannot be used")
        return
    grey = arm_looks([PUBLISHED_SERIES])[PUBLISHED_SERIES].colour
    axes.plot(series.steps, series.loss, color=grey, **RAW)
    axes.plot(series.steps, series.long, color=MUTED, linewidth=0.8)
    axes.plot(series.steps, series.short, color=INK, linewidth=1.6)
    label_losses(axes)


def draw_gap(
    axes: Axes, curves: Curves, looks: Mapping[str, Look], future: Collection[str], width: float
) -> None:
    """How far each arm is above the baseline at the same step and seed, mean over seeds."""
    base = {run.seed: run for run in curves.arms.get(BASELINE, [])}
    others = {
        arm: pairs
        for arm, runs in curves.arms.items()
        if arm != BASELINE and (pairs := [(r, base[r.seed]) for r in runs if r.seed in base])
    }
    if not others:
        nothing(axes, "no arm to compare with an arm named baseline")
        return
    axes.axhline(0, color=MUTED, linewidth=1)
    for place, (arm, pairs) in enumerate(others.items()):
        gap = over_seeds([difference(run, baseline) for run, baseline in pairs])
        marked(axes, gap, looks[arm], arm in future, (place, len(others)))
    axes.set(xlabel="optimiser step", ylabel="nats a token")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:+g}"))
    axes.set_xlim(0)
    axes.locator_params(axis="y", nbins=5)


def difference(run: Series, baseline: Series) -> tuple[Floats, Floats]:
    """Steps that both logged, and how much higher the run's short moving average is there."""
    steps = np.intersect1d(run.steps, baseline.steps)
    mine, theirs = (each.short[np.isin(each.steps, steps)] for each in (run, baseline))
    return steps, mine - theirs


def label_losses(axes: Axes) -> None:
    """Nats at the left, perplexity at the right."""
    axes.set(xlabel="optimiser step", ylabel="loss (nats a token)")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(x=0.02)
    aside = axes.twinx()
    low, high = axes.get_ylim()
    inside = [p for p in PERPLEXITIES if low <= log(p) <= high]
    if high - low > 9 * log(2):
        inside = [p for p in inside if str(p)[0] == "1"]
    aside.set_yticks([log(p) for p in inside], [f"{p:,}" for p in inside])
    aside.set(ylim=(low, high), ylabel="perplexity")
    aside.grid(visible=False)
    aside.tick_params(right=False)
