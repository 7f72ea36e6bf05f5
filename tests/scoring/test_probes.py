"""What is measured on a trained model is what is there, planted where it has to be."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ncn.corpus.rows import Rows
from ncn.model import LanguageModel
from ncn.model.inputs import split_rows
from ncn.scoring.probes import (
    FORCED_PRECISIONS,
    FP16_LARGEST,
    cached_difference,
    gate_closed,
    gradient_by_gain,
    half_precision,
    probe,
    signals_changed,
)
from ncn.settings import Params
from tests.conftest import VOCABULARY, special

CPU = torch.device("cpu")


def rows(n: int = 4, length: int = 20) -> Rows:
    return np.random.default_rng(0).integers(VOCABULARY, size=(n, length)).astype(np.uint16)


@pytest.fixture
def causal(tiny: Params) -> LanguageModel:
    return loud(special(tiny, salience="causal"))


def loud(model: LanguageModel) -> LanguageModel:
    """The model with weights large enough for its parts to act."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


@pytest.mark.parametrize(
    ("salience", "mode", "same"),
    [("causal", "causal", True), ("reactive", "reactive", True), ("global", "reactive", False)],
)
def test_the_caches_and_the_salience_are_measured_apart(
    tiny: Params, salience: str, mode: str, same: bool
) -> None:
    found = cached_difference(loud(special(tiny, salience=salience)), rows())
    assert found["salience"] == mode
    assert found["difference"] < 1e-5 * found["largest_logit"]
    assert (found["salience_difference"] == 0) == same
    assert same or found["salience_difference"] > 100 * found["difference"]


def test_a_closed_gain_lets_no_gradient_through(causal: LanguageModel) -> None:
    found = gradient_by_gain(causal, rows())
    assert found["doses"][0] == 0
    assert len(found["ratio"]) == causal.config.n_layers
    assert [ratio[0] for ratio in found["ratio"]] == [0.0] * causal.config.n_layers
    assert all(ratio > 0 for layer in found["ratio"] for ratio in layer[1:])


def test_the_gradient_of_a_model_without_one_is_null(tiny: Params) -> None:
    model = special(tiny, salience="causal").eval()
    with signals_changed(model, lambda s: s | {"gain": torch.zeros_like(s["gain"])}):
        found = gradient_by_gain(model, rows())
    assert {ratio for layer in found["ratio"] for ratio in layer} == {None}


def test_the_largest_finite_scale_is_that_of_fp16_itself(causal: LanguageModel) -> None:
    """At the scale found, fp16 gives finite gradients; at four times that it overflows."""
    few = rows(2)
    found = half_precision(causal, few)
    assert [each["precision"] for each in found] == list(FORCED_PRECISIONS)
    tokens, targets, conditions = split_rows(few, CPU)
    for each in (found[0], found[3]):
        assert each["loss_fp16"] == pytest.approx(each["loss_fp32"], abs=0.05)
        for above, finite in ((0, True), (2, False)):
            forced = forcing(each["precision"])
            with signals_changed(causal, forced), torch.autocast("cpu", dtype=torch.float16):
                loss, _ = causal.loss(tokens, targets, conditions)
            scaled = loss * 2.0 ** (each["scale_log2"] + above)
            gradients = torch.autograd.grad(scaled, list(causal.parameters()), allow_unused=True)
            peak = max(g.abs().max().item() for g in gradients if g is not None)
            assert (math.isfinite(peak) and peak <= FP16_LARGEST) == finite


def forcing(precision: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda s: s | {"precision": torch.full_like(s["precision"], precision)}


def test_closing_a_gate_that_is_closed_costs_nothing(causal: LanguageModel) -> None:
    open_ = gate_closed(causal, rows())
    assert 0.3 < open_["share"] < 0.7
    assert max(map(abs, open_["layers"])) > 1e-4
    with signals_changed(causal, lambda s: s | {"ffn_gate": torch.zeros_like(s["ffn_gate"])}):
        closed = gate_closed(causal, rows())
    assert closed["layers"] == [0.0] * causal.config.n_layers
    assert closed["all"] == 0


def test_a_model_is_probed_for_what_it_has(tiny: Params) -> None:
    assert set(probe(special(tiny, controller="none").eval(), rows())) == {"cache"}
    gain = special(tiny, salience="causal", signals=["gain"]).eval()
    assert set(probe(gain, rows())) == {"cache", "cost", "gradient_by_gain"}
    whole = special(tiny, salience="causal").eval()
    assert {"half_precision", "gate_closed"} < set(probe(whole, rows()))


@pytest.mark.parametrize("salience", ["global", "causal", "reactive", "none"])
def test_a_frozen_control_network_is_probed_as_one_that_is_trained(
    tiny: Params, salience: str
) -> None:
    frozen = loud(special(tiny, salience=salience, frozen=True))
    trained = loud(special(tiny, salience=salience))
    assert not any(each.requires_grad for each in frozen.control.parameters())  # type: ignore[union-attr]
    assert probe(frozen, rows()).keys() == probe(trained, rows()).keys()
    assert half_precision(frozen, rows())[0]["qkv_gradient"] > 0
