"""Whether each difference holds when counted otherwise, and how flat the choice of its rate was."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from ncn.analysis.robustness import NEW, STORY, TOKEN
from ncn.figures.curves import draw_legend, legend_height, line, mark
from ncn.figures.palette import Look, arm_looks
from ncn.figures.style import INK, MUTED, NARROW, WIDTH, new_figure, nothing, style

TITLE = "Does each difference hold when counted otherwise?"
VIEWS = (TOKEN, STORY, NEW)  # in nats a token; by byte it is the first, in another unit
SEEDS = "with a seed left out"
ROW = 0.17  # inches an arm of a view
HEIGHTS = (1.3, 2.6)  # inches of the upper panel without its rows, and of the lower one


def draw_robustness(
    found: Mapping[str, Any], tuning: Mapping[str, Mapping[str, Any]], width: float = WIDTH
) -> Figure:
    """metrics/robustness.json and metrics/tuning.json as a picture."""
    arms = found["arms"]
    grids = {arm: each["grid"] for arm, each in tuning.items() if each.get("tuned")}
    looks = arm_looks(dict.fromkeys([*grids, *arms]))
    overlap = found["overlap"]
    notes = [
        f"Near duplicates: {overlap['near_duplicates']:,} of {overlap['clusters']:,}, by the runs"
        f" of {found['ngram']} tokens that stand in the training part.",
        f"{SEEDS.capitalize()}: from the lowest to the highest mean.",
    ]
    with style(width):
        upper = 0.5 + ROW * max(1, len(arms)) * (len(VIEWS) + 1)
        heights = [upper, *([HEIGHTS[1]] * bool(grids)), legend_height(looks, width)]
        figure = new_figure(width, HEIGHTS[0] + sum(heights), TITLE, notes)
        panels = list(figure.subplots(len(heights), height_ratios=heights))
        draw_views(panels[0], arms, looks, width)
        if grids:
            draw_grids(panels[1], grids, looks)
        draw_legend(panels[-1], looks, (), width)
    return figure


def draw_views(
    axes: Axes, arms: Mapping[str, Mapping[str, Any]], looks: Mapping[str, Look], width: float
) -> None:
    """A block of lines a view, an arm a line: the difference with its interval."""
    if not arms:
        nothing(axes, "no arm could be compared with an arm named baseline")
        return
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    step = 1 / (len(arms) + 1)
    for place, view in enumerate((*VIEWS, SEEDS)):
        for number, (arm, each) in enumerate(arms.items()):
            y = place + step * (number + 1) - 0.5
            look = looks[arm]
            if view == SEEDS:
                ends, value = each["without_one_seed"], None
            else:
                value, *ends = each["views"][view] or (None, None, None)
            if not ends or None in ends:
                continue
            axes.plot(ends, [y, y], color=look.colour, linewidth=1.6, solid_capstyle="butt")
            if value is not None:
                axes.plot([value], [y], color=look.colour, **mark(look, False))
    names = [view.replace("without", "without\n") if width < NARROW else view for view in VIEWS]
    axes.set_yticks(range(len(VIEWS) + 1), [*names, SEEDS], color=INK)
    axes.set_ylim(len(VIEWS) + 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_title("arm − baseline, with 95 % intervals")
    axes.set_xlabel("loss (nats a token)")


def draw_grids(
    axes: Axes, grids: Mapping[str, list[Mapping[str, Any]]], looks: Mapping[str, Look]
) -> None:
    """The loss of each trial over the best of its arm: how much the choice mattered."""
    for arm, grid in grids.items():
        trials = [(each["lr"], each["loss"]) for each in grid if each["loss"] is not None]
        if not trials:  # all diverged
            continue
        rate, losses = zip(*trials, strict=True)
        look = looks[arm]
        above = [loss - min(losses) for loss in losses]
        axes.plot(rate, above, **line(look), **mark(look, False))
    rates = sorted({each["lr"] for grid in grids.values() for each in grid})
    axes.set(xscale="log", xlabel="learning rate", ylabel="nats above the arm's best")
    axes.set_title("tuning, on a part of the text of its own")
    axes.set_xticks(rates)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
