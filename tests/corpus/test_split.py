"""The split: as large as published, at the end where asked for, no unit in two parts."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

import ncn.corpus.bijection
import ncn.corpus.split
from ncn.corpus.bijection import HELD, first_of_shuffled, unshuffled
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
    st.integers(0, 400),
    st.integers(0, 400),
    st.integers(-9, 2**40),
    st.sampled_from([1, 2, 7, 50, 1 << 18]),
)
def test_a_shuffle_that_is_not_held_is_torchs(n: int, wanted: int, seed: int, steps: int) -> None:
    listed = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    of_place = np.arange(n).astype(np.uint8)
    of_number = of_place.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.bijection, "STEPS", steps)
        unshuffled(of_number, seed)
        first = [*first_of_shuffled(n, wanted, seed)]
    assert (of_number[listed] == of_place).all()
    assert first == listed[:wanted].tolist()


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


@pytest.mark.parametrize("unit", ["story", "sequence", "tail"])
def test_a_long_split_takes_a_byte_a_unit(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    n = 3_000_000
    split = Split(unit=unit, validation=0.05, tuning=0.1)  # type: ignore[arg-type]
    monkeypatch.setattr(ncn.corpus.split, "AT_ONCE", 1 << 15)
    monkeypatch.setattr(ncn.corpus.bijection, "STEPS", 1 << 14)
    tracemalloc.start()
    draw = Draw(n, split, 42)
    val = sum(len(units) for units in draw.units_of("val"))
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1.5 * n  # of the permutation a list would take four
    assert val == draw.sizes["val"] == 150_000


def test_a_split_of_many_stories_is_even_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    split, n = Split(unit="story", validation=0.05, tuning=0.1), 3_000_000
    parts = choose_parts(n, split, 42)
    assert np.bincount(parts).tolist() == [2_550_000, 150_000, 300_000]
    assert chisquare(np.add.reduceat(parts == VAL, range(0, n, n // 50))).pvalue > 1e-4
    assert (choose_parts(n, split, 43) != parts).mean() > 0.1
    without = choose_parts(n, split.model_copy(update={"tuning": 0.0}), 42)
    assert ((parts == VAL) == (without == VAL)).all()
