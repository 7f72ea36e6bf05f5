"""The signals, each declared once: what a control network sets, by token and layer.

Whatever knows of signals reads them here: the settings check names, the control network makes its
outputs, the layers apply them, the penalty, log, scan, charts and claims go through them in this
order. A new signal is one entry; how z becomes its value is a transformation of
`kernels.actuator`, where it acts a site of `ncn.model.layers`.
"""

from dataclasses import dataclass
from typing import Literal

Width = Literal["layer", "head"]  # numbers a token and layer: one, or one a head
Site = Literal["queries", "attention", "feed_forward"]  # what a signal multiplies


@dataclass(frozen=True)
class Signal:
    """One signal.

    name: as in `ncn.signals`, in files and charts. symbol: in equations. words: for people.
    transformations: of `kernels.actuator`, by the value of the setting `ncn.NAME` where there are
        several, the default first.
    sites: what the signal multiplies; signals that share a site are multiplied in this order.
    start: z at which `init: identity` begins, next to neutral.
    neutral: the value that does nothing.
    scale: lowest and highest value that charts colour.
    width: numbers a token and layer.
    """

    name: str
    symbol: str
    words: str
    transformations: tuple[str, ...]
    sites: tuple[Site, ...]
    start: float
    scale: tuple[float, float]
    neutral: float = 1.0
    width: Width = "layer"


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
    )
}
