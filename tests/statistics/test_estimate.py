"""Intervals that cover a known effect, and what follows from them."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from ncn.analysis.verdict import FEWEST_CLUSTERS
from ncn.statistics.estimate import (
    Estimate,
    equivalence,
    estimate,
    holm,
    loss_difference,
    mean_loss,
    perplexity,
    perplexity_difference,
)

CLUSTERS = 80
EFFECT = -0.02  # nats a token
BASELINE_LOSS = 1.5


def simulated(
    seed: int, n_seeds: int, by_seed: float, by_cluster: float, by_both: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of an arm and a baseline [S, C], and tokens [C]; the arm differs by EFFECT.

    The three deviations are of the difference, in nats a token, by seed, cluster and both. What
    makes a cluster hard or a seed lucky for both arms is ten times as large, and must cancel.
    """
    draw = np.random.default_rng(seed)
    tokens = draw.integers(150, 350, CLUSTERS).astype(float)
    shared = draw.normal(0, 0.25, CLUSTERS) + draw.normal(0, 0.05, (n_seeds, 1))
    difference = (
        EFFECT
        + by_seed * draw.standard_normal((n_seeds, 1))
        + by_cluster * draw.standard_normal(CLUSTERS)
        + by_both * draw.standard_normal((n_seeds, CLUSTERS))
    )
    baseline = BASELINE_LOSS + shared
    return (baseline + difference) * tokens, baseline * tokens, tokens


# Deviations as measured: 0.04 nats by story between two checkpoints of the default run; a seed
# moves a loss by 0.002 to 0.005, so a difference by up to 0.007.
DESIGNS = {
    "one pair of checkpoints": (1, 0.0, 0.03, 0.03),
    "3 seeds": (3, 0.005, 0.02, 0.03),
    "3 seeds, all the spread theirs": (3, 0.007, 0.005, 0.01),
    "5 seeds": (5, 0.003, 0.02, 0.03),
}
EXPERIMENTS = 1000


def coverage(design: tuple[int, float, float, float], level: float = 0.95) -> float:
    """How often the interval holds the true difference of the losses."""
    covered = 0
    for experiment in range(EXPERIMENTS):
        arm, baseline, tokens = simulated(experiment, *design)
        result = estimate([arm, baseline], tokens, loss_difference, 199, experiment)
        covered += abs(result.value - EFFECT) <= result.half_width(level)
    return covered / EXPERIMENTS


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_a_95_percent_interval_covers_a_known_effect_93_to_97_times_in_100(
    design: tuple[int, float, float, float],
) -> None:
    assert 0.93 <= coverage(design) <= 0.97


def test_few_and_skewed_clusters_cover_less_than_is_said() -> None:
    """Why a verdict warns below FEWEST_CLUSTERS: differences as skewed as an exponential."""
    covered = {20: 0, FEWEST_CLUSTERS: 0}
    for experiment in range(EXPERIMENTS):
        draw = np.random.default_rng(experiment)
        for n in covered:
            tokens, base = np.full(n, 250.0), np.full((1, n), BASELINE_LOSS)
            arm = base + EFFECT + 0.03 * (draw.exponential(1, (1, n)) - 1)
            sums = [arm * tokens, base * tokens]
            result = estimate(sums, tokens, loss_difference, 199, 1)
            covered[n] += abs(result.value - EFFECT) <= result.half_width(0.95)
    assert 0.89 <= covered[20] / EXPERIMENTS < 0.93
    assert covered[FEWEST_CLUSTERS] > covered[20]


def test_the_nested_percentile_bootstrap_would_not_pass() -> None:
    """The plainly wrong method, planted: it takes three seeds for as many as there are."""
    covered = 0
    for experiment in range(300):
        arm, baseline, tokens = simulated(experiment, *DESIGNS["3 seeds, all the spread theirs"])
        draw = np.random.default_rng(experiment)
        drawn = []
        for _ in range(199):
            seeds = draw.integers(3, size=3)
            clusters = draw.integers(CLUSTERS, size=CLUSTERS)
            difference = (arm - baseline)[np.ix_(seeds, clusters)]
            drawn.append(difference.mean(0).sum() / tokens[clusters].sum())
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= EFFECT <= high
    assert covered / 300 < 0.85


def test_intervals_that_forget_the_seeds_would_not_pass() -> None:
    covered = 0
    for experiment in range(300):
        arm, baseline, tokens = simulated(experiment, 3, 0.007, 0.005, 0.01)
        pooled = [each.mean(axis=0, keepdims=True) for each in (arm, baseline)]
        result = estimate(pooled, tokens, loss_difference, 199, experiment)
        covered += abs(result.value - EFFECT) <= result.half_width(0.95)
    assert covered / 300 < 0.85


def test_rows_taken_for_independent_would_not_pass() -> None:
    """Why clusters are stories: each story is cut into four rows that err alike."""
    covered = {1: 0, 4: 0}
    for experiment in range(400):
        arm, baseline, tokens = simulated(experiment, 1, 0.0, 0.03, 0.0)
        for pieces in covered:
            cut = [np.repeat(each, pieces, axis=1) / pieces for each in (arm, baseline)]
            parts = np.repeat(tokens, pieces) / pieces
            result = estimate(cut, parts, loss_difference, 199, experiment)
            covered[pieces] += abs(result.value - EFFECT) <= result.half_width(0.95)
    assert 0.93 <= covered[1] / 400 <= 0.97
    assert covered[4] / 400 < 0.8


def test_the_difference_is_that_of_the_perplexities_of_all_tokens() -> None:
    arm, baseline, tokens = simulated(0, 3, 0.005, 0.02, 0.03)
    result = estimate([arm, baseline], tokens, perplexity_difference, 999, 1)
    losses = [each.sum() / tokens.sum() / 3 for each in (arm, baseline)]
    assert result.value == pytest.approx(math.exp(losses[0]) - math.exp(losses[1]))
    assert result.interval().low < result.value < result.interval().high


def test_pairing_removes_what_makes_a_story_or_a_seed_hard_for_both() -> None:
    arm, baseline, tokens = simulated(0, 3, 0.0, 0.01, 0.01)
    paired = estimate([arm, baseline], tokens, loss_difference, 999, 1)
    parts = [estimate([each], tokens, mean_loss, 999, 1) for each in (arm, baseline)]
    assert paired.half_width(0.95) < 0.2 * min(part.half_width(0.95) for part in parts)


def test_the_bootstrap_agrees_with_the_variance_of_a_mean() -> None:
    arm, baseline, tokens = simulated(0, 1, 0.0, 0.03, 0.03)
    tokens[:] = 200
    each = (arm - baseline)[0] / 200
    result = estimate([arm, baseline], tokens, loss_difference, 20_000, 1)
    assert result.clusters == pytest.approx(each.var(ddof=1) / CLUSTERS, rel=0.05)
    assert result.seeds == 0


def test_what_a_seed_does_on_a_cluster_counts_once() -> None:
    ratios = []
    for experiment in range(60):
        arm, baseline, tokens = simulated(experiment, 5, 0.0, 0.0, 0.05)
        sums, tokens = [each / tokens * 200 for each in (arm, baseline)], np.full(CLUSTERS, 200.0)
        result = estimate(sums, tokens, loss_difference, 499, experiment)
        ratios.append((result.seeds + result.clusters) / (0.05**2 / 5 / CLUSTERS))
    assert 0.8 < np.mean(ratios) < 1.5  # twice without V_e


def test_equal_losses_differ_by_nothing() -> None:
    _, baseline, tokens = simulated(0, 3, 0.0, 0.0, 0.0)
    result = estimate([baseline, baseline], tokens, perplexity_difference, 999, 1)
    assert result.interval() == (0.0, 0.0, 0.0)
    assert result.p_value(0.0) == 1.0
    assert equivalence(result, 0.01) == 0.0


def test_the_interval_is_a_function_of_its_inputs() -> None:
    arm, baseline, tokens = simulated(0, 3, 0.005, 0.02, 0.03)
    first, second = (
        estimate([arm, baseline], tokens, perplexity_difference, 999, 7) for _ in range(2)
    )
    assert first == second


def test_one_cluster_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        estimate([np.ones((1, 1))], np.ones(1), perplexity, 999, 1)


def test_p_values_and_intervals_agree() -> None:
    result = Estimate(0.01, 1e-5, 2e-5, 3, 500)
    p = result.p_value(result.value)
    low = result.interval(1 - p).low
    assert low == pytest.approx(0, abs=1e-9)
    certain = Estimate(0.01, 0.0, 1e-5, 1, 100_000)
    assert certain.p_value(0.01) == pytest.approx(2 * norm.sf(0.01 / math.sqrt(1e-5)), rel=1e-3)


@pytest.mark.parametrize(("value", "equal"), [(0.001, True), (0.0085, False), (0.02, False)])
def test_equivalence_needs_the_90_percent_interval_within_the_margin(
    value: float, equal: bool
) -> None:
    result = Estimate(value, 0.0, 1e-6, 1, 1000)
    inside = abs(value) + result.half_width(0.90) < 0.01
    assert (equivalence(result, 0.01) < 0.05) == inside == equal


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("clusters", [0.0, 0.3e-4, 1e-4])  # variance beside that of the seeds
def test_a_design_finds_its_smallest_detectable_effect_in_80_percent_of_cases(
    n_seeds: int, clusters: float
) -> None:
    seeds, n_clusters, trials = 1e-4, 400, 20_000
    truth = Estimate(0.0, seeds, clusters, n_seeds, n_clusters).smallest_detectable()
    draw = np.random.default_rng(0)
    values = truth + draw.normal(0, math.sqrt(seeds + clusters), trials)
    spread = [
        variance * draw.chisquare(freedom, trials) / freedom
        for variance, freedom in ((seeds, n_seeds - 1), (clusters, n_clusters - 1))
    ]
    wide = [
        Estimate(0.0, of_seeds, of_clusters, n_seeds, n_clusters).half_width(0.95)
        for of_seeds, of_clusters in zip(*spread, strict=True)
    ]
    assert np.mean(np.abs(values) > wide) == pytest.approx(0.8, abs=0.03)


def test_a_design_without_variance_finds_anything() -> None:
    assert Estimate(0.0, 0.0, 0.0, 3, 100).smallest_detectable() == 0.0


def test_holm_is_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
