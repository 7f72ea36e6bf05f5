"""`ncn.phasic: layer`: a layer's signals are made of that layer's own input (preprint eq. 2)."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ncn.corpus.conditions import Conditions
from ncn.model import LanguageModel, load_model, model_config, parameter_count, save_model
from ncn.model.flops import flops_per_token
from ncn.settings import Params
from tests.conftest import special, with_arm
from tests.model.test_language_model import shaken, tokens

GPT2 = 50_257


def inputs_of(model: LanguageModel, text: Tensor, told: Conditions) -> list[Tensor]:
    """What each layer reads, [B, T, D]."""
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for block in model.blocks
    ]
    with torch.no_grad():
        model(text, conditions=told)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("salience", ["causal", "global", "none"])
def test_the_signals_are_those_of_the_equation(tiny: Params, salience: str) -> None:
    model = shaken(special(tiny, salience=salience, phasic="layer", tasks=2, signals=["gain"]))
    control, told = model.control, Conditions(torch.tensor([1, 0]))
    signals = model.signals(tokens(), conditions=told)["gain"]
    inputs = inputs_of(model, tokens(), told)
    with torch.no_grad():
        beside = control.tasks.weight[[1, 0]][:, None]
        if control.pooling is not None:
            beside = beside + control.pooling(inputs[0], salience)
        for layer, x in enumerate(inputs):
            u = control.norm(x + beside)
            z = control.output(torch.tanh(control.hidden(u)))[..., layer]
            torch.testing.assert_close(signals[..., layer], 2 * z.sigmoid())
    assert inputs[1].std() > 1.1 * inputs[0].std()


def test_the_first_layer_reads_the_embedding(tiny: Params) -> None:
    by_layer, alike = (shaken(special(tiny, phasic=p)) for p in ("layer", "embedding"))
    for name, signal in alike.signals(tokens()).items():
        mine = by_layer.signals(tokens())[name]
        torch.testing.assert_close(mine[..., 0], signal[..., 0])
        assert not torch.allclose(mine[..., 1], signal[..., 1], atol=1e-2)


def test_it_adds_no_parameter_and_reads_once_a_layer(published: Params) -> None:
    configs = [
        model_config(with_arm(published, phasic=p), "special", GPT2) for p in ("layer", "embedding")
    ]
    assert [parameter_count(config) for config in configs] == 2 * [18_007_762]
    assert [config.d_ff for config in configs] == 2 * [1024]
    layer, embedding = map(flops_per_token, configs)
    assert layer - embedding == 5 * 2 * 64 * 256


def test_gradients_reach_the_layers_through_the_signals(tiny: Params) -> None:
    """The penalty alone depends on what the first layer computes; of the embeddings it does not."""
    for phasic in ("layer", "embedding"):
        model = shaken(special(tiny, phasic=phasic))
        _, penalty = model.loss(tokens(), tokens(seed=1))
        first = model.blocks[0].feed_forward.down.weight
        (gradient,) = torch.autograd.grad(penalty, first, allow_unused=True, materialize_grads=True)
        assert bool(gradient.abs().max() > 0) == (phasic == "layer")


def test_a_model_of_embeddings_does_not_speak_of_it(tiny: Params, tmp_path: Path) -> None:
    """So that models saved before there was a choice are the same files."""
    assert "phasic" not in special(tiny).config.model_dump()["control"]
    assert special(tiny, phasic="layer").config.model_dump()["control"]["phasic"] == "layer"
    model = shaken(special(tiny, salience="causal", phasic="layer"))
    save_model(model, tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model")(tokens()), model(tokens()))
