"""How an arm looks wherever it is drawn: a colour, and for grey print dashes and a marker.

No drawing library is loaded here: the report's page takes its colours from this module too.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

from ncn.settings import PUBLISHED_SERIES

Marker = str | tuple[int, int, int]  # matplotlib's: a name, or points, 1 for a star, degrees
Dashes = tuple[float, ...]  # lengths of line and gap, in line widths; empty: solid

# Okabe and Ito's palette: told apart by colour-blind readers, and each 3:1 or near it on white.
ARM_COLOURS = {
    PUBLISHED_SERIES: "#8C8C8C",
    "baseline": "#333333",
    "ncn": "#0072B2",
    "ncn_causal": "#D55E00",
    "static": "#009E73",
}
FURTHER_COLOURS = (
    "#CC79A7", "#E69F00", "#56B4E9", "#882255",
    "#6A51A3", "#A6761D", "#E7298A", "#117733", "#999933", "#1B9E9E", "#661100",
    "#003F5C",
)  # fmt: skip

# By marker alone each of the first seventeen is told from the others, without colour.
ARM_MARKS: dict[str, tuple[Marker, Dashes]] = {
    PUBLISHED_SERIES: ("", ()),
    "baseline": ("o", ()),
    "ncn": ("s", (5, 2)),
    "ncn_causal": ("^", (6, 2, 1, 2)),
    "static": ("D", (1, 1)),
}
FURTHER_MARKERS: tuple[Marker, ...] = (
    "v",
    "P",
    "X",
    "<",
    ">",
    "*",
    "p",
    "d",
    "h",
    "8",
    (4, 1, 0),
    (3, 1, 0),
    (5, 1, 0),
)
FURTHER_DASHES: tuple[Dashes, ...] = ((1, 1), (8, 3), (4, 1, 1, 1, 1, 1), ())

# Dark to light, so that grey print keeps the order; the middle is neutral: neither blue nor yellow.
SCAN_COLOURS = ("#06215C", "#2C66B8", "#ABABA8", "#E0C65A", "#FFE93B")


class Look(NamedTuple):
    """How an arm's lines and points are drawn."""

    colour: str
    marker: Marker
    dashes: Dashes


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """A colour (#RRGGBB) for each arm: fixed for the named ones, then by name, as DVC's plots."""
    arms = list(arms)
    further = dict(
        zip(sorted(set(arms) - ARM_COLOURS.keys()), cycle(FURTHER_COLOURS), strict=False)
    )
    return {arm: ARM_COLOURS.get(arm) or further[arm] for arm in arms}


def arm_looks(arms: Iterable[str]) -> dict[str, Look]:
    """The look of each arm: no two of up to 55 alike in marker and dashes."""
    colours = arm_colours(arms)
    others = sorted(colours.keys() - ARM_MARKS.keys())
    further = dict(zip(others, zip(cycle(FURTHER_MARKERS), cycle(FURTHER_DASHES)), strict=False))
    return {
        arm: Look(colour, *(ARM_MARKS.get(arm) or further[arm])) for arm, colour in colours.items()
    }
