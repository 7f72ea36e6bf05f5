"""The split: as large as published, at the end where asked for, no unit in two parts."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import ncn.corpus.split
from ncn.corpus.bijection import HELD
from ncn.corpus.split import PARTS, Draw, Parts, draw_into
from ncn.settings import Split

TRAIN, VAL, TUNE = range(len(PARTS))
SIZES = st.sampled_from([*range(1, 300), HELD + 99])
UNITS = st.sampled_from(["story", "sequence", "tail"])


def choose_parts(n: int, split: Split, seed: int) -> Parts:
    parts = np.zeros(n, dtype=np.uint8)
    draw_into(parts, Draw(n, split, seed))
    return parts


def test_the_published_split_has_the_published_sizes() -> None:
    parts = choose_parts(1_069_776, Split(unit="sequence", validation=0.05, tuning=0.0), 42)
    assert np.bincount(parts).tolist() == [1_016_288, 53_488]


def test_tail_takes_the_last_units() -> None:
    parts = choose_parts(40, Split(unit="tail", validation=0.05, tuning=0.1), 42)
    assert parts.tolist() == [TRAIN] * 34 + [TUNE] * 4 + [VAL] * 2


@given(
    UNITS,
    st.sampled_from([*range(1, 300), HELD + 99]),
    st.floats(0.01, 0.4),
    st.floats(0.0, 0.4),
    st.integers(0, 9),
)
def test_a_tuning_part_takes_of_the_training_and_leaves_the_validation_alone(
    unit: str, n: int, validation: float, tuning: float, seed: int
) -> None:
    split = Split.model_validate({"unit": unit, "validation": validation, "tuning": tuning})
    parts = choose_parts(n, split, seed)
    without = choose_parts(n, split.model_copy(update={"tuning": 0.0}), seed)
    assert (parts == TUNE).sum() == int(n * tuning)
    assert ((parts == VAL) == (without == VAL)).all()


def test_a_long_split_is_drawn_without_a_list_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    split, n = Split(unit="story", validation=0.05, tuning=0.1), 3_000_000
    tracemalloc.start()
    monkeypatch.setattr(ncn.corpus.split, "AT_ONCE", 1 << 15)
    parts = choose_parts(n, split, 42)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1.5 * n  # a byte a story, and a piece of it
    assert np.bincount(parts).tolist() == [2_550_000, 150_000, 300_000]
    assert chisquare(np.add.reduceat(parts == VAL, range(0, n, n // 50))).pvalue > 1e-4
    assert (choose_parts(n, split, 43) != parts).mean() > 0.1
    without = choose_parts(n, split.model_copy(update={"tuning": 0.0}), 42)
    assert ((parts == VAL) == (without == VAL)).all()
