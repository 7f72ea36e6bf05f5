"""Which stories or rows are kept apart for validation, and which of those are looked at."""

import numpy as np
import torch
from numpy.typing import NDArray

from ncn.settings import Split

Mask = NDArray[np.bool_]


def choose_validation(n: int, split: Split, seed: int) -> Mask:
    """Which of n units are validation: floor(n * split.validation) of them, [n] bool.

    `tail` takes the last ones; otherwise a seeded permutation decides, drawn as
    torch.utils.data.random_split draws it: the first ones train.
    """
    n_validation = int(n * split.validation)
    order = (
        np.arange(n)
        if split.unit == "tail"
        else torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    )
    mask = np.zeros(n, dtype=bool)
    mask[order[n - n_validation :]] = True
    return mask


def choose_sequences(n_rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """The row numbers to score, ascending: `wanted` drawn by seed, or all there are."""
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
    return np.sort(order[:wanted].numpy())
