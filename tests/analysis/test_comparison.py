"""The comparison: what it computes of planted runs, and what it says in words."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ncn.analysis.comparison import compare, in_words
from ncn.common.errors import InputError
from ncn.common.files import write_json
from ncn.common.paths import cluster_losses, evaluation_metrics, run_name, training_metrics
from ncn.common.tsv import read_tsv, write_tsv
from ncn.scoring.losses import mean_over

SEEDS = [1, 2, 3]


def words(
    low: float,
    high: float,
    n_seeds: int = 2,
    equivalent: bool = False,
    p_holm: float = 0.01,
    **more: float,
) -> str:
    """What is said of an arm with this interval."""
    difference = {"equivalent": equivalent, "smallest_detectable": 0.0042, "p_holm": p_holm}
    comparison = {
        "seeds": list(range(n_seeds)),
        "cluster": "story",
        "clusters": 800,
        "margin": 0.01,
        "arms": {"ncn": {"val_ppl": {"sd": 0.0123}}},
        "differences": {"ncn": difference | {"delta_ppl": [(low + high) / 2, low, high]}},
    }
    return in_words("ncn", {"ncn": {"val_ppl": 2.5, "future_leak": 0.0} | more}, comparison)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.1, "lower than the baseline's"),
        (0.1, 0.2, "higher than the baseline's"),
        (-0.1, 0.1, "not distinguishable from the baseline's"),
        (-0.1, 0.0, "not distinguishable from the baseline's"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    assert verdict in words(low, high)


def test_an_interval_that_holm_takes_for_chance_is_said_to_be_one() -> None:
    chance = "With 1 compared, that may be chance (p = 0.062 after Holm)."
    assert chance in words(0.1, 0.2, p_holm=0.062)
    assert "chance" not in words(0.1, 0.2)
    assert "chance" not in words(-0.1, 0.2, p_holm=0.062)


def test_one_seed_is_said_and_several_are_not() -> None:
    one = "One seed: this interval speaks of these two checkpoints, not of the method."
    assert one in words(0.1, 0.2, n_seeds=1)
    several = words(0.1, 0.2, n_seeds=3)
    assert "One seed" not in several
    assert "sd 0.0123 over 3 seeds" in several


def test_equivalence_and_the_smallest_detectable_effect_are_said() -> None:
    same = words(-0.01, 0.01, equivalent=True)
    assert "within +-0.01 nats (TOST)" in same
    assert "0.0042 nats" in same
    assert "TOST" not in words(-0.01, 0.01)


def test_a_leak_is_said_beside_even_a_better_perplexity() -> None:
    leaking = words(-0.2, -0.1, future_leak=0.7, val_ppl_reactive=3.25)
    assert "reads the future" in leaking
    assert "not a language model's perplexity" in leaking
    assert "3.2500" in leaking
    assert "reads the future" not in words(-0.2, -0.1)


def test_without_a_baseline_there_is_no_verdict() -> None:
    alone = {"seeds": [1], "cluster": "story", "clusters": 800, "differences": {}}
    summary = {"ncn": {"val_ppl": 2.5, "future_leak": 0.0}}
    assert in_words("ncn", summary, alone) == "ncn: perplexity 2.5000."


def plant(arm: str, shift: float, seeds: list[int] = SEEDS, noise: float = 0.001) -> None:
    """What the evaluate and train stages write of an arm `shift` nats from the baseline."""
    for seed in seeds:
        run, draw = run_name(arm, seed), np.random.default_rng([seed, *arm.encode()])
        hard = np.random.default_rng(0).normal(1.5, 0.2, 60)
        losses = hard + shift + draw.normal(0, noise) + draw.normal(0, noise, 60)
        write_tsv(
            cluster_losses(run),
            [
                {"story": n, "tokens": 200 + n, "loss": loss, "reactive_loss": loss + 0.1}
                for n, loss in enumerate(losses.tolist())
            ],
        )
        details = {"sequences": 99, "val_bpb": 0.5, "future_leak": 0.0}
        write_json(evaluation_metrics(run), details)
        write_json(training_metrics(run), {"parameters": 1000, "flops_per_token": 2000})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_planted_effects_are_found_and_their_absence_is_equivalence() -> None:
    arms = {"baseline": 0.0, "better": -0.05, "worse": 0.05, "same": 0.0}
    for arm, shift in arms.items():
        plant(arm, shift)
    summary, full = compare(list(arms), SEEDS, 499, 0.01, 42)
    assert summary["better"]["delta_ppl_high"] < 0 < summary["worse"]["delta_ppl_low"]
    assert summary["better"]["delta_ppl"] == pytest.approx(
        summary["better"]["val_ppl"] - summary["baseline"]["val_ppl"]
    )
    assert full["differences"]["same"]["equivalent"]
    assert not full["differences"]["better"]["equivalent"]
    assert full["differences"]["better"]["p_holm"] < 0.05 < full["differences"]["same"]["p_holm"]
    assert "delta_ppl" not in summary["baseline"]
    json.dumps([summary, full], allow_nan=False)


@pytest.mark.usefixtures("here")
def test_each_arm_has_its_mean_and_spread_over_seeds() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0, noise=0.01)
    _, full = compare(["baseline", "ncn"], SEEDS, 499, 0.01, 42)
    loss = full["arms"]["ncn"]["val_loss"]
    values = list(loss["by_seed"].values())
    assert loss["mean"] == pytest.approx(np.mean(values))
    assert loss["sd"] == pytest.approx(np.std(values, ddof=1))
    assert loss["low"] < loss["mean"] < loss["high"]
    assert list(full["differences"]["ncn"]["by_seed"]) == ["1", "2", "3"]


@pytest.mark.usefixtures("here")
def test_a_run_has_one_mean_loss_to_the_bit_in_evaluate_and_in_compare() -> None:
    for arm in ("baseline", "ncn"):
        plant(arm, 0.0, noise=0.3)
    _, full = compare(["baseline", "ncn"], SEEDS, 99, 0.01, 42)
    for arm in ("baseline", "ncn"):
        for seed in SEEDS:
            rows = [
                {name: float(cell) for name, cell in row.items()}
                for row in read_tsv(cluster_losses(run_name(arm, seed)))
            ]
            mean = mean_over(rows, "loss")
            assert full["arms"][arm]["val_loss"]["by_seed"][str(seed)] == mean


@pytest.mark.usefixtures("here")
def test_the_headline_is_wider_than_a_pair_of_checkpoints_where_seeds_differ() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0, noise=0.01)
    _, full = compare(["baseline", "ncn"], SEEDS, 499, 0.01, 42)
    difference = full["differences"]["ncn"]

    def width(interval: list[float]) -> float:
        return interval[2] - interval[1]

    assert width(difference["delta_ppl"]) > max(map(width, difference["by_seed"].values()))


@pytest.mark.usefixtures("here")
def test_with_one_seed_the_headline_is_that_pairs_interval() -> None:
    plant("baseline", 0.0, [1])
    plant("ncn", 0.01, [1])
    summary, full = compare(["baseline", "ncn"], [1], 499, 0.01, 42)
    mine = full["differences"]["ncn"]
    assert mine["by_seed"]["1"] == mine["delta_ppl"]
    assert full["arms"]["ncn"]["val_loss"]["sd"] is None
    assert mine["variance"]["seeds"] is None
    assert "One seed" in full["in_words"]["ncn"]
    assert summary["ncn"]["val_ppl_reactive"] == pytest.approx(
        summary["ncn"]["val_ppl"] * math.exp(0.1)
    )


@pytest.mark.usefixtures("here")
def test_an_arm_that_cannot_be_read_is_named_and_the_others_are_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0)
    plant("broken", 0.0)
    rows = cluster_losses("broken-2").read_text().splitlines()
    rows[3] = "2\t202\tnan\t1.0"
    cluster_losses("broken-2").write_text("\n".join(rows))
    summary, full = compare(["baseline", "ncn", "broken", "untrained"], SEEDS, 499, 0.01, 42)
    assert list(summary) == ["baseline", "ncn"]
    assert "loss of story 2 is not a finite number" in full["in_words"]["broken"]
    assert "untrained-1/clusters.tsv does not exist" in full["in_words"]["untrained"]
    assert len(full["missing"]) == 2
    with pytest.raises(InputError, match="no arm can be compared"):
        compare(["untrained"], SEEDS, 499, 0.01, 42)


@pytest.mark.usefixtures("here")
def test_an_arm_scored_on_other_text_is_not_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0)
    for seed in SEEDS:
        path = cluster_losses(run_name("ncn", seed))
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    _, full = compare(["baseline", "ncn"], SEEDS, 499, 0.01, 42)
    assert "scores other text than baseline" in full["in_words"]["ncn"]
