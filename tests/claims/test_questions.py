"""The verdicts on what trained models were asked: every one of every rule, from planted answers."""

from collections.abc import Callable
from typing import Any

import pytest

from ncn.claims.judge import judge
from ncn.claims.rule import NEGLIGIBLE, NO, UNDECIDED, UNTESTABLE, YES, Metrics
from ncn.settings import Params
from tests.claims.answered import RIVALS, runs_of
from tests.claims.test_judge import favourable

Change = Callable[[dict[str, Any]], None]
Planted = dict[str, Any]


@pytest.fixture
def experiment(published: Params) -> Params:
    """The published experiment, over two seeds and with the arms that some claims are about."""
    return published.model_copy(update={"seeds": [1, 2], "arms": published.arms | RIVALS})


def found(params: Params, content: Planted, claim: str) -> dict[str, Any]:
    """The entry of a claim, about the causal arm where it is about one."""
    entries = {each["id"]: each for each in judge(Metrics(params, **content))["claims"]}
    return entries.get(f"{claim}.ncn_causal") or entries[claim]


def answer(first: Planted, second: Planted | None = None, arm: str = "ncn_causal") -> Change:
    """The answers of the arm's two runs."""

    def apply(content: Planted) -> None:
        for run, changes in zip(
            runs_of(arm), (first, first if second is None else second), strict=True
        ):
            content["evaluations"][run]["questions"] |= changes

    return apply


def curve(first: Planted, second: Planted | None = None, arm: str = "ncn_causal") -> Change:
    def apply(content: Planted) -> None:
        for run, changes in zip(
            runs_of(arm), (first, first if second is None else second), strict=True
        ):
            content["convergence"]["runs"][run] |= changes

    return apply


def shape(**changes: Any) -> Planted:
    content = favourable()["evaluations"]["ncn_causal-1"]["questions"]["signals"]
    return {"signals": content | changes}


def sure(value: float) -> list[float]:
    return [value, value - 0.0005, value + 0.0005]


def ordered(ratio: float) -> Planted:
    return {"word_order": {"swapped": ratio, "replaced": 1.0, "ratio": [ratio, 0.0, 1.0]}}


def at(early: float, late: float) -> Planted:
    return {"loss_by_position": [early] * 4 + [late] * 4}


def rough(value: float) -> Planted:
    return {"descent": {"first_loss": 5.0, "roughness": value}}


def started(value: float) -> Planted:
    return {"descent": {"first_loss": value, "roughness": 0.01}}


def reached(tokens: int | None) -> Planted:
    return {"tokens_to_reach": {"4.0": tokens, "2.0": None}}


def calibrated(error: float) -> Planted:
    return {"calibration": {"error": error}}


def refreshed(often: list[float], rarely: list[float]) -> Planted:
    return {"refresh": {"8": often, "32": rarely}}


STILL = {"word_order": {"swapped": 0.0, "replaced": 0.0, "ratio": None}}
ONE_LINE = {"participation_ratio": 1.9, "columns": 12}
NOTHING = {"participation_ratio": None, "columns": 12}


@pytest.mark.parametrize(
    ("claim", "change", "verdict"),
    [
        ("dynamic", answer({"loss": 1.65}), NO),
        ("dynamic", answer({"loss": 1.595}), NEGLIGIBLE),
        ("dynamic", answer({"loss": 1.4}, {"loss": 1.59}), UNDECIDED),
        # its interval lies off 0 (p = 0.04 by itself), which may be chance among several
        ("dynamic", answer({"loss": 1.400}, {"loss": 1.425}), UNDECIDED),
        ("tonic", answer({"tonic": sure(0.0)}), NO),
        ("tonic", answer({"tonic": sure(0.005)}), NEGLIGIBLE),
        ("tonic", answer({"tonic": sure(0.0)}, {"tonic": sure(0.05)}), UNDECIDED),
        ("word_order", answer(ordered(0.1)), NO),
        ("word_order", answer(STILL), NO),
        ("word_order", answer(ordered(0.2), ordered(0.9)), UNDECIDED),
        ("adiabatic", answer(refreshed(sure(0.0), sure(0.05))), NO),
        (
            "adiabatic",
            answer(refreshed(sure(0.0), sure(0.0)), refreshed(sure(0.0), sure(0.05))),
            UNDECIDED,
        ),
        ("late_positions", answer(at(1.5, 1.5)), NO),  # early positions gain most
        ("late_positions", answer(at(1.6, 1.395)), NEGLIGIBLE),
        ("late_positions", answer(at(1.69, 1.3), at(1.6, 1.4)), UNDECIDED),
        ("collapse", answer(shape(directions=ONE_LINE)), NO),
        ("collapse", answer(shape(directions=NOTHING)), NO),
        ("collapse", answer(shape(identity_share={"gain": 0.2, "precision": 0.8})), NO),
        ("collapse", answer(shape(identity_share={"gain": 0.8}), {}), UNDECIDED),
        ("collapse", answer(shape(identity_share={"gain": None})), UNDECIDED),
        ("sparse", answer(shape(near_neutral_of_all=0.1)), NO),
        ("sparse", answer(shape(near_neutral_of_all=0.1), shape()), UNDECIDED),
        ("separate", answer({"shared_by_layer": {"1": 0.9, "3": 0.8}}), NO),
        ("separate", answer({"shared_by_layer": {"1": 0.9}}, {}), UNDECIDED),
        ("separate", answer({"shared_by_layer": {}}), UNDECIDED),
        ("separate", answer({"traded": None}), YES),
        ("argmax", answer({"sharpest": {"trained": 0.3, "at_clamp": 0.6}}), NO),
        (
            "argmax",
            answer({"sharpest": {"trained": 0.3, "at_clamp": 0.6}}, {}),
            UNDECIDED,
        ),
        ("clamp", answer(shape(range={"precision": [0.1, 3.0]}), arm="unclamped"), NO),
        (
            "clamp",
            answer(
                shape(range={"precision": [0.1, 3.0]}),
                shape(range={"precision": [0.1, 9.0]}),
                arm="unclamped",
            ),
            UNDECIDED,
        ),
        ("clamp", answer({"loss": 1.1}, arm="unclamped"), NO),  # it exceeds 4 and does better
        ("clamp", answer({"loss": 1.505}, arm="unclamped"), NEGLIGIBLE),
        ("clamp", answer({"loss": 1.4}, {"loss": 1.9}, arm="unclamped"), UNDECIDED),
        ("adiabatic", answer({"tonic": sure(0.0)}), UNDECIDED),  # nothing to be missed
        ("shock", curve(started(4.5), arm="zero_start"), NO),
        ("shock", curve(started(5.005), arm="zero_start"), NEGLIGIBLE),
        ("shock", curve(started(5.001), started(5.5), arm="zero_start"), UNDECIDED),
        ("smooth", curve(rough(0.03)), NO),
        ("smooth", curve(rough(0.0196)), NEGLIGIBLE),
        ("smooth", curve(rough(0.019), rough(0.01)), UNDECIDED),
        ("smooth", curve(rough(0.0)), UNDECIDED),
        ("efficiency", curve(reached(3000)), NO),
        ("efficiency", curve(reached(1990)), NEGLIGIBLE),
        ("efficiency", curve(reached(1900), reached(900)), UNDECIDED),
        ("efficiency", curve(reached(None)), UNDECIDED),
        ("calibration", answer(calibrated(0.2)), NO),
        ("calibration", answer(calibrated(0.045)), NEGLIGIBLE),
        ("calibration", answer(calibrated(0.01), calibrated(0.049)), UNDECIDED),
    ],
)
def test_a_verdict_follows_from_the_answers(
    experiment: Params, claim: str, change: Change, verdict: str
) -> None:
    content = favourable()
    assert found(experiment, content, claim)["verdict"] == YES
    change(content)
    assert found(experiment, content, claim)["verdict"] == verdict


ABOUT_THE_METHOD = ["dynamic", "late_positions", "shock", "smooth", "efficiency", "calibration"]
ABOUT_A_MODEL = ["tonic", "word_order", "adiabatic", "collapse", "sparse", "separate", "argmax"]


def test_one_seed_speaks_of_a_model_and_not_of_the_method(experiment: Params) -> None:
    alone = experiment.model_copy(update={"seeds": [1]})
    for claim in ABOUT_THE_METHOD:
        entry = found(alone, favourable(), claim)
        assert (entry["verdict"], entry["interval"]) == (UNDECIDED, None)
        assert "over 1 seed" in entry["evidence"]
    for claim in ABOUT_A_MODEL:
        assert found(alone, favourable(), claim)["verdict"] == YES


def test_a_claim_about_an_arm_that_is_not_there_says_so(experiment: Params) -> None:
    few = {name: each for name, each in experiment.arms.items() if name not in RIVALS}
    params = experiment.model_copy(update={"arms": few})
    for claim, words in (
        ("dynamic", "No arm has static control."),
        ("shock", "No two arms differ in ncn.init alone."),
        ("clamp", "No arm has a precision_max above 4."),
    ):
        entry = found(params, favourable(), claim)
        assert (entry["verdict"], entry["evidence"]) == (UNTESTABLE, words)


def test_a_training_loss_that_reads_the_future_shows_no_efficiency(experiment: Params) -> None:
    entries = judge(Metrics(experiment, **favourable()))["claims"]
    (entry,) = (each for each in entries if each["id"] == "efficiency.ncn")
    assert entry["verdict"] == UNDECIDED
    assert "does not read the future" in entry["evidence"]


def test_a_claim_without_a_section_names_the_preprint_alone(experiment: Params) -> None:
    assert found(experiment, favourable(), "sparse")["source"] == "preprint"
