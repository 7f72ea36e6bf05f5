"""The model computes through the kernels that it is set to, and is the same model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ncn.generation.decoding import generate
from ncn.layers import Layer
from ncn.model import LanguageModel, build_model
from ncn.settings import Params
from ncn.training.optimizer import make_optimizer
from tests.conftest import VOCABULARY, special
from tests.parity import DEVICE, needs_triton

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"controller": "none"},
    "ncn": {"salience": "global"},
    "ncn_causal": {"salience": "causal"},
    "static": {"controller": "static"},
    "shifted": {"gain": "shifted", "signals": ["ffn_gate", "gain"]},
}


def batch(length: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    rows = torch.randint(VOCABULARY, (2, length + 1), generator=stream).to(DEVICE)
    return rows[:, :-1], rows[:, 1:]


def loss_and_gradients(
    model: LanguageModel, loss: Callable[..., tuple[Tensor, Tensor]] | None = None
) -> list[Tensor]:
    made = (loss or model.loss)(*batch())
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(
        sum(made), parameters, allow_unused=True, materialize_grads=True
    )
    return [*(each.detach() for each in made), *gradients]


@pytest.mark.parametrize("setting", ["reference", pytest.param("triton", marks=needs_triton)])
@pytest.mark.parametrize("arm", ARMS)
def test_every_setting_gives_the_same_losses_and_gradients(
    tiny: Params, arm: str, setting: str
) -> None:
    model = special(tiny, **ARMS[arm]).to(DEVICE).eval()
    model.use_kernels("chunked")
    expected = loss_and_gradients(model)
    model.use_kernels(setting)
    for mine, theirs in zip(loss_and_gradients(model), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_setting_reaches_every_layer(tiny: Params) -> None:
    model = special(tiny)
    model.use_kernels("reference")
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    assert len(layers) > 4 * tiny.model.n_layers
    assert {layer.kernels for layer in layers} == {"reference"}
    assert "kernels" not in model.config.model_dump()


@needs_triton
def test_generation_writes_the_same_text_through_triton(tiny: Params) -> None:
    model = special(tiny, salience="causal").to(DEVICE)
    prompt = batch()[0]
    model.use_kernels("reference")
    expected = generate(model, prompt, 6, temperature=0.0)
    model.use_kernels("triton")
    assert torch.equal(generate(model, prompt, 6, temperature=0.0), expected)


def one_layer(params: Params) -> Params:
    """The experiment with one layer and no dropout: all kernels, little to interpret or compile."""
    shape = params.model.model_copy(update={"n_layers": 1, "dropout": 0.0})
    return params.model_copy(update={"model": shape})


def loss_curve(params: Params, setting: str, steps: int) -> list[float]:
    """The losses of a one-layer model that learns one batch by heart."""
    model = build_model(one_layer(params), "ncn_causal", VOCABULARY, 1)
    model.to(DEVICE).use_kernels(setting)
    optimizer = make_optimizer(model, params.train)
    losses = []
    for _ in range(steps):
        cross_entropy, penalty = model.loss(*batch(8))
        (cross_entropy + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(cross_entropy.item())
    return losses


@pytest.mark.parametrize("setting", ["chunked", pytest.param("triton", marks=needs_triton)])
def test_a_hundred_steps_have_the_same_losses_under_each_setting(
    tiny: Params, setting: str
) -> None:
    expected = loss_curve(tiny, "reference", 100)
    assert expected[-1] < 0.5 * expected[0]
    assert loss_curve(tiny, setting, 100) == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def fresh_compiler() -> None:
    """Every model is compiled anew: torch gives up on a function that it has seen too often."""
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("arm", "setting"),
    [("ncn_causal", "reference"), *((arm, "chunked") for arm in ARMS),
     pytest.param("ncn_causal", "triton", marks=needs_triton)],
)  # fmt: skip
def test_a_step_compiles_without_a_break(
    tiny: Params, arm: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = special(one_layer(tiny), **ARMS[arm]).to(DEVICE).eval()
    model.use_kernels(setting)
    expected = loss_and_gradients(model)
    launched = []
    for name in ("rms_norm._RMSNorm", "actuator._Actuator", "modulated_add._ModulatedAdd"):
        monkeypatch.setattr(f"kernels.{name}.apply", launched.append)
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(loss_and_gradients(model, compiled), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert not launched  # the compiler fuses these itself
