"""The convergence measures, against the published log and against curves with known answers."""

import json
import shutil
import warnings

import numpy as np
import pytest

from ncn.analysis.convergence import classify, ewma, power_law, sample_efficiency, tokens_to_reach
from ncn.analysis.training_logs import analyse, analyse_log, by_arm, in_words, read_curve, stability
from ncn.common.errors import InputError
from ncn.common.paths import (
    CONVERGENCE,
    CURVES,
    PUBLISHED_RUN,
    run_name,
    training_log,
)
from ncn.common.tsv import read_tsv, write_tsv
from ncn.figures.palette import arm_colours
from ncn.published_run import published_penalty
from ncn.settings import load_params
from stages import convergence as stage
from tests.conftest import PARAMS, ROOT

TOKENS_PER_STEP = 64 * 512
STEPS = np.arange(10, 4010, 10)


@pytest.fixture(scope="module")
def run_1():
    return read_curve(ROOT / PUBLISHED_RUN, TOKENS_PER_STEP)


def decaying(rate, floor=1.5, height=5.0):
    return floor + height * np.exp(-STEPS * rate)


def test_the_spans_of_run_1_are_15_and_118(run_1):
    end = classify(run_1.steps, run_1.losses)
    assert len(run_1.losses) == 793
    assert (end.short_span, end.long_span) == (15, 118)


@pytest.mark.parametrize(
    ("threshold", "step", "sei"), [(0.05, 2400, 0.276333), (0.01, 4240, 0.232547)]
)
def test_the_phases_of_run_1_end_where_the_preprint_says(run_1, threshold, step, sei):
    phase = sample_efficiency(run_1.steps, run_1.losses, TOKENS_PER_STEP, threshold)
    assert (phase.step, phase.converged) == (step, True)
    assert phase.sei == pytest.approx(sei, abs=1e-6)


def test_the_sign_of_run_1s_last_slope_cannot_be_told(run_1):
    end = classify(run_1.steps, run_1.losses)
    last = slice(-118, None)
    expected = np.polyfit(run_1.steps[last] / 1000, run_1.losses[last], 1)[0]
    assert end.slope_per_1k == pytest.approx(expected)
    assert end.status == "diverging"  # by the published rule
    assert end.slope_low < -0.001 < 0 < end.slope_high  # by its interval: any of the three
    assert end.ending == "cannot be told"


@pytest.mark.parametrize(
    ("slope", "noise", "ending"),
    [
        (1e-5, 0.001, "diverging"),
        (1e-5, 0.1, "cannot be told"),
        (0.0, 0.0, "converged"),
        (-2e-7, 1e-5, "converged"),
        (-1e-5, 0.001, "still improving"),
        (-1e-6, 0.1, "cannot be told"),
    ],
)
def test_the_end_of_a_run_is_said_where_the_whole_interval_bears_it_out(slope, noise, ending):
    losses = 2 + slope * STEPS + np.random.default_rng(0).normal(0, noise, len(STEPS))
    assert classify(STEPS, losses).ending == ending


def test_a_short_run_has_no_ending():
    assert classify(STEPS[:3], [3.0, 2.0, 1.0]).ending == "undecided"


def test_the_index_of_run_1_hangs_on_the_smoothing_span(run_1):
    def sei(span):
        return sample_efficiency(
            run_1.steps, run_1.losses, TOKENS_PER_STEP, 0.05, smoothing_span=span
        ).sei

    assert sei(20) > 0.31
    assert sei(150) < 0.20


def test_the_ewma_is_the_uncorrected_recursion():
    values = np.random.default_rng(0).normal(size=40)
    expected = [values[0]]
    for value in values[1:]:
        expected.append(0.25 * value + 0.75 * expected[-1])  # span 7: alpha = 2 / 8
    np.testing.assert_allclose(ewma(values, 7), expected)


@pytest.mark.parametrize(
    ("losses", "status"),
    [
        (decaying(0.005), "converged"),
        (np.full(len(STEPS), 0.1 + 0.2), "converged"),
        (np.append(np.full(len(STEPS) - 1, 2.0), np.nextafter(2.0, 3.0)), "converged"),
        (decaying(0.0005), "still improving"),
        (3 - 2e-6 * STEPS, "still improving"),
        (3 - 0.5e-6 * STEPS, "converged"),
        (3 + 1e-6 * STEPS, "diverging"),
    ],
)
def test_the_status_follows_the_slope_of_the_end(losses, status):
    assert classify(STEPS, losses).status == status


def test_a_shift_of_the_loss_leaves_slope_and_status():
    losses = decaying(0.001) + np.random.default_rng(1).normal(0, 0.02, len(STEPS))
    one, other = classify(STEPS, losses), classify(STEPS, losses + 2)
    assert other.slope_per_1k == pytest.approx(one.slope_per_1k)
    assert other.status == one.status
    np.testing.assert_allclose(other.long, one.long + 2)


def test_the_slope_interval_covers_the_true_slope_as_often_as_it_says():
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        end = classify(STEPS, 2 - 0.01e-3 * STEPS + rng.normal(0, 0.05, len(STEPS)))
        hits += end.slope_low <= -0.01 <= end.slope_high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_index_of_a_power_law_is_its_exponent():
    losses = 40 * (STEPS * 2048.0) ** -0.25
    phase = sample_efficiency(STEPS, losses, 2048, 0.05)
    assert phase.converged
    assert phase.sei == pytest.approx(0.25)


def test_scaling_the_loss_or_the_tokens_leaves_the_index(run_1):
    one = sample_efficiency(run_1.steps, run_1.losses, 1, 0.05)
    other = sample_efficiency(run_1.steps, 3 * run_1.losses, 1000, 0.05)
    assert other.step == one.step
    assert other.sei == pytest.approx(one.sei)


def test_a_stricter_threshold_never_ends_the_phase_earlier(run_1):
    ends = [
        sample_efficiency(run_1.steps, run_1.losses, TOKENS_PER_STEP, threshold).step
        for threshold in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
    ]
    assert ends == sorted(ends)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (5 - 1e-3 * STEPS, "the phase has not ended"),
        (2 + 1e-3 * STEPS, "the loss never falls"),
        (np.full(len(STEPS), 0.1 + 0.2), "the loss never falls"),
    ],
)
def test_a_phase_that_has_not_ended_has_no_index(losses, reason):
    phase = sample_efficiency(STEPS, losses, 2048, 0.05)
    assert (phase.sei, phase.step, phase.converged) == (None, None, False)
    assert phase.reason == reason


def test_tokens_to_reach_ignores_a_lucky_window_and_does_not_trail():
    tokens = np.arange(1, 101) * 1000
    losses = np.linspace(5.95, 1, 100)
    losses[9], losses[-1] = 1.0, 0.4
    assert tokens_to_reach(tokens, losses, [5.0, 2.0, 0.5]) == {5.0: 20000, 2.0: 80000, 0.5: None}


def test_the_power_law_interval_covers_the_truth_as_often_as_it_says():
    tokens = np.arange(1, 121) * 50_000.0
    truth = {"a": 1.4, "b": 2000.0, "c": 0.5}
    rng, hits, runs = np.random.default_rng(3), dict.fromkeys(truth, 0), 150
    for _ in range(runs):
        noise = rng.normal(0, 0.03, len(tokens))
        fit = power_law(tokens, 1.4 + 2000 * tokens**-0.5 + noise)
        for name, value in truth.items():
            estimate = getattr(fit, name)
            hits[name] += estimate.low <= value <= estimate.high
    assert all(0.90 <= hit / runs <= 0.995 for hit in hits.values()), hits


def test_errors_that_persist_widen_the_power_law_interval():
    tokens = np.arange(1, 401) * 50_000.0
    losses = 1.4 + 2000 * tokens**-0.5
    white = np.random.default_rng(4).normal(0, 0.02, len(tokens))
    persistent = ewma(white, 20) * white.std() / ewma(white, 20).std()
    fits = [power_law(tokens, losses + noise) for noise in (white, persistent)]
    widths = [fit.c.high - fit.c.low for fit in fits]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize(
    "losses",
    [
        np.full(60, 2.0),
        np.linspace(2, 3, 60),
        np.linspace(9, 1, 60),
        2 + 0.5 * np.random.default_rng(5).random(60),
        decaying(0.001)[:10],
        [3.0],
    ],
    ids=["flat", "rising", "straight", "noise", "ten points", "one point"],
)
def test_a_curve_that_is_no_power_law_gets_a_reason_and_no_warning(losses):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = power_law(np.arange(1, len(losses) + 1) * 1e5, losses)
    assert fit.reason
    assert (fit.a, fit.b, fit.c) == (None, None, None)


@pytest.mark.parametrize(
    ("steps", "losses", "message"),
    [
        ([1, 2, 3], [3, 2], "one length"),
        ([], [], "at least one point"),
        ([[1, 2]], [[3, 2]], "one length"),
        ([1, 2, 3], [3, float("nan"), 2], "losses: point 2 is nan"),
        ([1, float("inf"), 3], [3, 2, 2], "steps: point 2 is inf"),
        ([1, 3, 3], [3, 2, 2], "steps must increase; 3 is followed by 3"),
        ([1, 2, 3], ["a", "b", "c"], "must be lists of numbers"),
    ],
)
def test_a_malformed_series_is_refused_in_one_line(steps, losses, message):
    measures = (classify, lambda s, y: sample_efficiency(s, y, 2048, 0.05))
    for measure in measures:
        with pytest.raises(InputError, match=message) as error:
            measure(steps, losses)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("losses", "per_step", "threshold", "message"),
    [
        ([3, 2, 0], 2048, 0.05, "losses: point 3 is 0"),
        ([3, 2, 1], 0, 0.05, "tokens_per_step is 0"),
        ([3, 2, 1], 2048, 1.0, "threshold is 1.0"),
    ],
)
def test_the_index_refuses_what_has_no_logarithm(losses, per_step, threshold, message):
    with pytest.raises(InputError, match=message):
        sample_efficiency([1, 2, 3], losses, per_step, threshold)


def test_a_series_too_short_to_judge_is_undecided():
    steps, losses = [10, 20, 30, 40], [4.0, 3.0, 2.0, 1.0]
    assert (classify(steps, losses).status, classify(steps, losses).slope_per_1k) == (
        "undecided",
        None,
    )
    phase = sample_efficiency(steps, losses, 2048, 0.05)
    assert not phase.converged
    assert "at least 5" in phase.reason


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    log = tmp_path / "ncn-1.tsv"
    for text, message in (
        ("step\tloss\n5\t3.0\n", "no column 'tokens'"),
        ("step\ttokens\tloss\n", "no rows"),
        ("step\ttokens\tloss\n5\t10\tx\n", "could not convert"),
        ("step\ttokens\tloss\n5\t10\t3.0\n5\t20\t2.0\n", "steps must increase"),
    ):
        log.write_text(text)
        with pytest.raises(InputError, match=message) as error:
            read_curve(log)
        assert str(log) in str(error.value)


def test_an_arm_keeps_its_colour_whatever_stands_beside_it():
    many = arm_colours(["run_1", "ncn_causal", "wide", "ncn", "baseline", "deep"])
    few = arm_colours(["baseline", "ncn", "ncn_causal"])
    assert few == {arm: many[arm] for arm in few}
    assert len(set(many.values())) == len(many)


def write_log(path, arm, seed, steps=STEPS):
    losses = decaying(0.002)[: len(steps)] + np.random.default_rng(seed).normal(0, 0.02, len(steps))
    rows = [
        {"arm": arm, "seed": seed, "step": step, "tokens": step * 2048, "loss": loss}
        for step, loss in zip(steps.tolist(), losses.tolist(), strict=True)
    ]
    write_tsv(path, rows)


def test_the_stage_is_a_function_of_the_runs_that_params_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / PUBLISHED_RUN.parent, PUBLISHED_RUN.parent)
    shutil.copy(PARAMS, "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    params = load_params()
    named = [(arm, seed) for arm in params.arms for seed in params.seeds]
    for arm, seed in [*named, ("removed", 9)]:
        write_log(training_log(run_name(arm, seed)), arm, seed)
    outputs = [CONVERGENCE, CURVES]
    stage.main()
    first = [path.read_bytes() for path in outputs]
    stage.main()
    assert [path.read_bytes() for path in outputs] == first
    metrics = json.loads(CONVERGENCE.read_text())
    assert list(metrics["runs"]) == [run_name(*run) for run in named]
    assert metrics["published run 1"]["grammar_95"]["step"] == 2400
    assert {row["arm"] for row in read_tsv(CURVES)} == {*params.arms, "published"}


def test_several_seeds_are_counted_in_words():
    ends = [classify(STEPS, 3 - 1e-5 * STEPS), classify(STEPS, 3 + 2e-5 * STEPS)]
    assert in_words(ends) == "1/2 still improving, 1/2 diverging, mean 0.005"
    assert in_words(ends[:1]).startswith("still improving, -0.01 [")


def test_a_summary_of_a_short_run_is_json_with_reasons(tmp_path):
    write_log(tmp_path / "log.tsv", "ncn", 1, STEPS[:3])
    _, summary = analyse(read_curve(tmp_path / "log.tsv"), load_params(PARAMS).convergence)
    assert summary["ending"] == summary["by_the_published_rule"] == "undecided"
    assert summary["power_law"]["reason"]
    json.dumps(summary, allow_nan=False)


def test_spikes_and_a_collapsed_scaler_are_seen_and_their_absence_too():
    smooth = [
        {"step": f"{step}", "loss": f"{loss}", "loss_scale": "65536"}
        for step, loss in enumerate(decaying(0.002)[:200], 1)
    ]
    clean = stability(smooth)
    assert clean["spikes"] is None  # a log that does not count step by step
    assert (clean["logged_spikes"], clean["not_finite"], clean["loss_scale_min"]) == (0, 0, 65536)
    rough = [dict(row) for row in smooth]
    rough[190]["loss"] = "6.5"
    rough[150]["loss"] = "nan"
    rough[160]["loss_scale"] = "0.5"
    seen = stability(rough)
    assert (seen["logged_spikes"], seen["not_finite"], seen["loss_scale_min"]) == (1, 1, 0.5)
    assert stability([{"loss": "3.0", "loss_scale": ""}])["loss_scale_min"] is None


def test_the_warm_up_does_not_count_and_fp32_has_no_scaler():
    rows = [
        {"step": f"{step}", "loss": "3.0", "loss_scale": "1.0", "skipped": "0", "spikes": spikes}
        for step, spikes in (("5", "2"), ("10", "1"), ("15", "0"), ("20", "3"))
    ]
    assert (stability(rows)["spikes"], stability(rows)["steps"]) == (6, 20)
    after = stability(rows, warmup_steps=10)
    assert (after["spikes"], after["steps"]) == (3, 10)
    assert stability(rows, warmup_steps=8)["spikes"] == 4  # the row that begins at step 5 ends it
    assert after["loss_scale_min"] is after["skipped"] is None
    rows[3]["skipped"] = "2"
    assert (stability(rows)["loss_scale_min"], stability(rows)["skipped"]) == (1.0, 2)
    assert stability(rows, warmup_steps=100)["steps"] == 5  # the last row, where all is warm-up


def test_the_published_penalty_stays_in_the_range_of_untrained_control_networks(tmp_path):
    penalty = published_penalty(ROOT / PUBLISHED_RUN)
    assert penalty["at_zero"] == pytest.approx(0.00338, abs=5e-6)
    assert (penalty["points"], penalty["points_outside"]) == (793, 0)
    (tmp_path / "moved.tsv").write_text("reg\n0.0034\n0.0031\n0.0037\n")
    assert published_penalty(tmp_path / "moved.tsv")["points_outside"] == 2
    (tmp_path / "other.tsv").write_text("reg\n0.0034\nmuch\n")
    with pytest.raises(InputError, match=r"other\.tsv: not as a stage writes it"):
        published_penalty(tmp_path / "other.tsv")


def test_a_log_that_cannot_be_used_leaves_the_others_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / PUBLISHED_RUN.parent, PUBLISHED_RUN.parent)
    shutil.copy(PARAMS, "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    write_log(training_log("ncn-1"), "ncn", 1)
    broken = training_log("ncn_causal-1")
    broken.write_text("step\ttokens\tloss\n5\t10\t3.0\n10\t20\tnan\n")
    stage.main()
    metrics = json.loads(CONVERGENCE.read_text())
    assert metrics["arms"]["ncn"]["last_loss"]["n"] == 1
    assert metrics["arms"]["baseline"]["last_loss"] == {"n": 0, "mean": None, "sd": None}
    assert "losses: point 2 is nan" in metrics["runs"]["ncn_causal-1"]["reason"]
    assert len(metrics["missing"]) == 2
    PUBLISHED_RUN.unlink()
    stage.main()
    assert "run_1.tsv" in json.loads(CONVERGENCE.read_text())["missing"][-1]


def test_several_seeds_have_a_mean_and_a_spread(tmp_path):
    settings = load_params(PARAMS).convergence
    logs = []
    for seed in (1, 2, 3):
        write_log(tmp_path / f"{seed}.tsv", "ncn", seed)
        logs.append(analyse_log(tmp_path / f"{seed}.tsv", "ncn", str(seed), settings))
    arm = by_arm(logs)
    reached = [log.summary["tokens_to_reach"]["3.0"] for log in logs]
    assert arm["tokens_to_reach"]["3.0"]["mean"] == pytest.approx(np.mean(reached))
    assert arm["tokens_to_reach"]["3.0"]["sd"] == pytest.approx(np.std(reached, ddof=1))
    assert arm["grammar_95"]["step"]["n"] == 3
