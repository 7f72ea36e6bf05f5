"""The order of the rows: each once an epoch, any place at once, and no pattern."""

import tracemalloc
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

import ncn.training.row_order
from ncn.training.row_order import HELD, row_order


@pytest.mark.parametrize("held", [0, HELD])
@given(n=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_each_epoch_visits_every_row_once_in_an_order_of_its_own(
    held: int, n: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.training.row_order, "HELD", held)
        visits(n, seed)


def visits(n: int, seed: int) -> None:
    order = row_order(n, seed)
    epochs = [list(islice(order, n)) for _ in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert n < 20 or len(set(map(tuple, epochs))) == 3
    assert n < 20 or epochs[0] != list(islice(row_order(n, seed + 1), n))


@pytest.mark.parametrize("held", [0, HELD])
@given(n=st.integers(1, 60), start=st.integers(0, 200))
def test_it_goes_on_from_any_place(held: int, n: int, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.training.row_order, "HELD", held)
        whole = list(islice(row_order(n, 1), start + 50))
        assert list(islice(row_order(n, 1, start), 50)) == whole[start:]


def test_any_place_of_a_long_order_is_reached_at_once_in_little_memory() -> None:
    tracemalloc.start()
    found = list(islice(row_order(10**9, 7, start=3 * 10**9 + 12_345), 100))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(found)) == 100
    assert max(found) < 10**9
    assert most < 4_000_000


def test_a_short_order_is_as_likely_as_any_other() -> None:
    n, orders = 5, 12_000
    first = np.array([list(islice(row_order(n, seed), n)) for seed in range(orders)])
    counts = np.unique(first @ 10 ** np.arange(n), return_counts=True)[1]
    assert len(counts) == 120
    assert chisquare(counts).pvalue > 1e-4


def test_a_long_order_has_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    n, bins = HELD + 12_345, 50
    one = np.array(list(islice(row_order(n, 42), n)))
    monkeypatch.setattr(ncn.training.row_order, "AT_ONCE", 2)  # no more than is looked at
    assert list(islice(row_order(n, 42, 7), 99)) == one[7:106].tolist()
    steps = np.diff(one) % n  # of a shuffle: as likely one as another
    assert kstest(steps / n, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.015
    for start in (0, n // 2, n - 3):  # over seeds, every row equally often at a place
        found = np.array([list(islice(row_order(n, seed, start), 2)) for seed in range(4000)])
        for place in (0, 1):
            assert chisquare(np.bincount(found[:, place] * bins // n)).pvalue > 1e-4
        pairs = np.histogram2d(*found.T, bins=8, range=[[0, n]] * 2)[0]
        assert chisquare(pairs.ravel()).pvalue > 1e-4
