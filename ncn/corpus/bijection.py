"""Permutations that are computed, not held: where each number goes, in memory that does not grow.

A Feistel network (M. Luby and C. Rackoff, "How to construct pseudorandom permutations from
pseudorandom functions", 1988) on the smallest square of a power of two that holds the numbers; what
falls outside is sent through again until it falls inside. Of fewer than some hundred numbers such
networks make some orders more often than others, so that up to HELD a drawn list serves better.
"""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.uint64]

HELD = 1 << 16
ROUNDS = 8


def permuted(places: Places, n: int, keys: Places) -> Places:
    """Where a permutation of 0 to n - 1 sends these places; another one for other keys."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))  # bits
    found: Places = _sent(places, half, keys)
    while (outside := found >= n).any():
        found[outside] = _sent(found[outside], half, keys)
    return found


def _sent(values: Places, half: np.uint64, keys: Places) -> Places:
    """Once through the network, on numbers of 2 `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half) | right


def _mixed(values: Places) -> Places:
    """Every bit of the result depends on every bit of the value (the mixer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
