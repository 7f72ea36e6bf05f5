"""The order in which training sees its rows: shuffled anew each epoch, the same for every arm.

No list of row numbers is held that grows with the text, and any place of the order is reached at
once. Up to HELD rows are sorted by random numbers. More go through a Feistel network (M. Luby and
C. Rackoff, "How to construct pseudorandom permutations from pseudorandom functions", 1988) on the
smallest square of a power of two that holds the row numbers; what falls outside is sent through
again until it falls inside. Of fewer than some hundred rows such networks make some orders more
often than others.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.uint64]

HELD = 1 << 16
ROUNDS = 8
AT_ONCE = 1 << 12  # row numbers that are computed together


def row_order(n_rows: int, seed: int, start: int = 0) -> Iterator[int]:
    """Endless row numbers, each epoch a permutation of its own.

    Args:
        n_rows: that there are.
        seed: of the order.
        start: so many are left out: those that an interrupted run has seen.
    """
    epoch, place = divmod(start, n_rows)
    while True:
        numbers = np.random.PCG64([seed, epoch])
        if n_rows <= HELD:
            yield from np.argsort(numbers.random_raw(n_rows), kind="stable")[place:].tolist()
        else:
            keys = numbers.random_raw(ROUNDS)
            for first in range(place, n_rows, AT_ONCE):
                places = np.arange(first, min(n_rows, first + AT_ONCE), dtype=np.uint64)
                yield from permuted(places, n_rows, keys).tolist()
        epoch, place = epoch + 1, 0


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
