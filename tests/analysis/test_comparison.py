"""The comparison: what it computes of planted runs, and what it says in words."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct as noncentral
from scipy.stats import t as student

from ncn.analysis.comparison import as_table, compare, in_order_of_interest, in_words
from ncn.commands.summary import committed
from ncn.common.errors import InputError
from ncn.common.files import write_json
from ncn.common.paths import (
    COMPARISON,
    SCORES,
    TRAINING,
    cluster_losses,
    model_directory,
    run_name,
    scores_directory,
)
from ncn.common.tsv import read_tsv, write_tsv
from ncn.scoring.losses import mean_over
from ncn.settings import Compare
from ncn.settings.yaml12 import parse_yaml
from ncn.statistics.estimate import holm
from ncn.statistics.interval import LOWEST_P
from tests.conftest import ROOT

SEEDS = [1, 2, 3]


DECLARED = Compare(primary=None, reference=None, seed_sd=0.014)


def words(
    low: float,
    high: float,
    n_seeds: int = 2,
    *,
    leak: float = 0.0,
    scores: dict[str, Any] | None = None,
    beside: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """What is said of an arm with this interval."""
    several = n_seeds > 1
    ends = [(low + high) / 2, low, high]
    found: dict[str, Any] = {"delta_loss": ends, "delta_ppl": ends}
    found |= {"equivalent": False if several else None}
    found |= {"p": 0.01, "p_holm": 0.01} if several else {"p": None, "p_holm": None}
    found |= {"smallest_detectable": 0.0042 if several else None}
    found |= {} if several else {"with_seeds": {"5": 0.0262, "10": 0.0141}}
    found |= more | ({"to_reference": found | beside} if beside else {})
    arm = {"val_ppl": {"sd": 0.0123}, "scores": scores or {"as_trained": {"ppl": 2.5}}}
    comparison = {
        "seeds": list(range(n_seeds)),
        "cluster": "story",
        "clusters": 800,
        "margin": 0.01,
        "primary": None,
        "reference": "ncn_causal",
        "comparisons": 2,
        "seed_sd": 0.014,
        "arms": {"ncn": arm},
        "differences": {"ncn": found},
    } | (changes or {})
    return in_words("ncn", {"ncn": {"val_ppl": 2.5, "future_leak": leak}}, comparison)


@pytest.mark.parametrize(
    ("low", "high", "equivalent", "verdict"),
    [
        (-0.2, -0.1, False, "lower than the baseline's (-0.1500, 95 % interval -0.2000 to -0.1000"),
        (0.1, 0.2, False, "higher than the baseline's (+0.1500"),
        (-0.1, 0.1, False, "not distinguishable from the baseline's"),
        (-0.1, 0.0, False, "not distinguishable from the baseline's"),
        (-0.2, -0.1, True, "Holm over 2 comparisons): real but negligible, within +-0.01 nats (TO"),
        (0.1, 0.2, True, "real but negligible, within +-0.01 nats (TOST)"),
        (-0.1, 0.1, True, "comparisons): equivalent, within +-0.01 nats (TOST)."),
    ],
)
def test_the_words_follow_the_verdict(
    low: float, high: float, equivalent: bool, verdict: str
) -> None:
    said = words(low, high, equivalent=equivalent)
    assert verdict in said
    assert ("TOST" in said) == equivalent
    assert "0.0042 nats in 80 % of cases" in said
    assert "sd 0.0123 over 2 seeds" in said
    assert "over 2 seeds and 800 stories; p = 0.01 after Holm" in said


def test_an_interval_that_holm_takes_for_chance_is_said_to_be_one() -> None:
    chance = "p = 0.062 after Holm over 2 comparisons), though its interval by itself leaves 0 out."
    said = words(0.1, 0.2, p_holm=0.062)
    assert "not distinguishable from the baseline's (+0.1500" in said
    assert chance in said
    assert "by itself" not in words(0.1, 0.2)
    assert "by itself" not in words(-0.1, 0.2, p_holm=0.062)


def test_a_p_at_its_floor_is_said_to_be_there() -> None:
    said = words(0.1, 0.2, p=LOWEST_P, p_holm=2 * LOWEST_P)
    assert "p at most 2e-12 after Holm over 2 comparisons, the least that is computed" in said


@pytest.mark.parametrize(("low", "high"), [(-0.2, -0.1), (0.1, 0.2), (-0.1, 0.2)])
def test_one_seed_says_no_more_than_is_known(low: float, high: float) -> None:
    middle = (low + high) / 2
    assert words(low, high, n_seeds=1) == (
        f"ncn: perplexity 2.5000, {middle:+.4f} to the baseline: the difference of two checkpoints,"
        f" interval over 800 stories {low:+.4f} to {high:+.4f}; seed variance unknown. With a seed"
        " sd of 0.014 nats, 5 seeds would find 0.0262 nats in 80 % of cases, 10 seeds 0.0141."
    )


def test_an_arm_trained_to_see_the_future_is_scored_without_and_the_rest_is_beside() -> None:
    scores = {"as_trained": {"ppl": 2.25}, "causal": {"ppl": 2.5}, "reactive": {"ppl": 3.25}}
    for n_seeds in (1, 2):
        said = words(-0.2, -0.1, n_seeds, leak=0.7, scores=scores)
        assert "All this is scored causally, on the history alone: as trained it reads" in said
        assert "up to 0.7), and its 2.2500 is no language model's." in said
        assert "As the preprint generates (3.2, reactively): 3.2500." in said
    assert "reads the future" not in words(-0.2, -0.1)


def test_a_leak_in_the_score_itself_is_said_beside_even_a_better_perplexity() -> None:
    for n_seeds in (1, 2):
        said = words(-0.2, -0.1, n_seeds, leak=0.7, p=None, p_holm=None)
        assert ": it reads the future, so this is no language model's perplexity." in said
        assert "p =" not in said


def test_the_primary_endpoint_is_named_and_so_are_the_others() -> None:
    assert "endpoint" not in words(0.1, 0.2)
    assert "The primary endpoint." in words(0.1, 0.2, changes={"primary": "ncn"})
    assert "A secondary endpoint." in words(0.1, 0.2, changes={"primary": "ncn_causal"})


def test_a_reference_arm_is_compared_with_too() -> None:
    beside = {name: [-0.3, -0.4, -0.2] for name in ("delta_loss", "delta_ppl")}
    assert "Beside the reference arm: lower than ncn_causal's (-0.3000" in words(
        0.1, 0.2, beside=beside
    )
    one = words(0.1, 0.2, n_seeds=1, beside=beside)
    assert "the reference arm: -0.3000 to ncn_causal: the difference of two checkpoints" in one


def test_few_clusters_are_said_to_be_few() -> None:
    assert "20 stories are few: with less than 50" in words(0.1, 0.2, changes={"clusters": 20})
    assert "few" not in words(0.1, 0.2)


def test_without_a_baseline_there_is_no_verdict() -> None:
    alone: dict[str, Any] = {"seeds": [1], "cluster": "story", "clusters": 800, "differences": {}}
    alone["arms"] = {"ncn": {"scores": {"as_trained": {"ppl": 2.5}}}}
    summary = {"ncn": {"val_ppl": 2.5, "future_leak": 0.0}}
    assert in_words("ncn", summary, alone) == "ncn: perplexity 2.5000."


def plant(
    arm: str,
    shift: float,
    seeds: list[int] = SEEDS,
    noise: float = 0.001,
    causal: float | None = None,
    leak: float = 0.0,
) -> None:
    """What the evaluate and train stages write of an arm `shift` nats from the baseline.

    `causal` nats more where it is scored on the history alone, 0.1 nats more reactively.
    """
    for seed in seeds:
        run, draw = run_name(arm, seed), np.random.default_rng([seed, *arm.encode()])
        hard = np.random.default_rng(0).normal(1.5, 0.2, 60)
        losses = hard + shift + draw.normal(0, noise) + draw.normal(0, noise, 60)
        write_tsv(
            cluster_losses(run),
            [
                {"story": n, "tokens": 200 + n, "loss": loss}
                | ({} if causal is None else {"causal_loss": loss + causal})
                | {"reactive_loss": loss + 0.1}
                for n, loss in enumerate(losses.tolist())
            ],
        )
        details = {"sequences": 99, "val_bpb": 0.5, "future_leak": leak}
        write_json(scores_directory(run) / SCORES, details)
        sizes = {"parameters": 1000, "non_embedding_parameters": 400, "flops_per_token": 2000}
        write_json(model_directory(run) / TRAINING, sizes)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_planted_effects_are_found_and_their_absence_is_equivalence() -> None:
    arms = {"baseline": 0.0, "better": -0.05, "worse": 0.05, "same": 0.0}
    for arm, shift in arms.items():
        plant(arm, shift)
    summary, full = compare(list(arms), SEEDS, DECLARED, 499, 0.01, 42)
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
    _, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
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
    _, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 99, 0.01, 42)
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
    _, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
    difference = full["differences"]["ncn"]

    def width(interval: list[float]) -> float:
        return interval[2] - interval[1]

    assert width(difference["delta_ppl"]) > max(map(width, difference["by_seed"].values()))


@pytest.mark.usefixtures("here")
def test_with_one_seed_the_headline_is_that_pairs_interval() -> None:
    plant("baseline", 0.0, [1])
    plant("ncn", 0.01, [1])
    summary, full = compare(["baseline", "ncn"], [1], DECLARED, 499, 0.01, 42)
    mine = full["differences"]["ncn"]
    assert mine["by_seed"]["1"] == mine["delta_ppl"]
    assert full["arms"]["ncn"]["val_loss"]["sd"] is None
    assert mine["variance"]["seeds"] is None
    assert "two checkpoints" in full["in_words"]["ncn"]
    untested = ("p", "p_holm", "p_equivalent", "p_equivalent_holm", "equivalent")
    assert [mine[key] for key in (*untested, "smallest_detectable")] == [None] * 6
    assert full["comparisons"] == 0
    reactive = full["arms"]["ncn"]["scores"]["reactive"]
    assert reactive["ppl"] == pytest.approx(summary["ncn"]["val_ppl"] * math.exp(0.1))
    base = summary["baseline"]["val_ppl"]
    assert reactive["delta_ppl"][0] == pytest.approx(reactive["ppl"] - base)


@pytest.mark.usefixtures("here")
def test_what_more_seeds_would_find_is_the_power_of_a_t_test_on_their_scatter() -> None:
    plant("baseline", 0.0, [1])
    plant("ncn", 0.01, [1], noise=1e-7)
    _, full = compare(["baseline", "ncn"], [1], DECLARED, 499, 0.01, 42)
    found = full["differences"]["ncn"]["with_seeds"]
    for n, nats in found.items():
        # scipy.stats.nct: the power of a two-sided t test with n - 1 degrees of freedom
        shift = nats / (DECLARED.seed_sd / math.sqrt(int(n)))
        limit = student.ppf(0.975, int(n) - 1)
        missed = noncentral.cdf(limit, int(n) - 1, shift) - noncentral.cdf(
            -limit, int(n) - 1, shift
        )
        assert 1 - missed == pytest.approx(0.8, abs=0.005)
    assert found["10"] < found["5"]


@pytest.mark.usefixtures("here")
def test_summary_has_its_fixed_names_in_their_order() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0, causal=0.1, leak=1.0)
    summary, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
    names = ["delta_ppl", "delta_ppl_low", "delta_ppl_high", "val_ppl", "val_loss", "future_leak"]
    assert list(summary["ncn"]) == names
    assert list(summary["baseline"]) == names[3:]
    assert full["arms"]["ncn"]["non_embedding_parameters"] == 400


@pytest.mark.usefixtures("here")
def test_the_score_of_an_arm_trained_to_see_the_future_is_the_causal_one() -> None:
    plant("baseline", 0.0)
    plant("ncn", -0.2, causal=0.3, leak=1.0)
    summary, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
    scores = full["arms"]["ncn"]["scores"]
    assert list(scores) == ["as_trained", "causal", "reactive"]
    assert summary["ncn"]["val_loss"] == pytest.approx(scores["causal"]["loss"])
    assert scores["causal"]["loss"] == pytest.approx(scores["as_trained"]["loss"] + 0.3)
    assert scores["as_trained"]["delta_ppl"][2] < 0 < full["differences"]["ncn"]["delta_ppl"][1]
    assert full["differences"]["ncn"]["p_holm"] < 0.05
    assert "higher than the baseline's" in full["in_words"]["ncn"]


@pytest.mark.usefixtures("here")
def test_a_score_that_sees_the_future_is_not_in_holms_family() -> None:
    arms = ["baseline", "leaks", "ncn"]
    for arm in arms:
        plant(arm, -0.01, leak=1.0 if arm == "leaks" else 0.0)
    _, full = compare(arms, SEEDS, DECLARED, 499, 0.01, 42)
    mine, theirs = full["differences"]["ncn"], full["differences"]["leaks"]
    assert full["comparisons"] == 1
    assert mine["p_holm"] == mine["p"]
    assert (theirs["p"], theirs["p_holm"], theirs["equivalent"]) == (None, None, None)
    assert len(theirs["delta_ppl"]) == 3


@pytest.mark.usefixtures("here")
def test_differences_to_the_reference_are_corrected_with_the_others() -> None:
    shifts = {"baseline": 0.0, "ncn_causal": 0.02, "gain_only": 0.05}
    for arm, shift in shifts.items():
        plant(arm, shift)
    declared = Compare(primary="ncn_causal", reference="ncn_causal", seed_sd=0.014)
    _, full = compare(list(shifts), SEEDS, declared, 499, 0.01, 42)
    found = full["differences"]
    assert full["comparisons"] == 3
    assert "to_reference" not in found["ncn_causal"]
    beside = found["gain_only"]["to_reference"]
    assert beside["delta_loss"][0] == pytest.approx(0.03, abs=0.003)
    p = [found["ncn_causal"], found["gain_only"], beside]
    assert [each["p_holm"] for each in p] == holm([each["p"] for each in p])
    assert "The primary endpoint." in full["in_words"]["ncn_causal"]
    assert "Beside the reference arm: higher than ncn_causal's" in full["in_words"]["gain_only"]


@pytest.mark.usefixtures("here")
def test_seeds_that_were_not_scored_alike_are_not_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0, [1, 2], causal=0.1)
    plant("ncn", 0.0, [3])
    _, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
    assert "ncn-3/clusters.tsv lacks a column of losses" in full["in_words"]["ncn"]


@pytest.mark.usefixtures("here")
def test_a_missing_reference_is_named_and_the_rest_is_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0)
    declared = Compare(primary="gone", reference="gone", seed_sd=0.014)
    _, full = compare(["baseline", "ncn", "gone"], SEEDS, declared, 499, 0.01, 42)
    assert "to_reference" not in full["differences"]["ncn"]
    assert full["in_words"]["gone"].startswith("gone is not compared: ")
    assert "A secondary endpoint." in full["in_words"]["ncn"]


@pytest.mark.usefixtures("here")
def test_an_arm_that_cannot_be_read_is_named_and_the_others_are_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0)
    plant("broken", 0.0)
    rows = cluster_losses("broken-2").read_text().splitlines()
    rows[3] = "2\t202\tnan\t1.0"
    cluster_losses("broken-2").write_text("\n".join(rows))
    summary, full = compare(
        ["baseline", "ncn", "broken", "untrained"], SEEDS, DECLARED, 499, 0.01, 42
    )
    assert list(summary) == ["ncn", "baseline"]
    assert "loss of story 2 is not a finite number" in full["in_words"]["broken"]
    assert "untrained-1/clusters.tsv does not exist" in full["in_words"]["untrained"]
    assert len(full["missing"]) == 2
    with pytest.raises(InputError, match="no arm can be compared"):
        compare(["untrained"], SEEDS, DECLARED, 499, 0.01, 42)


@pytest.mark.usefixtures("here")
def test_an_arm_scored_on_other_text_is_not_compared() -> None:
    plant("baseline", 0.0)
    plant("ncn", 0.0)
    for seed in SEEDS:
        path = cluster_losses(run_name("ncn", seed))
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    _, full = compare(["baseline", "ncn"], SEEDS, DECLARED, 499, 0.01, 42)
    assert "scores other text than baseline" in full["in_words"]["ncn"]


def test_the_table_that_plots_diff_shows_has_the_baseline_and_each_difference_in_nats() -> None:
    found = {"delta_loss": [-0.02, -0.03, -0.01], "delta_ppl": [-0.2, -0.3, -0.1]}
    assert as_table({"differences": {"ncn": found}}) == [
        {"arm": "baseline", "difference": 0.0, "low": 0.0, "high": 0.0},
        {"arm": "ncn", "difference": -0.02, "low": -0.03, "high": -0.01},
    ]


@given(st.permutations(["baseline", "static", "ncn", "wide"]), st.sampled_from([None, "ncn", "x"]))
def test_the_primary_arm_comes_first_and_the_baseline_last(
    arms: list[str], primary: str | None
) -> None:
    ordered = in_order_of_interest({arm: arm.upper() for arm in arms}, primary)
    assert ordered == {arm: arm.upper() for arm in arms}
    assert list(ordered)[-1] == "baseline"
    assert (next(iter(ordered)) == primary) == (primary in arms)
    others = [arm for arm in arms if arm not in ("baseline", primary)]
    assert [arm for arm in ordered if arm in others] == others


def test_the_spread_that_one_seed_assumes_is_what_the_committed_run_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the primary arm; to a factor of two, as five seeds know it."""
    monkeypatch.chdir(ROOT)
    texts = [committed(path) for path in (Path("params.yaml"), COMPARISON)]
    if shutil.which("git") is None or not all(texts):
        pytest.skip("skipped: there is no git here, or no commit")
    declared = parse_yaml(texts[0])["compare"]
    found = json.loads(texts[1])
    primary = found["differences"].get(declared["primary"]) or {"variance": {"seeds": None}}
    if (variance := primary["variance"]["seeds"]) is None:
        pytest.skip("skipped: the committed run has one seed, or no primary arm")
    measured = math.sqrt(variance * len(found["seeds"]))
    assert declared["seed_sd"] / 2 < measured < 2 * declared["seed_sd"]
