"""How far the arms differ, and how sure that is.

An arm's scores are sums [S, C]: the loss in nats over all tokens of cluster c, under seed s. A
cluster is a story, or a row where the split cuts stories apart (`ncn.scoring.losses`). Arms are
paired: seed s means the same data order and shared initialisation, cluster c the same tokens.

**The interval** is a hierarchical bootstrap, seeds and then clusters, made to cover. Every seed
scores the same clusters, so the two levels are crossed, and each is resampled with the other held:

    variance over seeds     V_s = S/(S-1) Var*(statistic), seeds drawn with replacement
    variance over clusters  V_c = C/(C-1) Var*(statistic), clusters drawn, the same for all seeds
    half-width              sqrt(t(S-1)^2 V_s + t(C-1)^2 max(0, V_c - V_e))

t(n) is Student's quantile; V_e, the part of the variance that seeds and clusters share (what one
seed happens to do on one cluster), is in V_s and V_c alike and counts once. The nested percentile
bootstrap does neither: three seeds have ten different resamples, their variance is too small by
(S-1)/S, and its 95 % interval holds the truth in about four cases of five
(tests/statistics/test_estimate.py shows both). With one seed V_s and V_e are unknown and left out:
the interval is that of the paired bootstrap over clusters, for these checkpoints.

Sources: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007 (crossed levels);
Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 1987 (two one-sided tests); Holm,
Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr
from scipy.special import stdtrit as student_quantile  # scipy.stats is slow to import

from ncn.statistics.interval import LEVEL, LOWEST_P, Floats, Interval
from ncn.statistics.mean import mean_loss_over

# Mean losses of K arms [K, ...] in nats a token -> the quantity of interest [...].
Statistic = Callable[[Floats], Floats]

QUANTILES = 500  # of a variance, when power is integrated over it
BATCH = 4_000_000  # resampled counts held at once as float64: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A statistic and what its uncertainty is made of.

    value: at the mean losses. seeds, clusters: variances of the two levels, seeds 0 with one seed.
    n_seeds, n_clusters: how many of each.
    """

    value: float
    seeds: float
    clusters: float
    n_seeds: int
    n_clusters: int

    def half_width(self, confidence: float) -> float:
        """Half the interval that covers with probability `confidence`."""
        tail = (1 + confidence) / 2
        variance = self.clusters * student_quantile(self.n_clusters - 1, tail) ** 2
        if self.n_seeds > 1:
            variance += self.seeds * student_quantile(self.n_seeds - 1, tail) ** 2
        return float(np.sqrt(variance))

    def interval(self, confidence: float = 1 - LEVEL) -> Interval:
        """The two-sided interval."""
        half = self.half_width(confidence)
        return Interval(self.value, self.value - half, self.value + half)

    def p_value(self, distance: float) -> float:
        """Two-sided p of an error of at least |distance|: 1 - confidence of that half-width.

        At least LOWEST_P, except 0 where nothing varies.
        """
        distance = abs(distance)
        if self.half_width(0.5) == 0:  # equal losses: nothing varies
            return 1.0 if distance == 0 else 0.0
        if distance >= self.half_width(1 - LOWEST_P):
            return LOWEST_P
        return 1 - _root(lambda c: self.half_width(c) - distance, 0.0, 1 - LOWEST_P)

    def smallest_detectable(self, power: float = 0.8, level: float = LEVEL) -> float:
        """The true effect that a two-sided test at `level` would find with probability `power`.

        The test's own width varies too, as the variances are estimated: with one level of them its
        statistic is noncentral t, with two the same integral over both.
        """
        error = float(np.sqrt(self.seeds + self.clusters))
        if error == 0:
            return 0.0
        wide = self._half_widths(level) / error

        def missed(effect: float) -> float:
            return float(np.mean(ndtr(wide - effect) - ndtr(-wide - effect)))

        return error * _root(lambda effect: 1 - missed(effect) - power, 0.0, 1e4)

    def with_seeds(self, n: int, sd: float) -> "Estimate":
        """The same with `n` seeds whose differences scatter by `sd`: to plan with."""
        return replace(self, seeds=sd**2 / n, n_seeds=n)

    def _half_widths(self, level: float) -> Floats:
        """The half-widths that other draws of seeds and clusters would give, equally likely."""
        squares = np.zeros(1)
        for variance, n in ((self.seeds, self.n_seeds), (self.clusters, self.n_clusters)):
            if variance > 0:
                freedom = n - 1
                likely = (np.arange(QUANTILES) + 0.5) / QUANTILES
                drawn = 2 * gammaincinv(freedom / 2, likely) / freedom  # chi-squared, over its mean
                wide = variance * student_quantile(freedom, 1 - level / 2) ** 2 * drawn
                squares = np.add.outer(squares, wide).ravel()
        return np.sqrt(squares)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function is 0 between two places at which its signs differ."""
    # Here: it takes up to half a second to import, and only some stages find roots.
    from scipy.optimize import brentq

    return float(brentq(function, low, high))


def estimate(
    sums: Sequence[Floats], tokens: Floats, statistic: Statistic, resamples: int, seed: int
) -> Estimate:
    """A statistic of the mean losses of one or several arms, with the variance of both levels.

    Args:
        sums: of K arms, each [S, C].
        tokens: [C], of each cluster.
        statistic: see `Statistic`; smooth.
        resamples: of each level.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two clusters.
    """
    losses = np.stack(sums)  # [K, S, C]
    n_seeds, n_clusters = losses.shape[1:]
    if n_clusters < 2:
        raise ValueError("an interval needs at least two sequences or stories")
    by_seed = mean_loss_over(losses, tokens)  # [K, S]
    mean = by_seed.mean(axis=1)  # [K]

    by_cluster = losses.mean(axis=1)  # [K, C]
    drawn = []
    for batch in _resampled(n_clusters, resamples, seed):
        counts = batch.astype(np.float64)
        drawn.append(statistic((by_cluster @ counts) / (tokens @ counts)))
    clusters = float(np.var(np.concatenate(drawn))) * n_clusters / (n_clusters - 1)
    value = float(statistic(mean))
    if n_seeds == 1:
        return Estimate(value, 0.0, clusters, 1, n_clusters)

    counts = np.concatenate(_resampled(n_seeds, resamples, seed + 1), axis=1)
    seeds = float(np.var(statistic(by_seed @ counts / n_seeds))) * n_seeds / (n_seeds - 1)
    # What one seed does on one cluster, in units of the statistic: its two-way residuals.
    step = 1e-6
    steps = step * np.eye(len(mean))
    slopes = (statistic(mean[:, None] + steps) - statistic(mean[:, None] - steps)) / (2 * step)
    parts = np.tensordot(slopes, losses - mean[:, None, None] * tokens, axes=1)  # [S, C]
    parts *= n_clusters / tokens.sum()
    rest = parts - parts.mean(0) - parts.mean(1, keepdims=True) + parts.mean()
    shared = (rest**2).sum() / ((n_seeds - 1) * (n_clusters - 1)) / (n_seeds * n_clusters)
    return Estimate(value, seeds, max(0.0, clusters - float(shared)), n_seeds, n_clusters)


@lru_cache(maxsize=2)  # every statistic of a comparison is resampled alike: drawn once
def _resampled(n: int, resamples: int, seed: int) -> list[NDArray[np.uint16]]:
    """How often each of n is drawn, [n, resamples] in batches that fit in memory as float64."""
    draw = np.random.default_rng(seed)
    size = max(1, BATCH // n)
    sizes = (min(size, resamples - start) for start in range(0, resamples, size))
    return [draw.multinomial(n, np.full(n, 1 / n), each).T.astype(np.uint16) for each in sizes]


def mean_loss(losses: Floats) -> Floats:
    """The loss of one arm, in nats a token."""
    return losses[0]


def perplexity(losses: Floats) -> Floats:
    """exp(loss) of one arm."""
    return np.asarray(np.exp(losses[0]))


def perplexity_difference(losses: Floats) -> Floats:
    """exp(loss of the arm) - exp(loss of the baseline)."""
    return np.asarray(np.exp(losses[0]) - np.exp(losses[1]))


def loss_difference(losses: Floats) -> Floats:
    """The arm's loss minus the baseline's, in nats a token."""
    return losses[0] - losses[1]


def equivalence(difference: Estimate, margin: float) -> float:
    """p of the two one-sided tests that the true difference lies within +-margin.

    Below 0.05 the 90 % interval lies within the margin: the two are equal for practical purposes.
    """
    inside = margin - abs(difference.value)
    one_sided = difference.p_value(inside) / 2
    return one_sided if inside > 0 else 1 - one_sided


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for making several tests: their family-wise error is that of one."""
    n = len(p_values)
    adjusted, highest = [0.0] * n, 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (n - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
