"""64-bit numbers mixed, and permutations made by that: computed, in memory that does not grow."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]

HELD = 1 << 16  # up to which a drawn list serves better than `permuted`
ROUNDS = 8
SPLITMIX64 = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def mixed(values: Numbers, rounds: tuple[tuple[int, int], ...] = SPLITMIX64) -> Numbers:
    """Numbers of which every bit depends on every bit of the value, nearly.

    Args:
        rounds: by how much a value is shifted to the right and added to itself without carry, and
            what that is multiplied by, mod 2^64: odd, so that no two values become one.
    """
    for shift, factor in rounds:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values


def permuted(places: Numbers, n: int, keys: Numbers) -> Numbers:
    """Where a permutation of 0 to n - 1 sends these places; another one for other keys.

    A Feistel network (M. Luby and C. Rackoff, "How to construct pseudorandom permutations from
    pseudorandom functions", 1988) on the smallest square of a power of two that holds the numbers;
    what falls outside is sent through again until it falls inside. Of fewer than some hundred
    numbers such networks make some orders more often than others.

    Args:
        keys: ROUNDS of them, drawn.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))  # bits
    found: Numbers = _sent(places, half, keys)
    while (outside := found >= n).any():
        found[outside] = _sent(found[outside], half, keys)
    return found


def _sent(values: Numbers, half: np.uint64, keys: Numbers) -> Numbers:
    """Once through the network, on numbers of 2 `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (mixed(right ^ key) & mask)
    return (left << half) | right
