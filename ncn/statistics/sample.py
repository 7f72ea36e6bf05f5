"""Intervals of a few independent values: rows of one model, or seeds of one arm."""

import numpy as np
from scipy.special import stdtrit as student_quantile  # scipy.stats is slow to import

from ncn.statistics.interval import LEVEL, Floats, Interval


def student(freedom: float) -> float:
    """Half of an interval, in standard errors: Student's quantile at 1 - LEVEL / 2."""
    return float(student_quantile(freedom, 1 - LEVEL / 2))


def mean_interval(values: Floats) -> Interval:
    """The mean of independent values [n] and its 95 % Student interval, n - 1 degrees of freedom.

    Raises:
        ValueError: fewer than two values.
    """
    return ratio_interval(values, np.ones_like(values))


def ratio_interval(above: Floats, below: Floats) -> Interval:
    """sum(above) / sum(below) of n pairs [n], with its 95 % interval by linearisation:

        r +- t(n - 1) sd(above - r below) / (sqrt(n) mean(below))

    Raises:
        ValueError: fewer than two pairs, or a mean(below) that is not above 0.
    """
    n, scale = len(above), float(below.mean()) if len(below) else 0.0
    if n < 2 or scale <= 0:
        raise ValueError("an interval needs at least two values, and a ratio a mean above 0")
    value = float(above.sum() / below.sum())
    spread = float(np.std(above - value * below, ddof=1))
    half = student(n - 1) * spread / (np.sqrt(n) * scale)
    return Interval(value, value - half, value + half)
