"""The control network's further targets (preprint 8), against their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.model import model_config, parameter_count
from ncn.model.flops import flops_per_token
from ncn.settings import Params
from ncn.signals import SIGNALS, Signal
from ncn.training.log import LogRow
from tests.conftest import VOCABULARY, special, with_arm
from tests.parity import DEVICE, needs_triton

FURTHER = {"head_gate": 4, "depth_gate": 1, "activation_slope": 1}  # columns, with four heads
GPT2 = 50_257


def arm(name: str) -> dict[str, Any]:
    return {"salience": "causal", "signals": [name]}


def tokens(seed: int = 3) -> Tensor:
    return torch.randint(VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(seed))


def test_those_are_all() -> None:
    assert [*FURTHER] == [name for name, signal in SIGNALS.items() if signal.further]


@pytest.mark.parametrize(("name", "columns"), [("head_gate", 8), ("depth_gate", 1),
                                               ("activation_slope", 1)])  # fmt: skip
def test_one_adds_its_rows_to_the_controller_and_no_more(
    published: Params, name: str, columns: int
) -> None:
    signals = ["gain", "precision", "ffn_gate"]
    with_it = with_arm(published, signals=[*signals, name], match="none")
    one, whole = (
        model_config(with_arm(published, match="none"), "special", GPT2),
        model_config(with_it, "special", GPT2),
    )
    assert parameter_count(one) == 18_007_762
    assert parameter_count(whole) == 18_007_762 + 6 * columns * (64 + 1)
    assert flops_per_token(whole) - flops_per_token(one) == 2 * 64 * 6 * columns
    matched = with_arm(published, signals=[*signals, name], match="parameters", multiple_of=1)
    size = parameter_count(model_config(matched, "special", GPT2))
    assert abs(size - 18_007_762) <= 6 * 513 / 2


@pytest.mark.parametrize("name", FURTHER)
def test_gradients_reach_every_number_of_it(tiny: Params, name: str) -> None:
    model = special(tiny, **arm(name))
    assert model.control is not None
    loss, _ = model.loss(tokens(), tokens(4))
    (gradient,) = torch.autograd.grad(loss, model.control.output_bias)
    assert gradient.numel() == 3 * FURTHER[name]
    assert torch.all(gradient != 0)


@pytest.mark.parametrize("name", FURTHER)
def test_an_arm_without_it_neither_reads_nor_logs_it(tiny: Params, name: str) -> None:
    assert name not in special(tiny).signals(tokens())
    shape = (2, 24, 3) if FURTHER[name] == 1 else (2, 24, 3, FURTHER[name])
    assert special(tiny, **arm(name)).signals(tokens())[name].shape == shape

    def columns(signals: dict[str, float]) -> set[str]:
        return {*LogRow(1, 1, 1.0, 0.0, 0.1, 1.0, 1.0, 0, 0, signals, None, None).columns()}

    assert columns({name: 1.0}) - columns({}) == {f"{name}_mean"}


def test_a_depth_gate_lies_between_a_layers_input_and_its_output(tiny: Params) -> None:
    block, x = special(tiny).eval().blocks[0], torch.randn(2, 6, 32)
    whole, gate = block(x)[0], torch.rand(2, 6)
    expected = x + gate[..., None] * (whole - x)
    torch.testing.assert_close(block(x, depth_gate=gate)[0], expected)
    assert torch.equal(block(x, depth_gate=torch.zeros(2, 6))[0], x)
    assert torch.equal(block(x, depth_gate=torch.ones(2, 6))[0], whole)


def test_an_activation_slope_is_that_of_gelu(tiny: Params) -> None:
    feed_forward, x = special(tiny).blocks[0].feed_forward, torch.randn(2, 6, 32)
    slope = 0.5 + torch.rand(2, 6)
    up = feed_forward.up(x)
    phi = torch.special.ndtr(slope[..., None] * up)
    torch.testing.assert_close(feed_forward(x, {"layer": slope}), feed_forward.down(up * phi))
    swish = up * torch.sigmoid(1.702 * up)
    assert (F.gelu(up) - swish).abs().max() < 0.021


def test_a_closed_head_adds_nothing(tiny: Params) -> None:
    block, x = special(tiny).eval().blocks[0], torch.randn(2, 6, 32)
    gates = torch.ones(2, 6, 4)
    gates[..., 1] = 0
    with torch.no_grad():
        pruned = block(x, head_gate=gates)[0]
        block.attention.out.weight[:, 8:16] = 0  # what reads the second of four heads
        torch.testing.assert_close(pruned, block(x)[0])


@pytest.mark.parametrize("site", ["layer", "slope"])
@pytest.mark.parametrize("width", ["head", "vector"])
def test_more_than_one_number_is_refused_for_a_layer_and_a_slope(site: Any, width: Any) -> None:
    with pytest.raises(ValueError, match=f"signal toy: width {width} at the site layer or slope"):
        Signal("toy", "t", "toy", ("sigmoid",), (site,), 0.0, (0.0, 2.0), width=width)


@needs_triton
def test_the_kernels_compute_them_too(tiny: Params) -> None:
    model = special(tiny, salience="causal", signals=[*SIGNALS]).to(DEVICE)
    found = {}
    for kernels in ("reference", "triton"):
        model.use_kernels(kernels)
        loss, penalty = model.loss(tokens().to(DEVICE), tokens(4).to(DEVICE))
        parameters = list(model.parameters())  # of which folding leaves the key bias unused
        gradients = torch.autograd.grad(
            loss + penalty, parameters, allow_unused=True, materialize_grads=True
        )
        found[kernels] = [loss, penalty, *gradients]
    for mine, theirs in zip(found["triton"], found["reference"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
