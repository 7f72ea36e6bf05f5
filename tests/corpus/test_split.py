"""The split: as large as published, and at the end where asked for."""

import numpy as np

from ncn.corpus.split import choose_validation
from ncn.settings import Split


def test_the_published_split_has_the_published_sizes() -> None:
    mask = choose_validation(1_069_776, Split(unit="sequence", validation=0.05), 42)
    assert ((~mask).sum(), mask.sum()) == (1_016_288, 53_488)


def test_tail_takes_the_last_units() -> None:
    mask = choose_validation(40, Split(unit="tail", validation=0.05), 42)
    assert np.flatnonzero(mask).tolist() == [38, 39]
