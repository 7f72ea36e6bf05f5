"""How the runs end and when their phases did, as figures 2 and 3 of the preprint.

Above: the loss in the second half of training, and the line whose slope decides the status.
Below: how fast the smoothed loss falls, as a share of the fastest; a phase ends where the speed
drops below 5 % ("95 %") and 1 % ("99 %").
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from ncn.analysis.convergence import velocity
from ncn.figures.curves import RAW, line, mark, marked
from ncn.figures.palette import Look, arm_looks
from ncn.figures.series import Series, mean_of, over_seeds, read_series
from ncn.figures.style import (
    INK,
    LINE,
    LONGEST_NAME,
    MUTED,
    NARROW,
    SHADE,
    WIDTH,
    Keywords,
    font_size,
    new_figure,
    nothing,
    printable,
    short_name,
    signed,
    style,
)
from ncn.settings import PUBLISHED_SERIES, Convergence
from ncn.statistics.interval import Floats

PHASES = {"grammar_95": ("95 %", 5.0), "intellectual_99": ("99 %", 1.0)}  # name, % of the fastest
SLOWEST = 0.2  # % of the fastest; below, a speed is noise
TITLE = "How the runs end, and how fast they learn"
PUBLISHED_NAME = "published run 1"

Runs = Mapping[str, Sequence[Series]]
Summaries = Mapping[str, Sequence[Mapping[str, Any]]]


def draw_convergence(
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[str, Any],
    settings: Convergence,
    future: Collection[str],
    width: float = WIDTH,
) -> Figure:
    """plots/curves.tsv and metrics/convergence.json as a picture.

    Args:
        rows: of the curves.
        found: statuses, slopes and phases by run.
        settings: with which they were found.
        future: the arms that train with the future.
        width: inches.
    """
    curves = read_series(rows)
    theirs: Runs = {PUBLISHED_SERIES: [curves.published]} if curves.published else {}
    looks = arm_looks([*curves.arms, PUBLISHED_SERIES])
    looks[PUBLISHED_SERIES] = looks[PUBLISHED_SERIES]._replace(colour=INK)
    summaries = {
        arm: [found["runs"].get(f"{arm}-{run.seed}", {}) for run in runs]
        for arm, runs in curves.arms.items()
    }
    published = {PUBLISHED_SERIES: [found[PUBLISHED_NAME]]} if theirs else {}
    unit = " (nats per 1,000 steps)" if width < NARROW else ""
    share = f"{settings.slope_share:.0%}".replace("%", " %")
    notes = [
        f"Shaded: the last {share} of the points. Their slope{unit} decides the status, where its"
        " 95 % interval bears it out as a whole."
    ]
    if set(future) & curves.arms.keys():
        notes.append("Hollow marks: trained with the future, which makes the loss lower.")
    notes += [printable(f"Left out: {words}") for words in found.get("missing", [])]
    with style(width):
        table = font_size(width) / 44 * (len(looks) + 1.5)
        if width < NARROW:
            heights = [1.7, 1.7, 1.7, 1.7, table]
            figure = new_figure(width, 1.5 + sum(heights), TITLE, notes)
            end, speed, their_end, their_speed, words = figure.subplots(5, height_ratios=heights)
        else:
            heights = [2.2, 2.2, table]
            figure = new_figure(width, 1.4 + sum(heights), TITLE, notes)
            panels = figure.subplot_mosaic("AB;CD;EE", height_ratios=heights)
            end, their_end, speed, their_speed, words = panels.values()
        sides = (
            (end, speed, curves.arms, summaries, "this run", curves.few),
            (their_end, their_speed, theirs, published, PUBLISHED_NAME, True),
        )
        for above, below, runs, told, title, few in sides:
            above.set_title(f"{title}: the second half of training")
            below.set_title(f"{title}: speed of learning")
            if not runs:
                nothing(above, "no training log can be used")
                nothing(below, "no training log can be used")
                continue
            draw_ends(above, runs, told, looks, future, settings.slope_share, few)
            draw_speeds(below, runs, told, looks, future, settings.smoothing_span, few)
        draw_table(words, {**summaries, **published}, looks, future, width)
    return figure


def draw_ends(
    axes: Axes,
    runs: Runs,
    summaries: Summaries,
    looks: Mapping[str, Look],
    future: Collection[str],
    share: float,
    few: bool,
) -> None:
    """Loss and short moving average of the second half; thick, the fitted line of the end."""
    last = max(run.steps[-1] for mine in runs.values() for run in mine)
    for place, (arm, mine) in enumerate(runs.items()):
        look = looks[arm]
        for run in mine if few else []:
            half = run.steps >= run.steps[-1] / 2
            axes.plot(run.steps[half], run.loss[half], color=look.colour, **RAW)
        x, y = mean_of(mine, "short")
        half = x >= x[-1] / 2
        marked(axes, (x[half], y[half]), look, arm in future, (place, len(runs)), 0.9)
    for arm, mine in runs.items():
        slopes = known(summaries[arm], "slope_per_1k")
        if len(slopes) == len(mine):
            window = [end_of(run, share) for run in mine]
            x = np.array([mean(w[0][0] for w in window), mean(w[0][-1] for w in window)])
            middle = mean(float(w[0].mean()) for w in window)
            level = mean(float(w[1].mean()) for w in window)
            look = looks[arm]
            axes.plot(x, level + mean(slopes) / 1000 * (x - middle), **line(look, 2.6))
    first = min(end_of(run, share)[0][0] for mine in runs.values() for run in mine)
    axes.axvspan(first, last, color=SHADE, zorder=0)
    axes.set(xlabel="optimiser step", ylabel="loss (nats a token)")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.locator_params(axis="x", nbins=5)
    axes.margins(x=0.02)


def end_of(run: Series, share: float) -> tuple[Floats, Floats]:
    """Steps and losses of the points on which the slope was fitted."""
    last = max(3, int(share * len(run.steps)))
    return run.steps[-last:], run.loss[-last:]


def draw_speeds(
    axes: Axes,
    runs: Runs,
    summaries: Summaries,
    looks: Mapping[str, Look],
    future: Collection[str],
    span: int,
    few: bool,
) -> None:
    """The speed of learning in % of the fastest, and where the phases ended."""
    for place, (arm, mine) in enumerate(runs.items()):
        speeds = [speed_of(run, span) for run in mine]
        for x, y in speeds if few and len(mine) > 1 else []:
            axes.plot(x, visible(y), color=looks[arm].colour, **RAW)
        x, y = over_seeds(speeds)
        marked(axes, (x, visible(y)), looks[arm], arm in future, (place, len(runs)))
    axes.set(xlabel="optimiser step", ylabel="% of the fastest", yscale="log")
    axes.set_ylim(SLOWEST, 140)
    beside = axes.get_yaxis_transform()
    for phase, (name, level) in PHASES.items():
        axes.axhline(level, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(1.01, level, name, transform=beside, color=MUTED, fontsize="small", va="center")
        for arm in runs:
            steps = known(summaries[arm], phase, "step")
            ticks: Keywords = {
                "marker": "|",
                "markersize": 9,
                "markeredgewidth": 1.4,
                "linestyle": "none",
            }
            axes.plot(steps, [level] * len(steps), color=looks[arm].colour, **ticks)
        if len(runs) == 1 and len(steps) == 1:
            axes.plot(steps * 2, [SLOWEST, level], color=MUTED, linewidth=0.8)
            axes.plot(steps, [level], marker="o", color=INK)
            axes.annotate(
                f"{steps[0]:,.0f}", (steps[0], level), (5, 4), textcoords="offset points",
                fontsize="small", color=INK,
            )  # fmt: skip
    axes.yaxis.set_major_locator(FixedLocator([1, 5, 10, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlim(0)


def speed_of(run: Series, span: int) -> tuple[Floats, Floats]:
    """Steps, and how fast the smoothed loss falls there, in % of the run's fastest."""
    speed = velocity(run.loss, span) if len(run.loss) > 1 else np.zeros(1)
    fastest = float(speed.min())
    return run.steps, 100 * speed / fastest if fastest < 0 else np.full_like(speed, np.nan)


def visible(speed: Floats) -> Floats:
    """A speed as a logarithmic axis takes it: a gap where the loss does not fall."""
    return np.where(speed > 0, speed, np.nan)


def known(summaries: Sequence[Mapping[str, Any]], *keys: str) -> list[float]:
    """The numbers under `keys` in those summaries that have one."""
    values = []
    for value in summaries:
        inner: Any = value
        for key in keys:
            inner = (inner or {}).get(key)
        if inner is not None:
            values.append(float(inner))
    return values


def draw_table(
    axes: Axes,
    summaries: Summaries,
    looks: Mapping[str, Look],
    future: Collection[str],
    width: float,
) -> None:
    """A line an arm: its look, status, slope, and the steps at which its phases ended."""
    narrow = width < NARROW
    axes.axis("off")
    if not summaries:
        return
    axes.set(xlim=(0, 1), ylim=(len(summaries) - 0.4, -1.6))
    columns = {0.06: "arm", 0.27: "status", 0.56: "nats / 1,000 steps [95 %]"}
    columns |= {0.81: "95 % ends", 0.91: "99 % ends"}
    if narrow:
        columns = {0.12: "arm", 0.46: "slope", 0.66: "95 %", 0.84: "99 %"}
    small: Keywords = {"fontsize": "small", "va": "center"}
    for x, title in columns.items():
        axes.text(x, -1, title, color=MUTED, **small)
    axes.axhline(-0.5, color=LINE, linewidth=0.8)
    for place, (arm, mine) in enumerate(summaries.items()):
        look = looks[arm]
        axes.plot([0, 0.05], [place, place], clip_on=False, **line(look))
        axes.plot([0.025], [place], clip_on=False, color=look.colour, **mark(look, arm in future))
        name = PUBLISHED_NAME if arm == PUBLISHED_SERIES else arm
        cells = [short_name(name, 15 if narrow else LONGEST_NAME)]
        cells += [] if narrow else [status(mine)]
        cells += [slope(mine, not narrow), *(ended(mine, phase, not narrow) for phase in PHASES)]
        for x, cell in zip(columns, cells, strict=True):
            axes.text(x, place, cell, **small)


def status(mine: Sequence[Mapping[str, Any]]) -> str:
    """`still improving`, or of several seeds `2 improving, 1 converged`."""
    every = [str(each.get("ending", "no log")) for each in mine]
    if len(every) == 1:
        return every[0]
    counts = Counter(kind.removeprefix("still ") for kind in every)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def slope(mine: Sequence[Mapping[str, Any]], interval: bool) -> str:
    """The slope with its interval; of several seeds their mean."""
    slopes = known(mine, "slope_per_1k")
    if not slopes:
        return "–"
    if len(mine) > 1:
        return f"{signed(mean(slopes))}{' (mean)' * interval}"
    if not interval:
        return signed(slopes[0])
    ends = (signed(x) for x in (*known(mine, "slope_low"), *known(mine, "slope_high")))
    return f"{signed(slopes[0])} [{', '.join(ends)}]"


def ended(mine: Sequence[Mapping[str, Any]], phase: str, count: bool) -> str:
    """The step at which a phase ended, mean over the seeds in which it did, and how many did."""
    steps = known(mine, phase, "step")
    if not steps:
        return "not yet"
    of = f" ({len(steps)}/{len(mine)})" if count and len(steps) < len(mine) else ""
    return f"{mean(steps):,.0f}{of}"
