"""Which stories or rows train, validate or tune, and which of the validation are looked at."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ncn.corpus.bijection import HELD, LISTED, ROUNDS, first_of_shuffled, permuted, unshuffled
from ncn.settings import Split

Parts = NDArray[np.uint8]  # of each unit: its place in PARTS

PARTS = ("train", "val", "tune")
AT_ONCE = 1 << 18  # units that are looked at together: some 10 MB
LEFT_OUT = 255  # in place of a part: in none
PART_NAMES = {"train": "training", "val": "validation", "tune": "tuning"}  # for people


class Draw:
    """Which part each of n units is in, some at a time: floor(n * split.validation) validate.

    `tail` takes the last ones; otherwise a seeded permutation decides: the first ones train. The
    floor(n * split.tuning) before those that validate tune: with or without them, the same ones
    validate. Under `sequence`, and up to HELD units, the permutation is torch's, as published, and
    a byte a unit is held; otherwise nothing.
    """

    def __init__(self, n: int, split: Split, seed: int) -> None:
        val, tune = int(n * split.validation), int(n * split.tuning)
        self.sizes = {"train": n - val - tune, "val": val, "tune": tune}
        self._n, self._first_val, self._first_tune = n, n - val, n - val - tune
        self._listed = self._keys = None
        if n < LISTED if split.unit == "sequence" else split.unit == "story" and n <= HELD:
            self._listed = np.full(n, PARTS.index("train"), dtype=np.uint8)
            self._listed[self._first_tune :] = PARTS.index("tune")
            self._listed[self._first_val :] = PARTS.index("val")
            unshuffled(self._listed, seed)
        elif split.unit != "tail":
            self._keys = np.random.PCG64(seed).random_raw(ROUNDS)

    def between(self, first: int, end: int) -> Parts:
        """The parts of units [first, end)."""
        if self._listed is not None:
            return self._listed[first:end]
        places = np.arange(first, end, dtype=np.uint64)
        if self._keys is not None:
            places = permuted(places, self._n, self._keys)
        parts = np.full(end - first, PARTS.index("train"), dtype=np.uint8)
        parts[places >= self._first_tune] = PARTS.index("tune")
        parts[places >= self._first_val] = PARTS.index("val")
        return parts

    def units_of(self, part: str) -> Iterator[NDArray[np.int64]]:
        """The units of a part, ascending, some at a time."""
        for first in range(0, self._n, AT_ONCE):
            there = self.between(first, min(self._n, first + AT_ONCE)) == PARTS.index(part)
            yield first + np.flatnonzero(there)


def draw_into(parts: Parts, draw: Draw | None) -> None:
    """Give each unit that is not LEFT_OUT, in their order, its part; without a draw the first."""
    done = 0
    for first in range(0, len(parts), AT_ONCE):
        some = parts[first : first + AT_ONCE]
        drawn = some != LEFT_OUT
        number = int(np.count_nonzero(drawn))
        some[drawn] = draw.between(done, done + number) if draw else 0
        done += number


def choose_sequences(n_rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """The row numbers to score, ascending: `wanted` drawn by seed, or all there are."""
    if wanted >= n_rows:
        return np.arange(n_rows)
    chosen = np.fromiter(first_of_shuffled(n_rows, wanted, seed), dtype=np.int64)
    chosen.sort()
    return chosen
