"""Every claim's verdict, fed with planted results of both kinds, and with none."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ncn.claims.judge import CLAIMS, judge, judged_arms
from ncn.claims.rule import NO, UNDECIDED, UNTESTABLE, YES, Metrics, read_metrics
from ncn.common.paths import CLAIMS as CLAIMS_FILE
from ncn.settings import Params
from ncn.signals import SIGNALS
from ncn.training import spikes
from tests.claims.answered import RIVALS, answered, descended

ARMS = ("baseline", "ncn", "ncn_causal", *RIVALS)
# Undecided in favourable metrics too: the training loss of an arm that reads the future.
UNFIT = {"efficiency.ncn": UNDECIDED}
VERDICTS = {YES, NO, UNDECIDED, UNTESTABLE}
Change = Callable[[dict[str, Any]], None]


def every(value: Any) -> dict[str, Any]:
    """`value` for each arm and each of two seeds."""
    return {f"{arm}-{seed}": copy.deepcopy(value) for arm in ARMS for seed in (1, 2)}


def phase(step: int) -> dict[str, Any]:
    return {"step": step, "step_by_smoothing_span": {"25": step - 10, "100": step + 10}}


def favourable() -> dict[str, Any]:
    """Metrics in which every claim holds that this run can test."""
    curve = {
        "stability": {"spikes": 0, "largest_rise": 0.1, "not_finite": 0, "loss_scale_min": 65536.0},
        "grammar_95": phase(100),
        "intellectual_99": phase(200),
    }
    curves = descended(every(curve))
    for seed in (1, 2):
        curves[f"baseline-{seed}"] |= {"grammar_95": phase(300), "intellectual_99": phase(400)}
    tests = {
        "specialisation": {"precision": {"layer_means": [1.5, 0.7, 1.0, 1.0], "p_holm": 0.01}},
        "word": {
            "occurrences": 90,
            "signals": {
                "gain": {"effect": 1.2, "p_tokens_holm": 0.02, "p_initialisations_holm": 0.02},
                "ffn_gate": {"effect": 0.1, "p_tokens_holm": 0.8, "p_initialisations_holm": 0.9},
            },
        },
        "gain_range": {"low": 0.991, "high": 1.04, "share_inside": 1.0},
        "easy_tokens": {
            "signals": {"ffn_gate": {"rho": [0.4, 0.3, 0.5]}},
            "gate_easiest": 0.2,
            "gate_hardest": 0.9,
        },
    }
    probes = {
        "cache": {"difference": 1e-5, "largest_logit": 20.0, "salience": "causal"},
        "cost": {"parameter_share": 0.016, "flop_share": 0.01},
        "gradient_elasticity": {"direct": [1.0, 1.0], "total": [0.9, 1.1]},
        "half_precision": [
            {"precision": 1.0, "loss": 1.0, "loss_fp16": 1.001},
            {"precision": 4.0, "loss": 1.0, "loss_fp16": 1.001},
            {"precision": 8.0, "loss": 1.0, "loss_fp16": None},
        ],
    }
    interval = {"mean": 1.5, "low": 1.49, "high": 1.51}
    better = {"delta_ppl": [-0.2, -0.3, -0.1]}
    kept = {f"{arm}-{seed}": [1, 2] * 15 for arm in ARMS for seed in (1, 2)}
    kept |= {f"baseline-{seed}": [1, 0] * 15 for seed in (1, 2)}
    return {
        "summary": {arm: {"future_leak": 0.5 if arm == "ncn" else 0.0} for arm in ARMS},
        "comparison": {
            "seeds": [1, 2],
            "arms": {
                arm: {"val_loss": interval, "val_ppl": {"mean": 5.7, "low": 5.6, "high": 5.8}}
                | {"scores": {"as_trained": {}} | ({"causal": {}} if arm == "ncn" else {})}
                for arm in ARMS
            },
            "differences": {
                arm: better | {"equivalent": False, "p_holm": 0.01} for arm in ARMS[1:]
            },
        },
        "convergence": {
            "runs": curves,
            "published run 1": {
                "grammar_95": {"step": 2400},
                "intellectual_99": {"step": 4240},
                "penalty": {
                    "points": 793,
                    "low": 0.001,
                    "high": 0.02,
                    "at_zero": 0.00338,
                    "points_away": 700,
                },
            },
        },
        "scans": every(tests),
        "evaluations": answered(every({"probes": probes})),
        "benchmark": {"training_step": {"arms": {arm: {"ratio": 1.01} for arm in ARMS}}},
        "samples": {"recall": {"things": [2] * 30, "text": [1] * 30, "runs": kept}},
    }


@pytest.fixture
def experiment(published: Params) -> Params:
    """The published experiment, over two seeds and with the arms that some claims are about."""
    return published.model_copy(update={"seeds": [1, 2], "arms": published.arms | RIVALS})


def verdicts(params: Params, content: dict[str, Any]) -> dict[str, str]:
    found = {each["id"]: each["verdict"] for each in judge(Metrics(params, **content))["claims"]}
    return {name: each for name, each in found.items() if UNFIT.get(name) != each}


def test_favourable_metrics_support_every_claim(experiment: Params) -> None:
    assert set(verdicts(experiment, favourable()).values()) == {YES}


def in_each_run(name: str, key: str, change: Change) -> Change:
    def apply(content: dict[str, Any]) -> None:
        for run in content[name].values():
            change(run[key])

    return apply


def curves(change: Change) -> Change:
    def apply(content: dict[str, Any]) -> None:
        for run, curve in content["convergence"]["runs"].items():
            if not run.startswith("baseline"):
                change(curve)

    return apply


def compared(change: Change) -> Change:
    def apply(content: dict[str, Any]) -> None:
        for difference in content["comparison"]["differences"].values():
            change(difference)

    return apply


def put(**values: Any) -> Change:
    return lambda content: content.update(values)


def scored(name: str, **values: float) -> Change:
    def apply(content: dict[str, Any]) -> None:
        for arm in content["comparison"]["arms"].values():
            arm[name] = values

    return apply


def scan(test: str, **values: Any) -> Change:
    return in_each_run("scans", test, put(**values))


def probes(**values: Any) -> Change:
    return in_each_run("evaluations", "probes", put(**values))


def scaled(**values: Any) -> Change:
    return curves(lambda curve: curve["stability"].update(values))


def recalled(times: Sequence[int], baseline: Sequence[int] = (1, 0)) -> Change:
    """Of the two things of each row, how many the arms name again, and the baseline."""

    def apply(content: dict[str, Any]) -> None:
        runs = content["samples"]["recall"]["runs"]
        for run in runs:
            runs[run] = [*(baseline if run.startswith("baseline") else times)] * 15

    return apply


REVERSED = {"layer_means": [0.7, 1.5], "p_holm": 0.01}
ORDINARY = {"layer_means": [1.5, 0.7], "p_holm": 0.3}
SLOW = {"training_step": {"arms": {arm: {"ratio": 1.4} for arm in ARMS}}}
FINE = {"precision": 8.0, "loss": 1.0, "loss_fp16": 1.0}
BAD = {"precision": 2.0, "loss": 1.0, "loss_fp16": None}
LIKE_OTHERS = {"effect": 0.1, "p_tokens_holm": 0.5, "p_initialisations_holm": 0.01}


@pytest.mark.parametrize(
    ("claim", "change", "verdict"),
    [
        ("stable", scaled(spikes=2), NO),
        ("stable", scaled(not_finite=1), NO),
        ("stable", scaled(loss_scale_min=0.5), NO),
        ("stable", scaled(loss_scale_min=None), YES),
        ("perplexity", scored("val_loss", mean=1.6, low=1.59, high=1.61), NO),
        ("perplexity", scored("val_loss", mean=1.52, low=1.50, high=1.54), UNDECIDED),
        ("plateau", scored("val_ppl", mean=4.5, low=4.4, high=4.6), NO),
        ("plateau", scored("val_ppl", mean=5.5, low=5.4, high=5.6), UNDECIDED),
        ("below_plain", compared(put(delta_ppl=[0.2, 0.1, 0.3])), NO),
        (
            "below_plain",
            compared(put(delta_ppl=[0.0, -0.1, 0.1])),
            UNDECIDED,
        ),
        ("grammar", curves(put(grammar_95=phase(350))), NO),
        ("grammar", curves(put(grammar_95=phase(100) | {"step": None})), UNDECIDED),
        ("meaning", curves(put(intellectual_99=phase(500))), NO),
        ("layers", scan("specialisation", precision=REVERSED), NO),
        ("layers", scan("specialisation", precision=ORDINARY), NO),
        ("but", scan("word", signals={"gain": LIKE_OTHERS}), NO),
        ("gain_range", scan("gain_range", share_inside=0.4), NO),
        ("gate", scan("easy_tokens", gate_easiest=0.9), NO),
        ("gate", scan("easy_tokens", signals={"ffn_gate": {"rho": [0.0, -0.1, 0.1]}}), NO),
        ("shielding", probes(gradient_elasticity={"direct": [1.0], "total": [-0.3]}), NO),
        ("shielding", probes(gradient_elasticity={"direct": [0.5], "total": [0.9]}), NO),
        ("overhead", probes(cost={"parameter_share": 0.1, "flop_share": 0.2}), NO),
        ("overhead", put(benchmark=SLOW), NO),
        ("overhead", put(benchmark={}), UNDECIDED),
        ("fp16", probes(half_precision=[FINE]), NO),
        ("fp16", probes(half_precision=[BAD, FINE]), NO),
        (
            "cache",
            probes(cache={"difference": 3.0, "largest_logit": 20.0, "salience": "reactive"}),
            NO,
        ),
        ("objects", recalled([0, 0]), NO),
        ("objects", recalled([1, 0]), NO),
        ("objects", recalled([0, 1]), UNDECIDED),
        ("objects", recalled([0, 0], baseline=[0, 0]), UNDECIDED),
        ("objects", put(samples={"recall": {"things": [1], "text": [1], "runs": {}}}), UNDECIDED),
    ],
)
def test_a_verdict_flips_with_its_evidence_and_no_other_does(
    experiment: Params, claim: str, change: Change, verdict: str
) -> None:
    content = favourable()
    change(content)
    found = verdicts(experiment, content)
    mine = {name: each for name, each in found.items() if name.split(".")[0] == claim}
    assert set(mine.values()) == {verdict}
    others = {"but", "layers"} if claim in ("but", "layers") else set()
    assert {v for n, v in found.items() if n.split(".")[0] not in {claim, *others}} == {YES}


def test_equivalent_arms_are_not_below_the_plain_transformer(experiment: Params) -> None:
    content = favourable()
    for ends in ([-0.001, -0.003, 0.001], [-0.002, -0.003, -0.001]):  # even where clearly below
        compared(put(equivalent=True, delta_ppl=ends))(content)
        assert verdicts(experiment, content)["below_plain.ncn_causal"] == NO


def test_a_difference_that_holm_takes_for_chance_decides_nothing(experiment: Params) -> None:
    content = favourable()
    content["comparison"]["differences"]["ncn_causal"] |= {"p_holm": 0.06}
    assert verdicts(experiment, content)["below_plain.ncn_causal"] == UNDECIDED


def test_a_test_that_nothing_could_pass_decides_nothing(experiment: Params) -> None:
    few = experiment.brain_scan.model_copy(update={"initialisations": 9})
    small = experiment.model_copy(update={"brain_scan": few})
    content = favourable()
    scan("specialisation", precision=ORDINARY)(content)
    scan("word", signals={"gain": LIKE_OTHERS})(content)
    for settings, verdict in ((experiment, NO), (small, UNDECIDED)):
        found = verdicts(settings, content)
        assert found["layers.ncn"] == found["but.ncn"] == verdict
    enough = experiment.brain_scan.model_copy(update={"initialisations": 39})
    for signals, verdict in ((1, NO), (2, UNDECIDED)):  # Holm multiplies 1 in 40 by so many
        names = list(SIGNALS)[:signals]
        scan("word", signals=dict.fromkeys(names, LIKE_OTHERS))(content)
        found = verdicts(experiment.model_copy(update={"brain_scan": enough}), content)
        assert found["but.ncn"] == verdict
    scan("specialisation", precision=REVERSED)(content)
    assert verdicts(small, content)["layers.ncn"] == NO


def test_one_seed_decides_nothing_about_the_method(experiment: Params) -> None:
    content = favourable()
    content["comparison"]["seeds"] = [1]
    compared(put(p_holm=None, equivalent=None))(content)
    found = verdicts(experiment.model_copy(update={"seeds": [1]}), content)
    assert found["below_plain.ncn_causal"] == found["grammar.ncn"] == UNDECIDED
    assert found["cache.ncn"] == YES


def test_a_model_that_sees_the_future_is_judged_by_its_causal_score_alone(
    experiment: Params,
) -> None:
    content = favourable()
    (mine,) = (
        each
        for each in judge(Metrics(experiment, **content))["claims"]
        if each["id"] == "below_plain.ncn"
    )
    assert mine["verdict"] == YES
    assert "scored causally: as trained it reads the future (leak 0.5)" in mine["evidence"]
    content["comparison"]["arms"]["ncn"]["scores"].pop("causal")
    found = verdicts(experiment, content)
    assert (found["below_plain.ncn"], found["below_plain.ncn_causal"]) == (UNDECIDED, YES)


def test_another_experiment_cannot_test_the_published_perplexities(params: Params) -> None:
    small = params.model_copy(update={"seeds": [1, 2], "arms": params.arms | RIVALS})
    found = verdicts(small, favourable())
    testable = {name for name, verdict in found.items() if verdict != UNTESTABLE}
    assert {"perplexity.ncn", "perplexity.ncn_causal", "plateau"} == set(found) - testable


def test_the_published_penalty_decides_whether_its_control_network_was_trained(
    experiment: Params,
) -> None:
    content = favourable()
    content["convergence"]["published run 1"]["penalty"]["points_away"] = 0
    assert verdicts(experiment, content)["trained"] == NO


def test_without_a_control_network_its_claims_are_not_testable(experiment: Params) -> None:
    plain = experiment.model_copy(update={"arms": {"baseline": {"controller": "none"}}})
    found = verdicts(plain, favourable())
    assert found["gate"] == found["cache"] == UNTESTABLE
    assert found["plateau"] == YES


def test_a_claim_asks_of_an_arm_the_signals_that_it_is_about(experiment: Params) -> None:
    arms = {"baseline": {"controller": "none"}, "ncn": {"signals": ["gain"]}}
    arms |= {"ncn_causal": {"signals": ["gain", "ffn_gate"], "salience": "causal"}}
    found = verdicts(experiment.model_copy(update={"arms": arms}), favourable())
    by_claim: dict[str, list[str]] = {}
    for name in found:
        claim, _, arm = name.partition(".")
        by_claim.setdefault(claim, []).append(arm)
    assert by_claim["gain_range"] == by_claim["cache"] == ["ncn", "ncn_causal"]
    assert by_claim["gate"] == ["ncn_causal"]
    lacking = {"layers", "fp16", "argmax", "clamp", "shock", "dynamic.ncn", "dynamic.ncn_causal"}
    assert {name for name, verdict in found.items() if verdict == UNTESTABLE} == lacking
    assert {v for n, v in found.items() if n not in lacking} == {YES}


def test_the_arm_judged_is_the_one_nearest_to_the_published_form(experiment: Params) -> None:
    arms = {"gain_only": {"signals": ["gain"]}, "frozen": {"frozen": True}, "still": {}}
    arms |= {"twin": {}, "static": {"controller": "static"}, "reactive": {"salience": "reactive"}}
    several = experiment.model_copy(update={"arms": arms})
    assert judged_arms(several, ()) == judged_arms(several, ("gain", "precision")) == ["still"]
    alone = experiment.model_copy(update={"arms": {"gain_only": {"signals": ["gain"]}}})
    assert judged_arms(alone, ("gain",)) == ["gain_only"]
    assert judged_arms(alone, ("precision",)) == []


def test_the_rule_of_stability_quotes_what_counts_as_a_spike() -> None:
    (rule,) = (claim.rule_in_words for claim in CLAIMS if claim.name == "stable")
    assert f"more than {spikes.DEVIATIONS:g} robust standard deviations" in rule
    assert f"up to {spikes.STEPS} losses before it, of at least {spikes.MINIMUM})" in rule


@pytest.mark.parametrize(
    ("lowest", "skipped", "words"),
    [
        (None, None, "no loss scaler was in use"),
        (1.0, 0, "no loss scaler was in use"),  # fp32, bf16: every row says 1
        (1.0, 16, "lowest loss scale 1"),
        (32768.0, 1, "lowest loss scale 32768"),
    ],
)
def test_a_loss_scale_is_told_only_where_a_scaler_was_in_use(
    experiment: Params, lowest: float | None, skipped: int | None, words: str
) -> None:
    content = favourable()
    scaled(loss_scale_min=lowest, skipped=skipped)(content)
    found = judge(Metrics(experiment, **content))["claims"]
    assert f"; {words}." in next(each["evidence"] for each in found if each["id"] == "stable.ncn")


@pytest.mark.parametrize("name", list(favourable()))
def test_a_missing_input_is_named_and_nothing_breaks(experiment: Params, name: str) -> None:
    found = judge(Metrics(experiment, **(favourable() | {name: {}})))["claims"]
    assert {each["verdict"] for each in found} <= {YES, UNDECIDED}
    undecided = [each for each in found if each["verdict"] == UNDECIDED]
    assert undecided
    assert all(each["evidence"].startswith("Missing: ") for each in undecided)


def poisoned(value: Any) -> Any:
    """Every fraction in a nested value turned into NaN."""
    if isinstance(value, dict):
        return {key: poisoned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return float("nan") if isinstance(value, float) else value


def test_nan_everywhere_supports_nothing_that_rests_on_it(experiment: Params) -> None:
    found = judge(Metrics(experiment, **poisoned(favourable())))
    json.dumps(found, allow_nan=False)
    resting = [each for each in found["claims"] if each["evidence"].startswith("Missing")]
    assert len(resting) >= 0.6 * len(found["claims"])


def test_an_empty_folder_gives_a_verdict_on_every_claim(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = judge(read_metrics(params))["claims"]
    assert {each["id"].split(".")[0] for each in found} == {claim.name for claim in CLAIMS}
    assert {each["verdict"] for each in found} == {UNDECIDED, UNTESTABLE}
    assert not CLAIMS_FILE.exists()


def test_every_entry_says_how_its_verdict_follows(experiment: Params) -> None:
    fields = [
        "id", "claim", "source", "verdict", "evidence", "figure", "interval", "unit", "arm",
        "rule", "command",
    ]  # fmt: skip
    for each in judge(Metrics(experiment, **favourable()))["claims"]:
        assert list(each) == fields
        assert each["verdict"] in VERDICTS
        assert "upported" in each["rule"]
        assert each["evidence"].endswith(".")


def test_metrics_of_another_form_are_said_to_be_so(experiment: Params) -> None:
    def bent(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bent(each) for key, each in value.items()}
        return ["?"]

    found = judge(Metrics(experiment, **bent(favourable())))["claims"]
    assert YES not in {each["verdict"] for each in found}
    assert {each["verdict"] for each in found} <= {UNDECIDED, UNTESTABLE}
