"""Losses, and differences to the baseline, over the sizes of each study."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ncn.figures.curves import draw_legend, legend_height, line, mark
from ncn.figures.palette import Look, arm_looks
from ncn.figures.style import (
    MUTED,
    NARROW,
    WIDTH,
    new_figure,
    nothing,
    short_name,
    style,
)

TITLE = "Loss, and difference to the baseline, by size"
APART = 0.05  # of the points of neighbouring arms, in ln(parameters), so that none hides another
PALE = 0.13
HEIGHT = 2.7  # inches of a panel


def draw_scaling(studies: Mapping[str, Mapping[str, Any]], width: float = WIDTH) -> Figure:
    """metrics/scaling.json as a picture: of each study losses and laws, differences and lines.

    One size shows nothing over sizes: such studies are drawn only where there are no others.
    """
    studies = {k: each for k, each in studies.items() if len(each["sizes"]) > 1} or studies
    found = list(studies.values())
    looks = arm_looks(arm for study in found for arm in study["arms"])
    with style(width):
        if not found:
            figure = new_figure(width, 2.2, TITLE)
            nothing(figure.subplots(), "no study is frozen yet")
            return figure
        names = legend_height(looks, width)
        across = 1 if width < NARROW else 2
        heights = [HEIGHT] * (2 * len(found) // across) + [names]
        figure = new_figure(width, 1.3 + sum(heights), TITLE, _notes(found))
        grid = figure.add_gridspec(len(heights), across, height_ratios=heights)
        for number, (name, study) in enumerate(studies.items()):
            for panel, draw in enumerate((draw_losses, draw_differences)):
                row, column = divmod(2 * number + panel, across)
                axes = figure.add_subplot(grid[row, column])
                draw(axes, study, looks)
                axes.set_title(f"{short_name(name)}: {axes.get_title(loc='left')}")
        draw_legend(figure.add_subplot(grid[-1, :]), looks, (), width)
    return figure


def _notes(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the lines are, as far as they are there."""
    notes = [f"Dotted: {millions(found[0]['target'])} parameters, as published."]
    if any(each["law"] for study in found for each in study["arms"].values()):
        notes.append(
            "Pale, beside losses: laws a + b N^-c that agree with the seeds; a curve, where the"
            " sizes tell which."
        )
    pairs = [each for study in found for each in study["differences"].values()]
    if any(each["curve"] for each in pairs):
        notes.append(
            "Straight: fitted to the differences of the seeds; pale, its 95 % interval over seeds,"
            " which takes it for granted that the line goes on."
        )
    if any(point["low"] is None for each in pairs for point in each["points"]):
        notes.append("Without interval: fewer than three seeds.")
    return notes


def draw_losses(axes: Axes, found: Mapping[str, Any], looks: Mapping[str, Look]) -> None:
    """The mean loss of each arm at each size; up to the target its law, where there is one, and
    what laws agree with its seeds."""
    axes.set_title("loss")
    for arm, each in found["arms"].items():
        look, points = looks[arm], each["points"]
        if each["law"]:
            curve = each["law"]["curve"]
            axes.fill_between(
                curve["n"], curve["low"], curve["high"], color=look.colour, alpha=PALE, linewidth=0
            )
            if not each["law"]["unidentified"]:
                axes.plot(curve["n"], curve["loss"], **line(look))
        n, losses = ([point[key] for point in points] for key in ("parameters", "loss"))
        axes.plot(n, losses, linestyle="none", color=look.colour, **mark(look, False))
    axes.set_ylabel("loss (nats a token)")
    along(axes, found)


def draw_differences(axes: Axes, found: Mapping[str, Any], looks: Mapping[str, Look]) -> None:
    """Each arm less the baseline: by size with its interval, and the line with its own."""
    axes.set_title("arm − baseline")
    if not found["differences"]:
        nothing(axes, "no arm beside the baseline")
        return
    axes.axhline(0, color=MUTED, linewidth=1, zorder=1)
    middle = (len(found["differences"]) - 1) / 2
    for place, (arm, each) in enumerate(found["differences"].items()):
        look = looks[arm]
        if curve := each["curve"]:
            axes.plot(curve["n"], curve["delta"], **line(look))
            axes.fill_between(
                curve["n"], curve["low"], curve["high"], color=look.colour, alpha=PALE, linewidth=0
            )
        aside = np.exp(APART * (place - middle))
        for point in each["points"]:
            n = point["parameters"] * aside
            if point["low"] is not None:
                axes.plot([n, n], [point["low"], point["high"]], color=look.colour, linewidth=1.6)
            axes.plot([n], [point["delta"]], color=look.colour, **mark(look, False))
    axes.set_ylabel("difference (nats a token)")
    along(axes, found)
    heights = [0.0]
    for each in found["differences"].values():
        heights += each["curve"]["delta"] if each["curve"] else []
        for point in each["points"]:
            heights += [point[key] for key in ("delta", "low", "high") if point[key] is not None]
    room = 0.12 * (max(heights) - min(heights)) or 0.001
    axes.set_ylim(min(heights) - room, max(heights) + room)  # a wide band may leave the picture


def along(axes: Axes, found: Mapping[str, Any]) -> None:
    """The axis of the sizes, and the target."""
    axes.set(xscale="log", xlabel="parameters")
    n = [point["parameters"] for each in found["arms"].values() for point in each["points"]]
    low, high = min(n), max(*n, found["target"])
    axes.set_xlim(low / 1.35, high * 1.35)
    axes.axvline(found["target"], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 3) if high < 300 * low else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: millions(x)))


def millions(n: float) -> str:
    """`300 k`, `18 M`."""
    return f"{n / 1e6:g} M" if n >= 1e6 else f"{n / 1e3:g} k"
