"""The learning rate is the best of the grid, and lies inside it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncn.common.errors import InputError
from ncn.settings import Tune
from ncn.training.tuning import Trial, as_chosen, in_words, tune

GRID = [1e-3, 2e-3, 4e-3]


def settings(lr: list[float], extensions: int = 2, seeds: int = 2) -> Tune:
    return Tune(lr=lr, seeds=list(range(seeds)), epochs=1, extensions=extensions)


def bowl(best: float, diverges: float = math.inf) -> Trial:
    """A loss that is lowest at `best`, and infinite from `diverges` on."""

    def trial(lr: float, seed: int) -> float:
        return math.inf if lr >= diverges else 2 + math.log(lr / best) ** 2 + 0.01 * seed

    return trial


@given(st.floats(1.2e-4, 3.2e-2), st.integers(1, 3))
def test_the_nearest_value_is_chosen_and_has_one_on_either_side(best: float, seeds: int) -> None:
    chosen, trials = tune("ncn", settings(GRID, 4, seeds), bowl(best))
    tried = [point["lr"] for point in chosen["grid"]]
    assert tried == sorted(tried)
    assert set(GRID) <= set(tried)
    assert chosen["lr"] == min(tried, key=lambda lr: abs(math.log(lr / best)))
    assert tried[0] < chosen["lr"] < tried[-1]
    near, far = chosen["flatness"]
    assert 0 <= near <= far
    assert [(row.lr, row.seed) for row in trials] == [(lr, s) for lr in tried for s in range(seeds)]


def test_the_grid_goes_on_at_its_own_ratio_as_often_as_allowed() -> None:
    chosen, _ = tune("ncn", settings(GRID, 2), bowl(9e-3))
    assert [point["lr"] for point in chosen["grid"]] == [1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]
    with pytest.raises(InputError, match=r"ncn: .* the best, 0\.008, is still at the end: 0\.016"):
        tune("ncn", settings(GRID, 1), bowl(9e-3))


def test_training_that_diverges_is_no_best_and_no_number() -> None:
    chosen, _ = tune("ncn", settings(GRID), bowl(2e-3, diverges=4e-3))
    assert chosen["lr"] == 2e-3
    assert chosen["grid"][-1] == {"lr": 4e-3, "loss": None, "sd": None}
    assert chosen["flatness"][1] is None
    assert "diverged" in in_words(chosen)
    with pytest.raises(InputError, match=r"diverged at every tune\.lr of 0\.001, 0\.002, 0\.004"):
        tune("ncn", settings(GRID), bowl(2e-3, diverges=0))


def test_without_a_grid_nothing_is_said_of_one() -> None:
    assert as_chosen("ncn", 1e-3) == {"arm": "ncn", "lr": 1e-3, "tuned": False}
    assert in_words(as_chosen("ncn", 1e-3)) == "ncn: trains at 0.001, untuned"
