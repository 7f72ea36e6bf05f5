"""The signals, each declared once: what a control network sets, by token and layer.

Whatever knows of signals reads them here: the settings check names, the control network makes its
outputs, the layers apply them, the penalty, log, scan, charts and claims go through them in this
order. A new signal is one entry; how z becomes its value is a transformation of
`kernels.actuator`, where it acts a site of `ncn.model.blocks`. (And `.dvc/plots/signals.json`,
which DVC reads as it is: a test compares.)
"""

from dataclasses import dataclass
from typing import Literal

# Numbers a token and layer: one; one for each attention head; one for each element of the width; a
# few that a learned matrix spreads over it; one for each expert of the feed-forward.
Width = Literal["layer", "head", "vector", "rank", "expert"]
NORM_RANK = 4  # those few: with their matrices 0.15 % of the parameters at published size
# What a signal multiplies: the queries, a branch's output, what the whole layer adds to its input,
# the slope of the feed-forward's activation, the noise on both branches in training, the odds of an
# expert; or sets: gain and bias of the layer's norms.
Site = Literal[
    "queries", "attention", "feed_forward", "layer", "slope", "noise", "norms", "routing"
]  # fmt: skip
OWN_SITES: dict[Width, Site] = {"rank": "norms", "expert": "routing"}


@dataclass(frozen=True)
class Signal:
    """One signal.

    name: as in `ncn.signals`, in files and charts. symbol: in equations. words: for people.
    transformations: of `kernels.actuator`, the default first; where there are several, the setting
        `ncn.NAME` chooses.
    sites: what the signal multiplies; signals that share a site are multiplied in this order. One a
        head scales the heads' own queries or outputs; of a layer, a slope or the noise there is one
        number.
    start: z at which `init: identity` begins, next to neutral.
    neutral: the value that does nothing, from which the penalty measures.
    scale: lowest and highest value that charts colour.
    width: numbers a token and layer.
    further: a target beyond table 1, logged, scanned and shown only where an arm has it.

    Raises:
        ValueError: one number a head is declared for the feed-forward, which has no heads; or more
            than one number for a whole layer, a slope or the noise; or one of a width and a site
            that belong together without the other.
    """

    name: str
    symbol: str
    words: str
    transformations: tuple[str, ...]
    sites: tuple[Site, ...]
    start: float
    scale: tuple[float, float]
    neutral: float = 1
    width: Width = "layer"
    further: bool = False

    def __post_init__(self) -> None:
        if self.width == "head" and "feed_forward" in self.sites:
            raise ValueError(
                f"signal {self.name}: width head at the site feed_forward, which has no heads;"
                " allowed are layer and vector"
            )
        if self.width != "layer" and (single := {"layer", "slope", "noise"} & {*self.sites}):
            raise ValueError(
                f"signal {self.name}: width {self.width} at the site {min(single)}, which takes one"
                " number; allowed is layer"
            )
        for width, site in OWN_SITES.items():
            mine = self.width == width or site in self.sites
            if mine and (self.width, self.sites) != (width, (site,)):
                raise ValueError(
                    f"signal {self.name}: width {self.width} at {', '.join(self.sites)}; the width"
                    f" {width} goes with the site {site} alone"
                )

    def columns(self, n_heads: int, d_model: int, experts: int = 1) -> int:
        """How many numbers a token and layer it is."""
        widths: dict[Width, int] = {"layer": 1, "head": n_heads, "vector": d_model}
        return (widths | {"rank": NORM_RANK, "expert": experts})[self.width]


SIGNALS = {
    signal.name: signal
    for signal in (
        # Preprint table 1. start: of section 4.1.4, where g = 1, beta = 0.9997, gamma = 0.953.
        Signal(
            name="gain",
            symbol="g",
            words="residual gain",
            transformations=("2sigmoid", "shifted"),  # eq. 5; section 4.1.4
            sites=("attention", "feed_forward"),
            start=0.0,
            scale=(0.0, 2.0),
        ),
        Signal(
            name="precision",
            symbol="β",
            words="attention precision",
            transformations=("softplus",),
            sites=("queries",),
            start=0.525,
            scale=(0.0, 4.0),
        ),
        Signal(
            name="ffn_gate",
            symbol="γ",
            words="feed-forward gate",
            transformations=("sigmoid",),
            sites=("feed_forward",),
            start=3.0,
            scale=(0.0, 2.0),  # of [0, 1] in truth: the middle colour is neutral, as in the others
        ),
        # Preprint section 8, "Expanded Modulation Targets".
        Signal(
            name="head_gate",
            symbol="η",
            words="attention head gate",
            transformations=("sigmoid",),
            sites=("attention",),
            start=3.0,
            scale=(0.0, 2.0),
            width="head",
            further=True,
        ),
        Signal(
            name="depth_gate",
            symbol="δ",
            words="depth gate",
            transformations=("sigmoid",),
            sites=("layer",),
            start=3.0,
            scale=(0.0, 2.0),
            further=True,
        ),
        # x Phi(s x) is the backbone's GELU at s = 1; x sigmoid(1.702 s x) differs by less than 0.02
        # there. In [0.5, 1.5]: away from 0, where the activation is linear.
        Signal(
            name="activation_slope",
            symbol="s",
            words="activation slope",
            transformations=("shifted",),
            sites=("slope",),
            start=0.0,
            scale=(0.0, 2.0),
            further=True,
        ),
        # The standard deviation of the noise, that of dropout at the rate σ^2 / (1 + σ^2), below
        # 1/2: see `ncn.model.blocks`.
        Signal(
            name="dropout",
            symbol="σ",
            words="dropout noise",
            transformations=("sigmoid",),
            sites=("noise",),
            start=-3.0,
            scale=(-1.0, 1.0),  # of [0, 1] in truth: the middle colour is neutral
            neutral=0,
            further=True,
        ),
        Signal(
            name="norm_film",
            symbol="r",
            words="norm gain and bias",
            transformations=("2sigmoid",),
            sites=("norms",),
            start=0.0,
            scale=(0.0, 2.0),
            width="rank",
            further=True,
        ),
        Signal(
            name="router",
            symbol="ρ",
            words="odds of an expert",
            transformations=("2sigmoid",),
            sites=("routing",),
            start=0.0,
            scale=(0.0, 2.0),
            width="expert",
            further=True,
        ),
    )
}
