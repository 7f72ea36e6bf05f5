"""What the rooms say statistics in: an estimate with its interval, and the level of every test."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.05  # of every test; intervals are of 1 - LEVEL
LOWEST_P = 1e-12  # of a test of differences: beyond, quantiles are no longer exact


class Interval(NamedTuple):
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float
