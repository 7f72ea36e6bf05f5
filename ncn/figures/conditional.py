"""What a trained model loses by leaving branches out and by compressing its keys and values."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from ncn.conditional.curves import ALL, CHOICES, LOW, RANDOM
from ncn.figures.curves import line, mark
from ncn.figures.palette import Look
from ncn.figures.style import MUTED, NARROW, WIDTH, new_figure, nothing, short_name, style

TITLE = "What a trained model loses by computing less"
HEIGHT = 2.6  # inches of a panel
GATE = Look("#D55E00", "^", ())
ANY = Look("#8C8C8C", "o", (1, 1))
FIXED = Look("#0072B2", "s", (5, 2))
LOOKS = dict(zip(CHOICES, (GATE, ANY, FIXED), strict=True)) | {ALL: FIXED, LOW: GATE, RANDOM: ANY}
APART = 0.006  # of the axis, so that intervals at one share can be told apart
ASIDE = 0.012  # likewise, of the bytes
BITS_APART = 6  # points


def draw_conditional(found: Mapping[str, Any], width: float = WIDTH) -> Figure:
    """metrics/conditional.json as a picture."""
    notes = []
    if found["arm"]:
        notes = [
            f"{short_name(found['arm'])}, seeds {', '.join(map(str, found['seeds']))}:"
            f" {found['sequences']} sequences, 95 % intervals over them"
            + (" and the seeds." if len(found["seeds"]) > 1 else "."),
            "gate: what weighs less than eps (beside the mark); random: as many, any; layers: as"
            " many, of whole layers, those first whose absence costs least on training text.",
            "4|8: these states in 4 bits, the others in 8; 32 is fp32, as it was.",
        ]
    forms = found["skipping"] or {"feed_forward": [], "layer": []}
    with style(width):
        rows = len(forms) + 1 if width < NARROW else 2
        figure = new_figure(width, 1.2 + HEIGHT * rows, TITLE, notes)
        if width < NARROW:
            panels = list(figure.subplots(rows))
        else:
            panels = list(figure.subplot_mosaic("AB;CC").values())
        for axes, (form, points) in zip(panels, forms.items(), strict=False):
            axes.set_title(f"a {form.replace('_', '-')} left out")
            draw_skipping(axes, points)
        panels[-1].set_title("keys and values in few bits")
        draw_caches(panels[-1], found["caches"])
    return figure


def draw_skipping(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """The loss over the share left out, a line a choice."""
    if not points:
        nothing(axes, "no arm has a gate")
        return
    axes.axhline(0, color=MUTED, linewidth=1)
    for place, choice in enumerate(CHOICES):
        look = LOOKS[choice]
        shares = [point["share"] + APART * (place - 1) for point in points]
        ends = [point["loss"][choice] for point in points]
        order = sorted(range(len(points)), key=lambda n: shares[n])
        axes.plot(
            [shares[n] for n in order], [ends[n][0] for n in order],
            label=choice, **line(look), **mark(look, False),
        )  # fmt: skip
        for share, (_, low, high) in zip(shares, ends, strict=True):
            axes.plot([share, share], [low, high], color=look.colour, linewidth=0.8)
    for point in points:
        axes.annotate(
            f"{point['below']:g}", (point["share"], point["loss"]["gate"][0]), color=GATE.colour,
            xytext=(4, -9), textcoords="offset points", fontsize="small",
        )  # fmt: skip
    axes.set(xlabel="share of the token-layers left out", ylabel="nats a token more")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left")


def draw_caches(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """The loss over the bytes of keys and values, a mark a way to compress them."""
    if not points:
        nothing(axes, "no arm has a gate")
        return
    axes.axhline(0, color=MUTED, linewidth=1)
    for states in dict.fromkeys(point["states"] for point in points):
        look = LOOKS[states]
        for point in (each for each in points if each["states"] == states):
            size, (value, low, high) = point["bytes_per_token"], point["loss"]
            size *= 1 - ASIDE * (states == RANDOM)
            axes.plot([size, size], [low, high], color=look.colour, linewidth=0.8)
            axes.plot([size], [value], linestyle="none", color=look.colour, **mark(look, False))
            if states == RANDOM:  # lies beside the mark that it is compared with
                continue
            others = "" if states == ALL else f"|{point['others'] or 32:g}"
            axes.annotate(
                f"{point['bits']:g}{others}", (size, value), color=look.colour,
                xytext=(BITS_APART, 0), textcoords="offset points", fontsize="small", va="center",
            )  # fmt: skip
        axes.plot([], [], linestyle="none", label=states, color=look.colour, **mark(look, False))
    axes.set(xlabel="bytes of keys and values a token", ylabel="nats a token more")
    axes.set_xscale("log", base=2)
    axes.margins(x=0.08)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.legend(loc="upper center")
