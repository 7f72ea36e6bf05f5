"""Every mode of the control network after a little training: what held at the start holds."""

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ncn.control import recurrence, salience
from ncn.control.outputs import ControlOutput, homeostatic_penalty, start_at_declared_signals
from ncn.corpus.conditions import Conditions
from ncn.model import (
    LanguageModel,
    blocks,
    build_model,
    load_model,
    model_config,
    parameter_count,
    save_model,
)
from ncn.model.experts import imbalance
from ncn.model.flops import flops_per_token
from ncn.model.inputs import ConditionedRows
from ncn.scoring.leak import future_leak
from ncn.settings import Params, load_params
from ncn.signals import SIGNALS
from ncn.training.loop import train_model
from tests.conftest import PARAMS, VOCABULARY, special, with_arm

MODES: dict[str, dict[str, Any]] = {
    "baseline": {"controller": "none"},
    "static": {"controller": "static"},
    "global": {},
    "causal": {"salience": "causal"},
    "reactive": {"salience": "reactive"},
    "none": {"salience": "none"},
    "shifted gain": {"salience": "causal", "gain": "shifted"},
    "relu": {"salience": "causal", "activation": "relu"},
    "gelu": {"salience": "causal", "activation": "gelu"},
    "zero": {"salience": "causal", "init": "zero"},
    "run 1": {"init": "zero", "frozen": True},
    "gain only": {"salience": "causal", "signals": ["gain"]},
    "gate, precision": {"salience": "causal", "signals": ["ffn_gate", "precision"]},
    "head gate": {"salience": "causal", "signals": ["gain", "head_gate"]},
    "depth gate": {"salience": "causal", "signals": ["depth_gate"]},
    "slope": {"salience": "causal", "signals": ["activation_slope", "precision"]},
    "dropout": {"salience": "causal", "signals": ["gain", "dropout"]},
    "norm film": {"salience": "causal", "signals": ["norm_film"]},
    "static, further": {
        "controller": "static",
        "signals": ["head_gate", "depth_gate", "dropout", "norm_film"],
    },
    "all signals": {
        "salience": "causal",
        "signals": [*SIGNALS],
        "attention_entropy": True,
        "experts": 4,
        "experts_per_token": 2,
    },
    "low clamp": {"salience": "causal", "precision_max": 0.9},
    "summed penalty": {"salience": "causal", "penalty": "sum"},
    "tasks": {"salience": "causal", "tasks": 3},
    "sliders": {"salience": "causal", "sliders": ["dialogue", "token_bytes"]},
    "entropy": {"salience": "causal", "attention_entropy": True},
    "layer": {"salience": "causal", "phasic": "layer"},
    "layer, all inputs": {
        "salience": "none",
        "phasic": "layer",
        "tasks": 3,
        "sliders": ["dialogue"],
        "attention_entropy": True,
        "signals": ["gain", "head_gate"],
    },
    "layer, global": {"phasic": "layer"},
    "recurrent": {"salience": "causal", "controller": "recurrent"},
    "recurrent, all inputs": {
        "controller": "recurrent",
        "salience": "none",
        "tasks": 3,
        "sliders": ["dialogue"],
        "attention_entropy": True,
    },
    "gated attention": {"controller": "none", "modulator": "gated_attention"},
    "transponder": {"controller": "none", "modulator": "transponder"},
    "rezero": {"controller": "none", "modulator": "rezero"},
    "layerscale": {"controller": "none", "modulator": "layerscale"},
    "temperature": {"controller": "none", "modulator": "temperature"},
    "experts": {"controller": "none", "experts": 4},
    "two experts": {"controller": "none", "experts": 4, "experts_per_token": 2},
    "router": {"salience": "causal", "signals": ["gain", "router"], "experts": 4},
    "network, gated": {"salience": "causal", "modulator": "gated_attention"},
    "network, rescaled": {"salience": "causal", "modulator": "rezero"},
    "task tokens": {"controller": "none", "task_tokens": 3},
    "network, task tokens": {"salience": "causal", "task_tokens": 3},
    "both": {"salience": "causal", "task_tokens": 3, "tasks": 3},
    "all inputs": {"tasks": 3, "sliders": ["dialogue"], "attention_entropy": True},
}
CONTROLLED = [name for name, mode in MODES.items() if mode.get("controller") != "none"]
CAUSAL = [name for name in MODES if name not in ("global", "run 1", "all inputs", "layer, global")]


def told(mode: str, n: int) -> Conditions:
    """Tasks and slider values of n texts, where the mode has them."""
    settings, numbers = MODES[mode], torch.arange(n)
    values = torch.stack([torch.cos(numbers * 2.0 + i) for i in range(2)], dim=1)
    n_tasks = settings.get("tasks") or settings.get("task_tokens")
    return Conditions(
        numbers % n_tasks if n_tasks else None,
        values[:, : len(settings["sliders"])] if "sliders" in settings else None,
    )


def some_rows(mode: str) -> ConditionedRows:
    rows = np.random.default_rng(1).integers(VOCABULARY, size=(4, 25)).astype(np.uint16)
    return ConditionedRows(rows, told(mode, 4))


def tokens(seed: int = 0, batch: int = 2, length: int = 24) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (batch, length), generator=stream)


@cache
def trained(mode: str) -> LanguageModel:
    """A small model of that mode after 40 steps at a high learning rate."""
    params = load_params(PARAMS)
    shape = {"d_model": 32, "n_layers": 3, "n_heads": 4, "d_ff": 48, "context_length": 40}
    training = {"lr": 0.02, "warmup_steps": 5, "micro_batch_size": 8, "epochs": 10.0}
    params = params.model_copy(
        update={
            "model": params.model.model_copy(update=shape),
            "ncn": params.ncn.model_copy(update={"hidden": 8}),
            "train": params.train.model_copy(update=training),
        }
    )
    model = special(params, **MODES[mode])
    starts = np.random.default_rng(0).integers(VOCABULARY, size=(32, 1))
    rows = ((starts + 3 * np.arange(25)) % VOCABULARY).astype(np.uint16)  # learnable by pairs
    log = train_model(model, ConditionedRows(rows, told(mode, len(rows))), params.train, 1, mode)
    assert log[-1].loss < 0.8 * log[0].loss
    return model.eval()


@pytest.mark.parametrize("mode", CAUSAL)
@settings(max_examples=10)
@given(position=st.integers(1, 23), seed=st.integers(1, 1000))
def test_a_later_token_never_moves_an_earlier_logit(mode: str, position: int, seed: int) -> None:
    model, before, conditions = trained(mode), tokens(), told(mode, 2)
    changed = torch.cat([before[:, :position], tokens(seed)[:, position:]], dim=1)
    one, other = (model(text, conditions=conditions)[:, :position] for text in (before, changed))
    assert torch.equal(one, other)


@pytest.mark.parametrize("mode", MODES)
def test_the_leak_is_zero_for_the_causal_modes_only(mode: str) -> None:
    assert (future_leak(trained(mode), some_rows(mode), 3) > 0) == (mode not in CAUSAL)


@pytest.mark.parametrize("mode", CAUSAL)
def test_a_leak_planted_in_the_attention_is_caught(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, mask, is_causal: attend(q, k, v)
    )
    assert future_leak(trained(mode), some_rows(mode), 3) > 0


@pytest.mark.parametrize(
    ("mode", "module", "name"),
    [
        ("causal", salience, "prefix_softmax"),
        ("entropy", blocks, "attention_entropy"),
        ("recurrent", recurrence, "linear_scan"),
    ],
)
def test_a_control_that_sees_one_token_ahead_is_caught(
    mode: str, module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = getattr(module, name)

    def ahead(*arguments: Any) -> Any:
        result = seen(*arguments)
        if isinstance(result, tuple):
            return (result[0].roll(-1, dims=2), *result[1:])
        return result.roll(-1, dims=1)

    assert future_leak(trained(mode), some_rows(mode), 3) == 0
    monkeypatch.setattr(module, name, ahead)
    assert future_leak(trained(mode), some_rows(mode), 3) > 0


@pytest.mark.parametrize("mode", MODES)
def test_signals_stay_in_range_and_the_unused_are_neutral(mode: str) -> None:
    model = trained(mode)
    control = model.config.control
    lower = {"gain": 0.0, "precision": 0.01, "activation_slope": 0.5}
    upper = {
        "gain": 2.0,
        "precision": 4.0,
        "activation_slope": 1.5,
        "norm_film": 2.0,
        "router": 2.0,
    }
    if control is not None and control.gain == "shifted":
        lower["gain"], upper["gain"] = 0.5, 1.5
    if control is not None:
        upper["precision"] = control.precision_max
    for name, signal in model.signals(tokens(), conditions=told(mode, 2)).items():
        used = control is not None and name in control.signals
        assert used or torch.all(signal == SIGNALS[name].neutral)
        assert not used or (
            signal.min() >= lower.get(name, 0) and signal.max() <= upper.get(name, 1)
        )


@pytest.mark.parametrize("mode", CONTROLLED)
def test_neutral_signals_leave_the_models_own_backbone(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(mode)
    plain = LanguageModel(model.config.model_copy(update={"control": None})).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.equal(model(tokens()), plain(tokens()))
    neutral = {
        name: torch.full_like(signal, SIGNALS[name].neutral)
        for name, signal in model.signals(tokens(), conditions=told(mode, 2)).items()
        if name in model.config.control.signals
    }
    monkeypatch.setattr(model.control, "forward", lambda *_, **__: ControlOutput(neutral))
    assert torch.equal(model(tokens()), plain(tokens()))


@pytest.mark.parametrize("mode", CONTROLLED)
def test_the_loss_carries_the_penalty_of_its_own_signals(mode: str) -> None:
    model = trained(mode)
    control = model.config.control
    assert control is not None
    conditions = told(mode, 2)
    _, penalty = model.loss(tokens(), tokens(1), conditions)
    signals = {
        name: signal
        for name, signal in model.signals(tokens(), conditions=conditions).items()
        if name in control.signals
    }
    layers = 3 if control.penalty == "sum" else 1
    expected = (
        0.01
        * layers
        * sum(
            ((signal - SIGNALS[name].neutral) ** 2).mean().item()
            for name, signal in signals.items()
        )
    )
    assert homeostatic_penalty(signals, control).item() == pytest.approx(expected, rel=1e-5)
    uneven = imbalance(block.router for block in model.blocks)
    balance = 0.0 if uneven is None else model.config.balance * uneven.item()
    assert penalty.item() == pytest.approx(expected + balance, rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_and_loaded_model_gives_identical_logits(mode: str, tmp_path: Path) -> None:
    save_model(trained(mode), tmp_path / "model")
    loaded, conditions = load_model(tmp_path / "model"), told(mode, 2)
    assert torch.equal(
        loaded(tokens(), conditions=conditions), trained(mode)(tokens(), conditions=conditions)
    )


@pytest.mark.parametrize("mode", CONTROLLED)
def test_training_moves_every_control_that_is_not_frozen(mode: str) -> None:
    control, config = trained(mode).control, trained(mode).config
    assert control is not None
    assert config.control is not None
    start = torch.empty_like(control.output_bias)
    start_at_declared_signals(start, config)
    assert torch.equal(control.output_bias, start) == config.control.frozen


def test_run_1_starts_with_the_published_penalty_and_keeps_it() -> None:
    _, penalty = trained("run 1").loss(tokens(), tokens(1))
    assert penalty.item() == pytest.approx(0.00338, abs=1e-4)


def test_a_clamped_precision_has_no_gradient_and_a_free_one_has() -> None:
    # identity starts at 0.9997: above a clamp of 0.9 every gradient of precision is zero.
    clamped, free = trained("low clamp"), trained("causal")
    for model, clamped_throughout in ((clamped, True), (free, False)):
        assert model.control is not None
        assert model.config.control is not None
        x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
        signal = model.control(x).signals["precision"]
        (gradient,) = torch.autograd.grad(signal.sum(), model.control.output_bias)
        of_precision = gradient.view(3, 3)[:, 1]
        if clamped_throughout:
            assert torch.all(signal == model.config.control.precision_max)
            assert torch.all(of_precision == 0)
        else:
            assert torch.all(signal < model.config.control.precision_max)
            assert torch.all(of_precision != 0)


@pytest.mark.parametrize("first", ["global", "causal", "reactive"])
@pytest.mark.parametrize("second", ["none", "static"])
def test_a_mode_is_its_own_function(first: str, second: str) -> None:
    assert not torch.equal(trained(first)(tokens()), trained(second)(tokens()))


def test_static_control_is_one_scalar_a_layer_and_signal(published: Params) -> None:
    arm = with_arm(published, controller="static", match="none")
    assert parameter_count(model_config(arm, "special", 50_257)) == 17_726_464 + 6 * 3
    signals = trained("static").signals(tokens())
    for signal in signals.values():
        assert torch.equal(signal, signal[:1, :1].expand_as(signal))


@pytest.mark.parametrize(
    "changes",
    [
        {"controller": "none"},
        {"controller": "static"},
        {"salience": "none"},
        {"signals": ["gain"]},
        {"hidden": 16},
        {"hidden": 200},
        {"controller": "none", "modulator": "gated_attention"},
        {"controller": "none", "modulator": "transponder"},
        {"salience": "causal", "modulator": "layerscale"},
    ],
)
@pytest.mark.parametrize("match", ["parameters", "non_embedding"])
def test_every_arm_is_made_as_large_as_the_control_networks(
    published: Params, changes: dict[str, Any], match: str
) -> None:
    whole = parameter_count(model_config(published, "ncn", 50_257))
    arm = with_arm(published, match=match, multiple_of=1, **changes)
    unit = 6 * 513  # of the feed-forward's width
    assert abs(parameter_count(model_config(arm, "special", 50_257)) - whole) <= unit / 2


def test_an_arm_with_all_of_the_control_network_keeps_its_width(published: Params) -> None:
    for changes in ({}, {"salience": "causal"}, {"init": "zero", "frozen": True}):
        assert model_config(with_arm(published, **changes), "special", 50_257).d_ff == 1024


def test_a_baseline_can_match_flops_instead_of_parameters(published: Params) -> None:
    reference = flops_per_token(model_config(published, "ncn_causal", 50_257))
    causal = published.model_copy(
        update={"ncn": published.ncn.model_copy(update={"salience": "causal"})}
    )
    matched = with_arm(causal, controller="none", match="flops", multiple_of=1)
    config = model_config(matched, "special", 50_257)
    per_unit = 6 * 4 * 256  # two products of width 256, two operations each, in six layers
    assert abs(flops_per_token(config) - reference) <= per_unit / 2
    assert config.d_ff != model_config(causal, "baseline", 50_257).d_ff


def test_flops_are_those_of_the_matrix_products_that_run(tiny: Params) -> None:
    """Counted by torch's own counter on a forward pass, the attention at full length."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model(tiny, "baseline", VOCABULARY).eval()
    length = tiny.model.context_length
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(tokens(batch=1, length=length))
    full = flops_per_token(model.config) * length
    # The counter takes the masked half of the attention for work; ours does not.
    masked = tiny.model.n_layers * 2 * 2 * 32 * (length - (length + 1) / 2) * length
    assert counter.get_total_flops() == pytest.approx(full + masked, rel=0.01)
