"""The interval of a perplexity difference."""

import math

import numpy as np
import pytest

from ncn.statistics import perplexity_difference


def losses(n: int, shift: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A baseline with hard and easy sequences, and an arm that differs by shift and noise."""
    draw = np.random.default_rng(seed)
    baseline = draw.normal(1.5, 0.25, n)
    return (baseline + shift + draw.normal(0, noise, n))[None], baseline[None]


def test_the_difference_is_that_of_the_perplexities() -> None:
    arm, baseline = losses(500, -0.02, 0.05, 0)
    result = perplexity_difference(arm, baseline, 999, 1)
    assert result.delta == pytest.approx(math.exp(arm.mean()) - math.exp(baseline.mean()))
    assert result.low < result.delta < result.high


def test_pairing_removes_what_makes_a_sequence_hard_for_every_model() -> None:
    arm, baseline = losses(500, -0.02, 0.01, 0)
    paired = perplexity_difference(arm, baseline, 999, 1)
    shuffled = perplexity_difference(arm[:, ::-1], baseline, 999, 1)
    assert paired.high - paired.low < 0.1 * (shuffled.high - shuffled.low)


def test_equal_losses_differ_by_nothing() -> None:
    arm, baseline = losses(50, 0.0, 0.0, 0)
    assert perplexity_difference(arm, baseline, 999, 1) == (0.0, 0.0, 0.0)


def test_the_interval_is_a_function_of_its_inputs() -> None:
    arm, baseline = losses(100, 0.01, 0.05, 0)
    first, second = (perplexity_difference(arm, baseline, 999, 7) for _ in range(2))
    assert first == second


def test_the_interval_covers_a_known_effect() -> None:
    truth = math.exp(1.5 - 0.02) - math.exp(1.5)
    covered = 0
    for seed in range(200):
        arm, baseline = losses(200, -0.02, 0.05, seed)
        low, high = perplexity_difference(arm, baseline, 499, seed)[1:]
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99
