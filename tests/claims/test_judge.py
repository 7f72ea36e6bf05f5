"""Every claim's verdict, fed with planted results of both kinds, and with none."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ncn.analysis.training_logs import analyse_log
from ncn.claims.judge import CLAIMS, judge, judged_arms
from ncn.claims.rule import (
    NEGLIGIBLE,
    NO,
    UNDECIDED,
    UNTESTABLE,
    YES,
    Metrics,
    most_of,
    over_seeds,
    read_metrics,
)
from ncn.claims.training import COLLAPSES, surely_above
from ncn.common.errors import InputError
from ncn.common.paths import CLAIMS as CLAIMS_FILE
from ncn.common.paths import PUBLISHED_RUN
from ncn.published.run_1 import (
    FREE_SETTINGS,
    PUBLISHED_HEATMAPS,
    PUBLISHED_SETTINGS,
    PUBLISHED_STARTS,
    differences_to_published,
)
from ncn.published.text import rows_beside_published
from ncn.settings import Params, load_params
from ncn.signals import SIGNALS
from ncn.statistics.interval import LEVEL
from ncn.training import spikes
from tests.claims.answered import PLAIN, RIVALS, answered, descended
from tests.conftest import PARAMS, ROOT

ARMS = ("baseline", "ncn", "ncn_causal", *RIVALS)
# Not supported by favourable metrics either: the training loss of an arm that reads the future.
# No arm of the published experiment is told a task.
UNFIT = {"efficiency.ncn": UNDECIDED, "multi_task": UNTESTABLE}
VERDICTS = {YES, NEGLIGIBLE, NO, UNDECIDED, UNTESTABLE}
TIMED = (*ARMS, "plain")
UNCLAMPED = "unclamped"
FROM_FIGURES = {"precision_published", "gates_published"}  # of run 1 alone: no metrics change them
Change = Callable[[dict[str, Any]], None]


def every(value: Any) -> dict[str, Any]:
    """`value` for each arm and each of two seeds."""
    return {f"{arm}-{seed}": copy.deepcopy(value) for arm in ARMS for seed in (1, 2)}


def phase(step: int | None) -> dict[str, Any]:
    others = (None, None) if step is None else (step - 10, step + 10)
    return {"step": step, "step_by_smoothing_span": dict(zip(("25", "100"), others, strict=True))}


def overflowing(at: Sequence[float]) -> list[dict[str, float]]:
    """Probes of fp16 in which the gradients overflow at 2^16 from the precisions `at` on."""
    return [
        {"precision": p, "scale_log2": 15 if p in at else 18, "qkv_gradient": p}
        for p in (1.0, 4.0, 8.0, 64.0)
    ]


def again(forgotten: Sequence[float], learned: Sequence[float] = (1.0, 1.0)) -> dict[str, Any]:
    """An entry of metrics/adaptation.json."""
    return {"by_seed": {"forgotten": list(forgotten), "learned": list(learned)}}


def common(*gates: float, difference: Sequence[float] = (-0.5, -0.6, -0.4)) -> dict[str, Any]:
    return {"common": {"layers": [{"common": g, "difference": list(difference)} for g in gates]}}


DEEPER = {
    "effect": [1.2, 1.0, 1.4],
    "same_side": 0.95,
    "p_tokens": 0.01,
    "p_initialisations": 0.01,
    "identity": 0.7,
}


def switched(anew: float) -> dict[str, Any]:
    return {"switching": {"forms": {"told anew": {"ratio": anew}, "told nothing": {"ratio": 0.99}}}}


SWITCHED = switched(1.01)


def by_layer(*rho: float) -> dict[str, Any]:
    return {"layers": [{"layer": n, "rho": [r, r - 0.1, r + 0.1]} for n, r in enumerate(rho, 1)]}


def steered(*slopes: float) -> dict[str, Any]:
    """What of metrics/samples.json is about sliders, of the seeds in turn."""
    found = {
        f"{arm}-{seed}": {
            name: {"slope": [slope + more, slope, slope + 0.2]}
            for name, more in (("dialogue", 0.1), ("token_bytes", 0.0))
        }
        for arm in ARMS
        for seed, slope in zip((1, 2), slopes, strict=True)
    }
    return {"steering": found}


def favourable() -> dict[str, Any]:
    """Metrics in which every claim holds that this run can test."""
    curve = {
        "last_step": 1000,
        "stability": {"spikes": 0, "steps": 900, "not_finite": 0, "loss_scale_min": 65536.0},
        "grammar_95": phase(100),
        "intellectual_99": phase(None),
    }
    curves = descended(every(curve))
    for seed in (1, 2):
        curves[f"baseline-{seed}"] |= {"grammar_95": phase(300)}
        curves[f"{UNCLAMPED}-{seed}"]["stability"]["loss_scale_min"] = 0.5
    tests = {
        "specialisation": {"precision": {"layer_means": [1.0, 1.5, 0.7, 1.0], "p_holm": 0.01}},
        "word": {"occurrences": 90, "matched": 99, "signals": {}, "deeper": DEEPER},
        "gain_range": {"low": 0.991, "high": 1.04, "share_inside": 1.0},
        "easy_tokens": common(0.8, 0.05),
        "temperature": by_layer(-0.4, -0.2),
    }
    probes = {
        "cache": {
            "difference": 1e-5,
            "salience_difference": 0.0,
            "largest_logit": 20.0,
            "salience": "causal",
        },
        "cost": {"parameter_share": 0.016, "flop_share": 0.01},
        "gradient_by_gain": {"doses": [0.0, 0.5], "ratio": [[0.0, 0.5], [0.0, 0.6]]},
        "half_precision": overflowing([8.0, 64.0]),
        "gate_closed": {"all": 0.1, "layers": [0.1, 0.001]},
    }
    interval = {"mean": 1.5, "low": 1.49, "high": 1.51}
    better = {"delta_ppl": [-0.2, -0.3, -0.1], "delta_loss": [-0.1, -0.15, -0.05]}
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
                "last_step": 1000,
                "grammar_95": phase(100),
                "intellectual_99": phase(None),
                "penalty": {
                    "points": 793,
                    "low": 0.001,
                    "high": 0.02,
                    "untrained": [0.0032, 0.0036],
                    "points_outside": 700,
                },
            },
        },
        "scans": every(tests),
        "evaluations": answered(every({"probes": probes})),
        "benchmark": {"training_step": {"arms": {arm: {"ratio": 1.01} for arm in TIMED}}}
        | SWITCHED,
        "samples": {
            "recall": {"things": [2] * 30, "text": [1] * 30, "runs": kept}
            | {"shuffled_runs": every([0] * 28 + [1, 1])}
        }
        | steered(0.5, 0.51),
        "adaptation": {
            "arms": {
                f"{arm}-{method}": again([0.1, 0.11] if arm in PLAIN else [0.05, 0.06])
                for arm in ARMS
                for method in ("full", "replay")
            }
        },
    }


@pytest.fixture
def experiment(published: Params) -> Params:
    """The published experiment, over two seeds, with the arms that some claims are about."""
    arms = published.arms | RIVALS | {"plain": {"controller": "none", "match": "none"}}
    return published.model_copy(update={"seeds": [1, 2], "arms": arms})


def judged(params: Params, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every claim that the metrics decide."""
    found = judge(Metrics(params, **content))["claims"]
    return [
        each
        for each in found
        if each["id"] not in FROM_FIGURES and UNFIT.get(each["id"]) != each["verdict"]
    ]


def verdicts(params: Params, content: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["verdict"] for each in judged(params, content)}


def evidence(params: Params, content: dict[str, Any], name: str) -> str:
    return next(str(each["evidence"]) for each in judged(params, content) if each["id"] == name)


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
            if not run.startswith(("baseline", UNCLAMPED)):
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


def shuffled_alike() -> Change:
    """Every model names as much in another row: the things are those of any story."""

    def apply(content: dict[str, Any]) -> None:
        recall = content["samples"]["recall"]
        recall["shuffled_runs"] = recall["runs"]

    return apply


def barely_more() -> Change:
    """Of 2,400 things in 1,200 rows the arms name 50 more than the baseline, of 1,200."""

    def apply(content: dict[str, Any]) -> None:
        recall = content["samples"]["recall"]
        recall |= {"things": [2] * 1200, "text": [1] * 1200}
        more = [2] * 50 + [1] * 1150
        recall["runs"] = {r: [1] * 1200 if r.startswith("base") else more for r in recall["runs"]}
        recall["shuffled_runs"] = every([0] * 1200)

    return apply


def layers(*means: float, p_holm: float = 0.01) -> Change:
    return scan("specialisation", precision={"layer_means": list(means), "p_holm": p_holm})


def at_word(**values: Any) -> Change:
    return scan("word", deeper=DEEPER | values)


def ratios(*by_layer: Sequence[float | None]) -> Change:
    return probes(gradient_by_gain={"doses": [0.0, 0.5], "ratio": [list(r) for r in by_layer]})


def gate(*gates: float, difference: Sequence[float] = (-0.5, -0.6, -0.4)) -> Change:
    return scan("easy_tokens", **common(*gates, difference=difference))


def cache(**values: Any) -> Change:
    return in_each_run("evaluations", "probes", lambda each: each["cache"].update(values))


def unlike(change: Change, other: Change) -> Change:
    """`change` for the runs of the first seed, `other` for those of the second."""

    def apply(content: dict[str, Any]) -> None:
        for seed, each in ((1, change), (2, other)):
            part = copy.deepcopy(content)
            each(part)
            for name in ("scans", "evaluations"):
                mine = {run: part[name][run] for run in content[name] if run.endswith(f"-{seed}")}
                content[name] = content[name] | mine
            runs = content["convergence"]["runs"]
            runs.update({r: part["convergence"]["runs"][r] for r in runs if r.endswith(f"-{seed}")})

    return apply


def adapted(mine: dict[str, Any], **others: dict[str, Any]) -> Change:
    """What second trainings in full did to the arms that are judged, and to others."""
    entries = {"ncn": mine, "ncn_causal": mine} | others
    made = {f"{arm}-full": entry for arm, entry in entries.items()}
    return lambda content: content["adaptation"]["arms"].update(made)


def trained_once(content: dict[str, Any]) -> None:
    content["adaptation"] = {}


def steering(*slopes: float) -> Change:
    return lambda content: content["samples"].update(steered(*slopes))


SLOW = {"training_step": {"arms": {arm: {"ratio": 1.4} for arm in ARMS} | {"plain": {"ratio": 1}}}}
WIDENED = {"training_step": {"arms": {arm: {"ratio": 1.0} for arm in ARMS}}}
NO_RECALL = {"recall": {"things": [1], "text": [1], "runs": {}}}


@pytest.mark.parametrize(
    ("claim", "change", "verdict"),
    [
        ("stable", scaled(spikes=2), NO),
        ("stable", scaled(not_finite=1), NO),
        ("stable", scaled(loss_scale_min=0.5), NO),
        ("stable", scaled(loss_scale_min=None), YES),
        ("stable", scaled(spikes=1, steps=2000), YES),
        ("stable", scaled(spikes=None), UNDECIDED),
        ("stable", unlike(scaled(not_finite=1), scaled()), UNDECIDED),
        ("perplexity", scored("val_loss", mean=1.6, low=1.59, high=1.61), NO),
        ("perplexity", scored("val_loss", mean=1.52, low=1.50, high=1.54), UNDECIDED),
        ("plateau", scored("val_ppl", mean=4.5, low=4.4, high=4.6), NO),
        ("plateau", scored("val_ppl", mean=5.5, low=5.4, high=5.6), UNDECIDED),
        ("plateau", scored("val_ppl", mean=20.0, low=19.0, high=21.0), NO),
        ("below_plain", compared(put(delta_loss=[0.2, 0.1, 0.3])), NO),
        (
            "below_plain",
            compared(put(delta_loss=[0.0, -0.1, 0.1])),
            UNDECIDED,
        ),
        ("grammar", curves(put(grammar_95=phase(350))), NO),
        ("grammar", curves(put(grammar_95=phase(295))), NEGLIGIBLE),
        ("grammar", curves(put(grammar_95=phase(300))), UNDECIDED),
        ("grammar", curves(put(grammar_95=phase(None))), UNDECIDED),
        ("meaning", curves(put(intellectual_99=phase(400))), NO),
        ("meaning", curves(put(intellectual_99=phase(950))), YES),
        (
            "meaning",
            unlike(
                curves(put(intellectual_99=phase(500))), curves(put(intellectual_99=phase(None)))
            ),
            UNDECIDED,
        ),
        ("layers", layers(1.5, 0.7, 1.0, 1.0), NO),  # the rows before those of the claim
        ("layers", layers(1.0, 1.5, 0.7, 1.0, p_holm=0.3), NO),
        ("layers", layers(1.0, 1.02, 0.98, 1.0), NEGLIGIBLE),
        ("layers", unlike(layers(1.0, 1.5, 0.7, 1.0), layers(1.0, 0.9, 0.7, 1.0)), UNDECIDED),
        ("layers", layers(1.5, 0.7), UNTESTABLE),
        ("but", at_word(p_tokens=0.5), NO),
        ("but", at_word(p_initialisations=0.5), NO),
        ("but", at_word(same_side=0.6), NO),
        ("but", at_word(effect=[0.1, 0.05, 0.15]), NEGLIGIBLE),
        ("but", scan("word", reason="2 occurrences"), UNDECIDED),
        ("gain_range", scan("gain_range", share_inside=0.4), NO),
        ("gate", gate(0.9, 0.8), NO),
        ("gate", gate(0.9, 0.45), NO),  # half closed is not off
        ("gate", gate(0.9, 0.8, difference=(-0.01, -0.02, -0.001)), NEGLIGIBLE),
        ("gate", probes(gate_closed={"all": 0.5, "layers": [0.1, 0.2]}), NO),
        ("gate", unlike(gate(0.8, 0.05), gate(0.8, 0.05, difference=(0.1, 0, 0.2))), UNDECIDED),
        ("shielding", ratios([0.0, 7.0], [0.0, 0.5]), NO),
        ("shielding", ratios([0.2, 0.5], [0.0, 0.5]), NO),
        ("shielding", unlike(ratios([0.0, 0.5]), ratios([0.0, 1.5])), UNDECIDED),
        ("shielding", ratios([0.0, None]), UNDECIDED),
        ("forgetting", adapted(again([0.1, 0.11])), NO),
        ("forgetting", adapted(again([0.2, 0.21])), NO),
        ("forgetting", adapted(again([0.05, 0.16])), UNDECIDED),
        ("forgetting", adapted(again([0.095, 0.105])), NEGLIGIBLE),
        ("forgetting", adapted(again([0.05, 0.06], [0.9, 0.9])), UNDECIDED),
        ("forgetting", adapted(again([-0.2, -0.2]), baseline=again([-0.1, -0.1])), UNDECIDED),
        ("forgetting", adapted(again([0.05, float("nan")])), UNDECIDED),
        ("forgetting", trained_once, UNTESTABLE),
        ("overhead", probes(cost={"parameter_share": 0.1, "flop_share": 0.2}), NO),
        ("overhead", put(benchmark=SLOW | SWITCHED), NO),
        ("overhead", put(benchmark=WIDENED | SWITCHED), UNDECIDED),
        ("overhead", put(benchmark=SWITCHED), UNDECIDED),
        ("fp16", probes(half_precision=[]), UNDECIDED),
        ("cache", cache(difference=3.0, salience="reactive"), NO),
        ("cache_salience", cache(salience_difference=3.0, salience="reactive"), NO),
        ("objects", recalled([0, 0]), NO),
        ("objects", recalled([1, 0]), NO),
        ("objects", recalled([1, 1], baseline=[1, 1]), NO),
        ("objects", recalled([0, 1]), UNDECIDED),
        ("objects", shuffled_alike(), UNDECIDED),
        ("objects", barely_more(), NEGLIGIBLE),
        ("objects", recalled([0, 0], baseline=[0, 0]), UNDECIDED),
        ("objects", put(samples=NO_RECALL | steered(0.5, 0.51)), UNDECIDED),
        ("steering", steering(0.05, 0.0501), NEGLIGIBLE),
        ("steering", steering(-0.01, 0.01), UNDECIDED),
        ("steering", steering(-0.5, -0.51), NO),
        ("steering", lambda content: content["samples"].pop("steering"), UNTESTABLE),
        ("switching", lambda content: content["benchmark"].update(switched(1.2)), NO),
        ("switching", lambda content: content["benchmark"].pop("switching"), UNDECIDED),
        ("temperature", scan("temperature", **by_layer(0.3, 0.2)), NO),
        ("temperature", scan("temperature", **by_layer(-0.03, -0.03)), NEGLIGIBLE),
        ("temperature", scan("temperature", layers=[]), UNDECIDED),
        (
            "temperature",
            unlike(
                scan("temperature", **by_layer(0.3)),
                scan("temperature", **by_layer(-0.3)),
            ),
            UNDECIDED,
        ),
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


def test_tasks_of_a_control_network_are_compared_with_those_of_a_token(
    experiment: Params,
) -> None:
    arms = experiment.arms | {
        "told": {"salience": "causal", "tasks": 4},
        "by_token": {"controller": "none", "task_tokens": 4},
    }
    local = experiment.data.model_copy(update={"source": "local", "path": "stories"})
    several = experiment.model_copy(update={"arms": arms, "data": local})
    cases = (
        ((1.5, 1.51), YES),
        ((1.595, 1.5951), NEGLIGIBLE),
        ((1.6, 1.7), UNDECIDED),
        ((1.65, 1.651), NO),
    )
    for losses, verdict in cases:
        content = favourable()
        for seed, loss in zip((1, 2), losses, strict=True):
            content["evaluations"][f"told-{seed}"] = {"questions": {"loss": loss}}
            content["evaluations"][f"by_token-{seed}"] = {"questions": {"loss": 1.6}}
        assert verdicts(several, content)["multi_task"] == verdict
    one = experiment.model_copy(update={"arms": arms})
    [entry] = [e for e in judge(Metrics(one, **content))["claims"] if e["id"] == "multi_task"]
    assert entry["verdict"] == UNTESTABLE
    assert "one file" in entry["evidence"]


def test_one_run_that_breaks_decides_against_no_number_of_seeds() -> None:
    for runs in range(2, 40):
        assert surely_above(1, runs) < COLLAPSES
        assert surely_above(0, runs) == 0
        assert surely_above(runs, runs) == pytest.approx(0.025 ** (1 / runs))
    assert surely_above(2, 5) > COLLAPSES


def test_the_default_run_can_pass_the_test_of_the_layers() -> None:
    """At its seeds, initialisations and signals, with every p as small as it can be."""
    ours = load_params(PARAMS)
    for seeds in range(2, len(ours.seeds) + 20):
        least = 3 / (1 + ours.brain_scan.initialisations)  # Holm, over the published signals
        assert most_of([least] * seeds) < LEVEL


def test_equivalent_arms_are_not_below_the_plain_transformer(experiment: Params) -> None:
    content = favourable()
    above, below = [0.002, 0.001, 0.003], [-0.002, -0.003, -0.001]
    for ends, verdict in (([-0.001, -0.003, 0.001], NO), (above, NO), (below, NEGLIGIBLE)):
        compared(put(equivalent=True, delta_loss=ends, delta_ppl=ends))(content)
        assert verdicts(experiment, content)["below_plain.ncn_causal"] == verdict


def test_a_difference_that_holm_takes_for_chance_decides_nothing(experiment: Params) -> None:
    content = favourable()
    content["comparison"]["differences"]["ncn_causal"] |= {"p_holm": 0.06}
    assert verdicts(experiment, content)["below_plain.ncn_causal"] == UNDECIDED


def compared_with(params: Params, initialisations: int) -> Params:
    scan = params.brain_scan.model_copy(update={"initialisations": initialisations})
    return params.model_copy(update={"brain_scan": scan})


def test_a_test_that_nothing_could_pass_decides_nothing(experiment: Params) -> None:
    content = favourable()
    layers(1.0, 1.5, 0.7, 1.0, p_holm=0.3)(content)
    at_word(p_initialisations=0.5)(content)
    for number, verdict in ((99, NO), (9, UNDECIDED)):
        found = verdicts(compared_with(experiment, number), content)
        assert found["layers.ncn"] == found["but.ncn"] == verdict
    for signals, verdict in ((1, NO), (2, UNDECIDED)):  # Holm multiplies 1 in 40 by so many
        test = {"layer_means": [1.0, 1.5, 0.7, 1.0], "p_holm": 0.3}
        for each in content["scans"].values():
            each["specialisation"] = dict.fromkeys([*SIGNALS][: signals - 1]) | {"precision": test}
        assert verdicts(compared_with(experiment, 39), content)["layers.ncn"] == verdict
    layers(1.5, 0.7, 1.0, 1.0)(content)
    assert verdicts(compared_with(experiment, 9), content)["layers.ncn"] == NO


def test_a_p_at_its_floor_is_said_to_be_so(experiment: Params) -> None:
    content, experiment = favourable(), compared_with(experiment, 99)
    assert "p = 0.01, the least possible" in evidence(experiment, content, "layers.ncn")
    at_word(p_tokens=0.02)(content)
    assert "p = 0.02." in evidence(experiment, content, "but.ncn")


SEEDED = (
    "stable", "grammar", "meaning", "layers", "but", "gain_range", "gate", "shielding", "fp16",
    "cache", "cache_salience",
)  # fmt: skip


def test_a_rule_is_not_harder_to_meet_with_more_seeds(experiment: Params) -> None:
    """One run of six fails each claim of the runs that a mean or a majority is taken over."""
    content = favourable()
    six = experiment.model_copy(update={"seeds": [1, 2, 3, 4, 5, 6]})
    parts = (content["scans"], content["evaluations"], content["convergence"]["runs"])
    for runs in parts:
        for arm in ARMS:
            runs.update({f"{arm}-{seed}": copy.deepcopy(runs[f"{arm}-1"]) for seed in (3, 4, 5, 6)})
    for arm in ARMS[1:]:
        scans, probes, curve = (runs[f"{arm}-6"] for runs in parts)
        scans["specialisation"]["precision"] |= {
            "layer_means": [1.0, 1.3, 0.8, 1.0],
            "p_holm": 0.4,
        }
        scans["word"]["deeper"]["p_tokens"] = 0.4
        scans["easy_tokens"] = common(0.8, 0.2, difference=(-0.1, -0.2, 0.1))
        probes["probes"]["gradient_by_gain"]["ratio"][0] = [0.0, 0.9]
        probes["probes"]["gate_closed"]["layers"] = [0.1, 0.02]
        probes["probes"]["half_precision"] = overflowing([64.0])
        probes["probes"]["half_precision"][2]["scale_log2"] = 16
        curve["grammar_95"] = phase(310)
        curve["stability"]["spikes"] = 1
    found = verdicts(six, content)
    assert {found[f"{claim}.ncn_causal"] for claim in SEEDED} == {YES}


def test_runs_are_pooled_as_said() -> None:
    assert over_seeds([2.0]) == (2.0, 2.0, 2.0)
    assert over_seeds([2.0], [2.0, 1.0, 3.0]) == (2.0, 1.0, 3.0)
    assert over_seeds([1.0, 3.0]) == pytest.approx((2.0, 2 - 12.706, 2 + 12.706), abs=1e-3)
    assert most_of([0.03]) == 0.03
    assert most_of([0.01, 0.03]) == 0.03
    assert most_of([0.01, 0.9, 0.01]) == pytest.approx(0.015)
    assert most_of([0.9, 0.8, 0.01]) == 1.0


@pytest.mark.parametrize(
    ("lowest", "overflows", "verdict", "words"),
    [
        (None, [8.0, 64.0], UNDECIDED, "No arm without the clamp was trained in fp16"),
        (None, [], NO, "No arm without the clamp"),
        (None, [64.0], NO, "No arm without the clamp"),
        (None, [4.0, 8.0, 64.0], NO, "2^18 at 1, 2^15 at 4"),
        (0.5, [4.0, 8.0, 64.0], YES, "2 of 2 runs drove the loss scale below 1"),
        (32768.0, [8.0, 64.0], NO, "0 of 2 runs drove"),
    ],
)
def test_an_arm_without_the_clamp_decides_about_fp16_and_gradients_can_only_rule_it_out(
    experiment: Params, lowest: float | None, overflows: Sequence[float], verdict: str, words: str
) -> None:
    content = favourable()
    probes(half_precision=overflowing(overflows))(content)
    for seed in (1, 2):
        log = {"stability": {"loss_scale_min": lowest}}
        content["convergence"]["runs"][f"{UNCLAMPED}-{seed}"] = log
    assert verdicts(experiment, content)["fp16.ncn"] == verdict
    assert words in evidence(experiment, content, "fp16.ncn")


def test_run_1_is_judged_by_its_own_series(experiment: Params) -> None:
    settings = experiment.convergence
    log = analyse_log(ROOT / PUBLISHED_RUN, "published", "-", settings, 64 * 512, 100)
    content = favourable()
    content["convergence"]["published run 1"] |= log.summary
    found = verdicts(experiment, content)
    assert found["meaning_published"] == NO
    said = evidence(experiment, content, "meaning_published")
    assert "at step 2380 to 7360 of 15,860 and lasts to the end in 0 of 3" in said


@pytest.mark.parametrize(
    ("claim", "signal", "reaching"),
    [
        ("precision_published", "precision", (0.675, 1.2)),
        ("gates_published", "ffn_gate", (0.01, 0.523)),
    ],
)
def test_run_1_is_judged_by_its_published_figures(
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    claim: str,
    signal: str,
    reaching: tuple[float, float],
) -> None:
    def verdict() -> str:
        found = judge(Metrics(params, **favourable()))["claims"]
        return next(each["verdict"] for each in found if each["id"] == claim)

    assert verdict() == NO
    monkeypatch.setitem(PUBLISHED_HEATMAPS, signal, reaching)
    assert verdict() == YES


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


def every_setting(params: Params) -> set[str]:
    return {
        f"{section}.{name}"
        for section in ("data", "tokenizer", "text", "split", "model", "train", "ncn")
        for name in type(getattr(params, section)).model_fields
    }


def test_every_setting_either_has_a_published_value_or_is_free(published: Params) -> None:
    named = {*PUBLISHED_SETTINGS, *PUBLISHED_STARTS[0]} - {"train.sequences", "eval.sequences"}
    assert every_setting(published) == named | FREE_SETTINGS
    assert not named & FREE_SETTINGS
    assert differences_to_published(published) == []


def test_a_part_of_the_text_or_few_sequences_are_not_the_published_experiment(
    published: Params,
) -> None:
    (file,) = published.data.hub.files
    for changes in ({"first_bytes": 5_242_880}, {"sha256": "0" * 64}):
        hub = published.data.hub.model_copy(update={"files": [file.model_copy(update=changes)]})
        data = published.data.model_copy(update={"hub": hub})
        (said,) = differences_to_published(published.model_copy(update={"data": data}))
        assert said.startswith("data.hub.files are TinyStoriesV2-GPT4-train.txt")
    few = published.eval.model_copy(update={"sequences": 8})
    (said,) = differences_to_published(published.model_copy(update={"eval": few}))
    assert said == "eval.sequences is 8, published 3200"


THEIR_ROWS = {"train": 1_016_288, "val": 53_488}


@pytest.mark.parametrize(
    ("rows", "n_texts", "words"),
    [
        (THEIR_ROWS | {"train": 7}, 2_717_699, "7 train rows, and should to 1,016,288"),
        (THEIR_ROWS | {"val": 1}, 2_717_699, "1 val rows, and should to 53,488"),
        ({"train": 1_016_288}, 2_717_699, "0 val rows, and should to 53,488"),
        (THEIR_ROWS, 2_717_698, "2,717,698 story ends, and should to 2,717,699"),
        (THEIR_ROWS, 2_717_701, "2,717,701 story ends, and should to 2,717,699"),
    ],
)
def test_the_published_text_with_other_counts_is_refused(
    published: Params,
    monkeypatch: pytest.MonkeyPatch,
    rows: dict[str, int],
    n_texts: int,
    words: str,
) -> None:
    assert rows_beside_published(["0" * 64], published, rows, n_texts) is None
    monkeypatch.setattr("ncn.published.text.PUBLISHED_TEXT", "0" * 64)
    with pytest.raises(InputError, match=words):
        rows_beside_published(["0" * 64], published, rows, n_texts)


def test_the_published_text_makes_the_published_rows(published: Params) -> None:
    text, theirs = [file.sha256 for file in published.data.hub.files], THEIR_ROWS
    for n_texts in (2_717_699, 2_717_700):  # with text behind the last delimiter
        words = rows_beside_published(text, published, theirs, n_texts)
        assert words == "as many sequences as published"
    for section, change in (("split", {"unit": "story"}), ("model", {"context_length": 256})):
        other = getattr(published, section).model_copy(update=change)
        other_run = published.model_copy(update={section: other})
        assert rows_beside_published(text, other_run, theirs, 0) is None


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("train", {"lr": 3e-3}),
        ("train", {"micro_batch_size": 8}),
        ("train", {"schedule": "linear"}),
        ("train", {"lr_scale": {"control": 0.1}}),
        ("model", {"dropout": 0.0}),
        ("ncn", {"activation": "relu"}),
        ("ncn", {"homeostatic_lambda": 0.0}),
        ("ncn", {"init": "zero"}),
    ],
)
def test_one_setting_makes_it_another_experiment(
    experiment: Params, section: str, change: dict[str, Any]
) -> None:
    other = getattr(experiment, section).model_copy(update=change)
    found = verdicts(experiment.model_copy(update={section: other}), favourable())
    assert found["perplexity.ncn"] == UNTESTABLE


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("init", ["identity", "zero"])
def test_a_start_is_published_as_described_or_as_logged_and_nothing_between(
    published: Params, init: str, frozen: bool
) -> None:
    arms = published.arms | {"other": {"init": init, "frozen": frozen}}
    params = published.model_copy(update={"arms": arms})
    found = differences_to_published(params, "other")
    if (init == "zero") == frozen:
        assert found == []
    else:
        (said,) = found
        assert said.startswith(f"ncn.init is {init}, ncn.frozen is {frozen}, published ncn.init is")
    section = params.ncn.model_copy(update={"init": init, "frozen": frozen})
    params = published.model_copy(update={"ncn": section})
    assert differences_to_published(params) == found
    assert differences_to_published(params, "baseline") == []  # which has no control network


def test_what_an_arm_changes_makes_it_another_experiment(experiment: Params) -> None:
    arms = experiment.arms | {"ncn": {"lr": 3e-3}}
    found = verdicts(experiment.model_copy(update={"arms": arms}), favourable())
    assert (found["perplexity.ncn"], found["perplexity.ncn_causal"]) == (UNTESTABLE, YES)


def test_the_published_penalty_decides_whether_its_control_network_was_trained(
    experiment: Params,
) -> None:
    content = favourable()
    content["convergence"]["published run 1"]["penalty"]["points_outside"] = 0
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
    lacking = {"layers", "fp16", "but", "argmax", "clamp", "shock"}
    lacking |= {"dynamic.ncn", "dynamic.ncn_causal"}
    assert all(found[name] == UNTESTABLE for name in lacking)
    other = {v for n, v in found.items() if n not in lacking}
    assert other == {YES, UNTESTABLE}  # the perplexity


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
        (1.0, 16, "lowest loss scale 1, 32 steps skipped"),
        (32768.0, 1, "lowest loss scale 32768, 2 steps skipped"),
    ],
)
def test_a_loss_scale_is_told_only_where_a_scaler_was_in_use(
    experiment: Params, lowest: float | None, skipped: int | None, words: str
) -> None:
    content = favourable()
    scaled(loss_scale_min=lowest, skipped=skipped)(content)
    assert f"; {words}." in evidence(experiment, content, "stable.ncn")


# Not adaptation: without it, a second training was not asked for (`trained_once`).
@pytest.mark.parametrize("name", [name for name in favourable() if name != "adaptation"])
def test_a_missing_input_is_named_and_nothing_breaks(experiment: Params, name: str) -> None:
    found = judged(experiment, favourable() | {name: {}})
    assert {each["verdict"] for each in found} <= {YES, UNDECIDED}
    undecided = [each for each in found if each["verdict"] == UNDECIDED]
    assert undecided
    named = ("Missing: ", "Largest finite loss scale")  # the latter goes on to name what it lacks
    assert all(each["evidence"].startswith(named) for each in undecided)


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
    resting = {each["verdict"] for each in found if each["id"] not in FROM_FIGURES}
    assert resting == {UNDECIDED, UNTESTABLE}
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

    found = judged(experiment, bent(favourable()))
    assert YES not in {each["verdict"] for each in found}
    assert {each["verdict"] for each in found} <= {UNDECIDED, UNTESTABLE}
