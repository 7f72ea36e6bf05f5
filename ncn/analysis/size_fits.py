"""What losses say along a line of sizes: a power law with offset, and a line of differences.

Each seed is one experiment; those of different sizes are independent. What the fits know of
uncertainty is the spread over seeds: that the law or the line is the right shape, and holds beyond
the sizes, is assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from ncn.statistics.interval import LEVEL, Floats, Interval
from ncn.statistics.sample import student

# The exponents that are tried: language models lie between 0.05 and 1. Steps of 2 %, far below what
# seeds leave open.
EXPONENTS = np.geomspace(0.01, 3, 300)
NUMBERS = 3  # of a law: a, b, c
FACTOR = 2  # an exponent that is known less closely than to this is not known
ENDS = (100 * LEVEL / 2, 100 * (1 - LEVEL / 2))


@dataclass(frozen=True)
class Law:
    """L = a + b N^-c: a in nats, N in parameters, b in nats at N = 1.

    sizes: on how many it rests. drawn: a, b, c of each resample, [3, R]. at_bound: the share of
    them whose c ends at the lowest or highest that is tried, or whose b is 0: the sizes determine
    no law then.
    """

    a: float
    b: float
    c: float
    sizes: int
    drawn: Floats
    at_bound: float

    def loss(self, n: Floats) -> tuple[Floats, Floats, Floats]:
        """The loss at each of n parameters [n], and the ends of its 95 % interval."""
        a, b, c = self.drawn[:, :, None]
        low, high = np.percentile(a + b * n**-c, ENDS, axis=0)
        return self.a + self.b * n**-self.c, low, high

    def interval(self, name: str) -> Interval:
        """a, b or c with the 95 % interval of the resamples."""
        low, high = np.percentile(self.drawn["abc".index(name)], ENDS)
        return Interval(getattr(self, name), float(low), float(high))

    def unidentified(self) -> list[str]:
        """Why the sizes leave open which law it is, in words; nothing where they do not."""
        why = []
        if self.sizes <= NUMBERS:
            why.append(f"{self.sizes} sizes fix its {NUMBERS} numbers, so nothing tests its form")
        if self.interval("a").low <= 0:
            why.append("its offset may be none at all")
        _, low, high = self.interval("c")
        if high > FACTOR * low:
            why.append(
                f"the ends of its exponent's interval are a factor of {high / low:.2g} apart"
            )
        return why


def fit_law(n: Floats, losses: Sequence[Floats], resamples: int, seed: int) -> Law | None:
    """The law by least squares on the seeds' losses, with a >= 0, b >= 0 and 0.01 <= c <= 3.

    Resampled over the seeds of each size. Few seeds resample too narrowly: each mean's distance
    from its own is widened by sqrt(S/(S-1)), and by Student's quantile over the normal one.

    Args:
        n: parameters of K sizes, [K], three different ones at least.
        losses: of each size, by seed, each [S], two seeds at least.
        resamples: how many.
        seed: of the resampling.

    Returns:
        None where the best law ends at a bound of c, or has b = 0: the sizes determine none.
    """
    weights = np.array([float(len(each)) for each in losses])
    means = np.array([each.mean() for each in losses])
    freedom = float(sum(weights - 1))
    wider = student(freedom) / float(ndtri(1 - LEVEL / 2))
    draw = np.random.default_rng(seed)
    drawn = []
    for each in losses:
        size = len(each)
        counts = draw.multinomial(size, np.full(size, 1 / size), resamples)
        away = counts @ each / size - each.mean()
        drawn.append(each.mean() + away * wider * np.sqrt(size / (size - 1)))
    fits, bounded = _best_laws(n, np.column_stack([means, *np.array(drawn).T]), weights)
    if bounded[0]:
        return None
    a, b, c = map(float, fits[:, 0])
    return Law(a, b, c, len(n), fits[:, 1:], float(bounded[1:].mean()))


def _best_laws(n: Floats, losses: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """a, b, c of each column of losses [K, R], [3, R]; and whether it ends at a bound, [R].

    For a given exponent a and b are a weighted line, or its edge where one would be negative; so
    all columns are fitted at once, and none can stall at a poor start.
    """
    best = np.full(losses.shape[1], np.inf)
    fits = np.zeros((3, losses.shape[1]))
    share = weights / weights.sum()
    middle = share @ losses
    for c in EXPONENTS:
        x = (n / n.min()) ** -c  # of the smallest size: N^-c itself leaves the range of floats
        centred = x - share @ x
        b = np.maximum(0, (share * centred) @ losses / (share @ centred**2))
        a = middle - b * (share @ x)
        edge = a < 0
        a = np.where(edge, 0, a)
        b = np.where(edge, (share * x) @ losses / (share @ x**2), b)
        left = share @ (losses - a - np.outer(x, b)) ** 2
        better = left < best
        best = np.where(better, left, best)
        fits = np.where(better, [a, b * n.min() ** c, np.full_like(a, c)], fits)
    bounded = (fits[2] <= EXPONENTS[0]) | (fits[2] >= EXPONENTS[-1]) | (fits[1] == 0)
    return fits, bounded


@dataclass(frozen=True)
class Line:
    """d = height + slope (x - centre): weighted least squares on independent means.

    covers: of [height, slope], the weights [2, K] with which they are made of the K means.
    variance: of each mean, [K]. freedom: of each variance, [K].
    """

    centre: float
    covers: Floats
    means: Floats
    variance: Floats
    freedom: Floats

    def slope(self) -> Interval:
        """With its 95 % interval."""
        return self._linear(self.covers[1])

    def at(self, x: float) -> Interval:
        """The line's height at x, with its 95 % interval."""
        return self._linear(self.covers[0] + (x - self.centre) * self.covers[1])

    def _linear(self, weights: Floats) -> Interval:
        """Sum of weights times means. What a bootstrap over seeds converges to, in closed form,
        with S/(S-1) and Satterthwaite's degrees of freedom, which few seeds need."""
        parts = weights**2 * self.variance
        value, total = float(weights @ self.means), float(parts.sum())
        freedom = total**2 / float((parts**2 / self.freedom).sum()) if total else 1.0
        half = student(freedom) * float(np.sqrt(total))
        return Interval(value, value - half, value + half)


def fit_line(x: Floats, differences: Sequence["Difference"]) -> Line:
    """The line through the seeds' differences: at x [K], two different ones at least."""
    weights = np.array([each.seeds for each in differences], np.float64)
    share = weights / weights.sum()
    centre = float(share @ x)
    away = x - centre
    return Line(
        centre,
        np.array([share, share * away / (share @ away**2)]),
        np.array([each.mean for each in differences]),
        np.array([each.variance for each in differences]),
        np.array([each.freedom for each in differences]),
    )


@dataclass(frozen=True)
class Difference:
    """The mean difference at one size; seeds: how many each side has, of the smaller one.

    variance: of the mean; freedom: its degrees of freedom. Both 0 with one seed.
    """

    mean: float
    variance: float
    freedom: float
    seeds: int
    paired: bool

    def interval(self) -> Interval:
        """With its 95 % interval; two seeds at least."""
        half = student(self.freedom) * self.variance**0.5
        return Interval(self.mean, self.mean - half, self.mean + half)


def difference_of(arm: dict[str, float], base: dict[str, float]) -> Difference:
    """Arm less baseline by seed, in nats: paired where both have the same seeds, else Welch's."""
    paired = arm.keys() == base.keys()
    mine, other = np.array(list(arm.values())), np.array([*base.values()])
    seeds = min(len(mine), len(other))
    mean = float(mine.mean() - other.mean())
    if seeds < 2:
        return Difference(mean, 0.0, 0.0, seeds, paired)
    if paired:
        apart = np.array([arm[seed] - base[seed] for seed in arm])
        return Difference(mean, float(np.var(apart, ddof=1)) / seeds, seeds - 1.0, seeds, True)
    parts = np.array([np.var(each, ddof=1) / len(each) for each in (mine, other)])
    free = np.array([len(mine) - 1, len(other) - 1])
    total = float(parts.sum())
    freedom = total**2 / float((parts**2 / free).sum()) if total else float(free.min())
    return Difference(mean, total, freedom, seeds, False)
