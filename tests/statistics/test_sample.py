"""Intervals of a few values cover the truth as often as they say."""

import numpy as np
import pytest

from ncn.statistics.sample import mean_interval, ratio_interval


def test_the_mean_interval_is_students() -> None:
    value, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert value == 2
    assert high - value == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)  # t(2) = 4.3027, sd 1
    assert value - low == pytest.approx(high - value)
    assert mean_interval(np.full(4, 0.5)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("n", [3, 32])
def test_the_interval_of_a_ratio_covers_it(n: int) -> None:
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(2000):
        below = draw.uniform(0.8, 1.2, n)
        above = 0.4 * below + draw.normal(0, 0.1, n)
        _, low, high = ratio_interval(above, below)
        covered += low <= 0.4 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("above", "below"), [([1.0], [1.0]), ([1.0, 2.0], [0.0, 0.0])])
def test_what_has_no_interval_is_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two values"):
        ratio_interval(np.array(above), np.array(below))
