"""The result: each arm's loss less the baseline's, with its 95 % interval and its seeds."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncn.analysis.comparison import BASELINE
from ncn.analysis.verdict import score_reads_the_future
from ncn.figures.palette import Look, arm_looks
from ncn.figures.style import (
    INK,
    MUTED,
    NARROW,
    SHADE,
    WIDTH,
    Keywords,
    new_figure,
    nothing,
    short_name,
    signed,
    style,
    wrapped,
)
from ncn.statistics.scores import language_model

ROW = 0.44  # inches an arm
AROUND = 1.75  # inches for title, axis and notes
NARROW_ROW = 0.5  # the numbers stand below the name there


class Row(NamedTuple):
    """An arm against the baseline: nats and perplexity, each value, low, high; seeds in nats.

    `future`: what is shown reads the future; `causally`: it was trained so, and scored otherwise.
    """

    arm: str
    nats: tuple[float, float, float] | None
    ppl: tuple[float, float, float] | None
    seeds: list[float]
    future: bool
    causally: bool


def draw_result(
    summary: Mapping[str, Any], comparison: Mapping[str, Any], width: float = WIDTH
) -> Figure:
    """metrics/summary.json and metrics/compare.json as a picture."""
    rows = result_rows(summary, comparison)
    shown = [row for row in rows if row.nats]
    notes = []
    if shown:
        arms = "arms count" if len(comparison["seeds"]) > 1 else "several seeds would count"
        notes.append(f"Shaded: ±{comparison['margin']:g} nats, within which {arms} as equal.")
    if any(len(row.seeds) > 1 for row in shown):
        notes.append("Ticks: the seeds, each less the baseline's of that seed.")
    if any(row.future for row in shown):
        notes.append("Hollow: reads the future, so its loss is not a language model's.")
    if any(row.causally for row in shown):
        notes.append("Scored causally: trained with later tokens in view, scored on those before.")
    step = NARROW_ROW if width < NARROW else ROW
    with style(width):
        height = AROUND + step * max(2, len(rows))
        figure = new_figure(width, height, "Each arm's loss, less the baseline's", notes)
        axes = figure.subplots()
        if not shown:
            nothing(axes, "no arm could be compared with an arm named baseline")
            return figure
        words = wrapped(counted(comparison), width * (0.5 if width < NARROW else 0.7))
        axes.set_title(words, color=MUTED, fontsize="small", linespacing=1.4)
        draw_rows(axes, rows, comparison["margin"], width)
        side = "" if width < NARROW else "; left of 0: lower than the baseline's"
        axes.set_xlabel(f"loss, arm − baseline (nats a token){side}")
    return figure


def result_rows(summary: Mapping[str, Any], comparison: Mapping[str, Any]) -> list[Row]:
    """Every arm but the baseline, in order; without numbers where it was not compared."""
    differences = comparison["differences"]
    by_seed = {
        arm: entry["val_loss"]["by_seed"] for arm, entry in comparison.get("arms", {}).items()
    }
    base = by_seed.get(BASELINE, {})
    rows = []
    for arm in comparison["in_words"]:
        if arm == BASELINE:
            continue
        found = differences.get(arm, {})
        mine = by_seed.get(arm, {})
        seeds = [mine[seed] - base[seed] for seed in mine if seed in base]
        nats, ppl = (ends(found.get(name)) for name in ("delta_loss", "delta_ppl"))
        forms = comparison.get("arms", {}).get(arm, {}).get("scores", ())
        future = bool(score_reads_the_future(summary.get(arm, {}), forms))
        causally = language_model(forms) == "causal"
        rows.append(Row(arm, nats, ppl, seeds, future, causally))
    return rows


def ends(values: Any) -> tuple[float, float, float] | None:
    """Value, low, high; None where one of them is no number."""
    if not values or any(each is None or not math.isfinite(each) for each in values):
        return None
    value, low, high = map(float, values)
    return value, low, high


def counted(comparison: Mapping[str, Any]) -> str:
    """Of what the interval speaks."""
    seeds = len(comparison["seeds"])
    kind = {"story": "stories", "sequence": "sequences"}[comparison["cluster"]]
    many = f"{comparison['clusters']:,} {kind}"
    if seeds > 1:
        return f"mean and 95 % interval over {seeds} seeds and {many}"
    return f"95 % interval over {many}; one seed: two checkpoints, not the method"


def draw_rows(axes: Axes, rows: list[Row], margin: float, width: float) -> None:
    """One arm a line: its name, its interval, its numbers."""
    looks = arm_looks([BASELINE, *(row.arm for row in rows)])
    narrow = width < NARROW
    reach = [abs(x) for row in rows if row.nats for x in (*row.nats, *row.seeds)]
    axes.axvspan(-margin, margin, color=SHADE, zorder=0)
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    values = [x for row in rows if row.nats for x in (*row.nats, *row.seeds)]
    low, high = min(0, *values), max(0, *values)
    if margin < 3 * max(reach):  # else the shade would leave the points no room
        low, high = min(low, -margin), max(high, margin)
    pad = 0.06 * (high - low) or 0.001
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=4 if narrow else 7)
    beside = axes.get_yaxis_transform()  # x: share of the axes' width, y: the arm's line
    for place, row in enumerate(rows):
        said = ["reads the future"] * row.future + ["scored causally"] * row.causally
        shift = 0.22 if narrow else 0.16 if said or row.nats is None else 0
        right: Keywords = {"ha": "right", "va": "center", "transform": beside}
        axes.text(-0.015, place - shift, short_name(row.arm), weight="bold", **right)
        numbers, below = told("", row.nats), told("perplexity ", row.ppl)
        words = said + [numbers] * (narrow and bool(numbers))
        words += ["not compared"] * (row.nats is None)
        if words:
            small: Keywords = {"color": MUTED, "fontsize": "x-small", "linespacing": 1.4}
            axes.text(-0.015, place + 0.19, "\n".join(words), **right | small)
        if row.nats is None:
            continue
        draw_point(axes, place, row, looks[row.arm])
        if narrow:
            continue
        left: Keywords = {"transform": beside, "ha": "left", "va": "center", "linespacing": 1.3}
        axes.text(1.02, place - 0.15, numbers, color=INK, fontsize="small", **left)
        axes.text(1.02, place + 0.19, below, color=MUTED, fontsize="x-small", **left)


def draw_point(axes: Axes, place: int, row: Row, look: Look) -> None:
    """The interval, its point (hollow: it reads the future), and a tick for each of the seeds."""
    assert row.nats
    value, low, high = row.nats
    axes.plot([low, high], [place, place], color=look.colour, linewidth=2.4, solid_capstyle="butt")
    if len(row.seeds) > 1:
        ticks: Keywords = {
            "marker": "|",
            "markersize": 7,
            "markeredgewidth": 1,
            "linestyle": "none",
        }
        axes.plot(row.seeds, [place + 0.24] * len(row.seeds), color=look.colour, **ticks)
    axes.plot(
        [value], [place], marker=look.marker, markersize=7.5, markeredgewidth=1.8,
        markeredgecolor=look.colour, markerfacecolor="white" if row.future else look.colour,
    )  # fmt: skip


def told(words: str, values: tuple[float, float, float] | None) -> str:
    """`+0.0070 [+0.0043, +0.0098]` behind the words."""
    if values is None:
        return ""
    middle, *outer = map(signed, values)
    return f"{words}{middle} [{', '.join(outer)}]"
