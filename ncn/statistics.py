"""How far two models differ on the same sequences, with its uncertainty."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

Losses = NDArray[np.float64]  # [S, N]: mean nats a token, by seed and sequence


class Difference(NamedTuple):
    """A perplexity difference and its 95 % interval."""

    delta: float
    low: float
    high: float


def perplexity_difference(arm: Losses, baseline: Losses, resamples: int, seed: int) -> Difference:
    """exp(mean arm) - exp(mean baseline), with a 95 % percentile bootstrap over sequences.

    The two are paired: a resample takes the same sequences of both, so what makes a sequence
    hard for every model cancels. Several seeds are averaged a sequence first; the interval then
    speaks of these checkpoints, not of the spread between seeds.

    Args:
        arm: [S, N].
        baseline: [S', N], scored on the same N sequences, at least two.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    def difference(a: Losses, b: Losses, axis: int = -1) -> NDArray[np.float64]:
        return np.asarray(np.exp(a.mean(axis=axis)) - np.exp(b.mean(axis=axis)))

    pair = (arm.mean(axis=0), baseline.mean(axis=0))
    delta = float(difference(*pair))
    if np.array_equal(*pair):  # nothing to resample: scipy would warn of a degenerate sample
        return Difference(delta, delta, delta)
    interval = bootstrap(
        pair,
        difference,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(pair[0])),  # resamples held at once: 32 MB
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Difference(delta, float(interval.low), float(interval.high))
