"""Which stories or rows train, validate or tune, and which of the validation are looked at."""

import numpy as np
from numpy.typing import NDArray

from ncn.corpus.bijection import HELD, ROUNDS, permuted
from ncn.settings import Split

Parts = NDArray[np.uint8]  # of each unit: its place in PARTS

PARTS = ("train", "val", "tune")
AT_ONCE = 1 << 20  # units whose places are computed together
LEFT_OUT = 255  # in place of a part: in none
PART_NAMES = {"train": "training", "val": "validation", "tune": "tuning"}  # for people


def _permutation(n: int, seed: int) -> NDArray[np.int32]:
    """Of 0 to n - 1, as torch.utils.data.random_split draws it from a generator of that seed."""
    import torch  # here: the processes that encode read PARTS, and it takes seconds to load

    generator = torch.Generator().manual_seed(seed)
    permutation: NDArray[np.int32] = torch.randperm(
        n, generator=generator, dtype=torch.int32
    ).numpy()
    return permutation


def choose_parts(n: int, split: Split, seed: int) -> Parts:
    """Which part each of n units is in, [n]: floor(n * split.validation) validate.

    `tail` takes the last ones; otherwise a seeded permutation decides: the first ones train. The
    floor(n * split.tuning) before those that validate tune: with or without them, the same ones
    validate. Under `sequence`, and up to HELD units, the permutation is torch's, as published;
    beyond, no list of it is held.
    """
    first_val = n - int(n * split.validation)
    first_tune = first_val - int(n * split.tuning)
    parts = np.full(n, PARTS.index("train"), dtype=np.uint8)
    if split.unit == "sequence" or (split.unit == "story" and n <= HELD):
        order = _permutation(n, seed)
        parts[order[first_tune:]] = PARTS.index("tune")
        parts[order[first_val:]] = PARTS.index("val")
        return parts
    keys = np.random.PCG64(seed).random_raw(ROUNDS)
    for first in range(0, n, AT_ONCE):
        places = np.arange(first, min(n, first + AT_ONCE), dtype=np.uint64)
        units = parts[first : first + AT_ONCE]
        if split.unit == "story":
            places = permuted(places, n, keys)
        units[places >= first_tune] = PARTS.index("tune")
        units[places >= first_val] = PARTS.index("val")
    return parts


def choose_sequences(n_rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """The row numbers to score, ascending: `wanted` drawn by seed, or all there are."""
    return np.sort(_permutation(n_rows, seed)[:wanted]).astype(np.int64)
