"""The control network's further targets (preprint 8), against their equations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.model import LanguageModel, load_model, model_config, parameter_count, save_model
from ncn.model.flops import flops_per_token
from ncn.scoring.probes import control_cost
from ncn.settings import Params
from ncn.signals import SIGNALS, Signal
from ncn.training.log import LogRow
from tests.conftest import VOCABULARY, special, with_arm
from tests.parity import DEVICE, needs_triton
from tests.training.test_step import LR, batch, engine, weights

FURTHER = {
    "head_gate": 4,
    "depth_gate": 1,
    "activation_slope": 1,
    "dropout": 1,
    "norm_film": 4,
    "router": 4,
}  # columns, with four heads, and four experts where they are routed
GPT2 = 50_257


def arm(name: str) -> dict[str, Any]:
    experts = {"experts": 4} if name == "router" else {}
    return {"salience": "causal", "signals": [name], **experts}


def tokens(seed: int = 3) -> Tensor:
    return torch.randint(VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(seed))


def test_those_are_all() -> None:
    assert [*FURTHER] == [name for name, signal in SIGNALS.items() if signal.further]


@pytest.mark.parametrize(
    ("name", "columns", "basis"),
    [
        ("head_gate", 8, 0),
        ("depth_gate", 1, 0),
        ("activation_slope", 1, 0),
        ("dropout", 1, 0),
        ("norm_film", 4, 6 * 2 * 2 * 256 * 4),
        ("router", 4, 6 * 256 * 4),
    ],
)
def test_one_adds_its_rows_to_the_controller_and_no_more(
    published: Params, name: str, columns: int, basis: int
) -> None:
    signals = ["gain", "precision", "ffn_gate"]
    mine = arm(name) | {"salience": "global", "signals": [*signals, name]}
    with_it = with_arm(published, **mine, match="none")
    one, whole = (
        model_config(with_arm(published, match="none"), "special", GPT2),
        model_config(with_it, "special", GPT2),
    )
    assert parameter_count(one) == 18_007_762
    assert parameter_count(whole) == 18_007_762 + 6 * columns * (64 + 1) + basis
    assert flops_per_token(whole) - flops_per_token(one) == 2 * 64 * 6 * columns + 2 * basis
    matched = with_arm(published, **mine, match="parameters", multiple_of=1)
    size = parameter_count(model_config(matched, "special", GPT2))
    assert abs(size - 18_007_762) <= mine.get("experts", 1) * 6 * 513 / 2


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


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_noise_of_its_deviation_on_both_branches_in_training(
    tiny: Params, training: bool
) -> None:
    block, x = special(tiny).train(training).blocks[0], torch.randn(2, 6, 32)
    deviation = torch.rand(2, 6)
    torch.manual_seed(1)
    found = block(x, dropout=deviation)[0]
    torch.manual_seed(1)
    first, second = (1 + training * deviation[..., None] * torch.randn(2, 6, 32) for _ in range(2))
    after = x + first * block.attention(block.attention_norm(x))[0]
    expected = after + second * block.feed_forward(block.feed_forward_norm(after))
    torch.testing.assert_close(found, expected)
    assert torch.equal(block(x, dropout=torch.zeros(2, 6))[0], block(x)[0])
    assert torch.equal(found, block(x)[0]) == (not training)


def test_dropout_noise_is_that_of_dropout_at_its_rate(tiny: Params) -> None:
    """Mean and variance of both on a branch of ones; and the gradient is that of the mean loss."""
    block, ones = special(tiny).train().blocks[0], torch.ones(1, 400_000)
    for deviation in (0.1, 0.5, 0.9):
        torch.manual_seed(1)
        sigma = torch.full((1,), deviation, requires_grad=True)
        noisy = block._dropped(ones, {"dropout": sigma})
        rate = deviation**2 / (1 + deviation**2)
        masked = F.dropout(ones, rate)
        for made in (noisy, masked):
            assert made.mean().item() == pytest.approx(1, abs=0.01)
            assert made.std().item() == pytest.approx(deviation, rel=0.01)
        (of_mean,) = torch.autograd.grad(noisy.mean(), sigma, retain_graph=True)
        (of_square,) = torch.autograd.grad(noisy.square().mean(), sigma)
        assert of_mean.item() == pytest.approx(0, abs=0.01)  # E[F] does not depend on the rate
        assert of_square.item() == pytest.approx(2 * deviation, abs=0.02)  # E[F^2] = 1 + sigma^2


def test_dropout_leaves_evaluation_and_generation_to_the_bit(tiny: Params) -> None:
    model = special(tiny, salience="causal", signals=["gain", "dropout"])
    noisy, text = model(tokens()), tokens()
    model.eval()
    whole, state = model(text), torch.get_rng_state()
    assert not torch.equal(noisy, whole)
    assert torch.equal(model(text), whole)
    assert torch.equal(torch.get_rng_state(), state)
    stripped = LanguageModel(model.config.model_copy(update={"control": None})).eval()
    stripped.load_state_dict(model.state_dict(), strict=False)
    gain = {"gain": model.signals(text)["gain"].unbind(2)}
    x = stripped._embedded(text)
    for layer, block in enumerate(stripped.blocks):
        x, _ = block(x, gain=gain["gain"][layer])
    assert torch.equal(whole, F.linear(stripped.norm(x), model.embedding.weight))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_noise_is_of_its_step_and_micro_batch(tiny: Params, checkpointing: bool) -> None:
    """So a run goes on from a state to the bit, and a recomputed layer draws what it drew."""
    params = with_arm(tiny, salience="causal", signals=["gain", "dropout"], init="zero")
    settings = {"micro_batch_size": 4, "dropout": 0.0}
    whole, first, plain = (
        engine(params, "special", checkpointing=c, **settings)
        for c in (checkpointing,) * 2 + (False,)
    )
    expected = [whole.step(batch(number), LR) for number in range(4)]
    losses = [plain.step(batch(number), LR).loss for number in range(4)]
    assert losses == pytest.approx([result.loss for result in expected], rel=1e-5)
    for number in range(2):
        first.step(batch(number), LR)
    torch.manual_seed(99)
    resumed = engine(params, "special", checkpointing=checkpointing, **settings)
    resumed.load_state_dict(first.state_dict())
    assert [resumed.step(batch(number), LR) for number in range(2, 4)] == expected[2:]
    assert torch.equal(weights(resumed.model), weights(whole.model))


def test_norm_film_is_a_gain_and_a_bias_of_what_the_norms_give(tiny: Params) -> None:
    block, x = special(tiny, signals=["norm_film"]).eval().blocks[0], torch.randn(2, 6, 32)
    for parameter in block.film.parameters():
        torch.nn.init.normal_(parameter)
    numbers = 2 * torch.rand(2, 6, 4)

    def changed(normed: Tensor, basis: Tensor) -> Tensor:
        both = (numbers - 1) @ basis.T
        return (1 + both[..., :32]) * normed + both[..., 32:]

    normed = changed(block.attention_norm(x), block.film.attention.weight)
    after = x + block.attention(normed)[0]
    normed = changed(block.feed_forward_norm(after), block.film.feed_forward.weight)
    expected = after + block.feed_forward(normed)
    torch.testing.assert_close(block(x, norm_film=numbers)[0], expected)
    assert torch.equal(block(x, norm_film=torch.ones(2, 6, 4))[0], block(x)[0])


def test_norm_film_is_trained_and_frozen_with_the_control_network(
    tiny: Params, tmp_path: Path
) -> None:
    for frozen in (False, True):
        model = special(tiny, salience="causal", signals=["norm_film"], frozen=frozen)
        save_model(model, tmp_path / str(frozen))
        for each in (model, load_model(tmp_path / str(frozen))):
            trained = {name for name, p in each.named_parameters() if p.requires_grad}
            assert ("blocks.2.film.attention.weight" in trained) == (not frozen)
            assert ("control.output.weight" in trained) == (not frozen)
            assert "blocks.2.attention.qkv.weight" in trained
    cost = control_cost(special(tiny, salience="causal", signals=["norm_film"]))
    without = control_cost(special(tiny, salience="causal", signals=["gain"]))
    assert cost["parameters"] - without["parameters"] == 3 * (3 * (8 + 1) + 2 * 64 * 4)


@pytest.mark.parametrize(
    ("sites", "width"),
    [(("norms",), "layer"), (("norms", "queries"), "rank"), (("attention",), "rank")],
)
def test_the_norms_take_a_few_numbers_and_nothing_else_does(sites: Any, width: Any) -> None:
    with pytest.raises(ValueError, match="the width rank goes with the site norms alone"):
        Signal("toy", "t", "toy", ("sigmoid",), sites, 0.0, (0.0, 2.0), width=width)


def test_a_compiler_computes_them_too(tiny: Params) -> None:
    torch.compiler.reset()
    model = special(tiny, salience="causal", signals=[*SIGNALS], phasic="layer", experts=4).eval()
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(
        compiled(tokens(), tokens(4)), model.loss(tokens(), tokens(4)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("site", ["layer", "slope", "noise"])
@pytest.mark.parametrize("width", ["head", "vector"])
def test_more_than_one_number_is_refused_where_there_is_one(site: Any, width: Any) -> None:
    with pytest.raises(ValueError, match=f"signal toy: width {width} at the site {site}, which"):
        Signal("toy", "t", "toy", ("sigmoid",), (site,), 0.0, (0.0, 2.0), width=width)


@needs_triton
def test_the_kernels_compute_them_too(tiny: Params) -> None:
    model = special(tiny, salience="causal", signals=[*SIGNALS], experts=4).to(DEVICE)
    found = {}
    for kernels in ("reference", "triton"):
        model.use_kernels(kernels)
        torch.manual_seed(1)  # of the noise in training
        loss, penalty = model.loss(tokens().to(DEVICE), tokens(4).to(DEVICE))
        parameters = list(model.parameters())  # of which folding leaves the key bias unused
        gradients = torch.autograd.grad(
            loss + penalty, parameters, allow_unused=True, materialize_grads=True
        )
        found[kernels] = [loss, penalty, *gradients]
    for mine, theirs in zip(found["triton"], found["reference"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
