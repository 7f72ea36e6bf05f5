"""The order in which training sees its rows: shuffled anew each epoch, the same for every arm.

No list of row numbers is held that grows with the text, and any place of the order is reached at
once: up to HELD rows are sorted by random numbers, more are sent through `ncn.corpus.bijection`.
"""

from collections.abc import Iterator

import numpy as np

from ncn.corpus.bijection import HELD, ROUNDS, permuted

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
