"""The model against its equations."""

import math

import pytest
import torch
from torch import Tensor

from ncn.control.outputs import ControlOutput, homeostatic_penalty
from ncn.model import LanguageModel, build_model, model_config, parameter_count
from ncn.model.initialisation import POOLING_INPUTS, initialise
from ncn.settings import Params
from ncn.training.optimizer import make_optimizer
from tests.conftest import VOCABULARY, special, with_arm

GPT2 = 50_257


def tokens(batch: int = 2, length: int = 24, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def shaken(model: LanguageModel, scale: float = 0.3) -> LanguageModel:
    """The model with large random weights everywhere: nothing holds only at initialisation."""
    stream = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, scale, generator=stream)
    return model.eval()


def test_parameter_counts_are_the_published_ones(published: Params) -> None:
    ncn = model_config(published, "ncn", GPT2)
    assert parameter_count(ncn) == 18_007_762
    assert parameter_count(ncn.model_copy(update={"control": None})) == 17_726_464
    assert parameter_count(model_config(published, "ncn_causal", GPT2)) == 18_007_762
    with torch.device("meta"):
        control = LanguageModel(ncn).control
    assert control is not None
    assert sum(p.numel() for p in control.parameters()) == 281_298


def test_the_baseline_restores_the_count(published: Params) -> None:
    rounded = model_config(published, "baseline", GPT2)
    assert (rounded.d_ff, parameter_count(rounded)) == (1112, 17_997_328)
    assert abs(parameter_count(rounded) / 18_007_762 - 1) < 0.0007
    nearest = with_arm(published, controller="none", multiple_of=1)
    assert model_config(nearest, "special", GPT2).d_ff == 1115
    plain = with_arm(published, controller="none", match="none")
    assert parameter_count(model_config(plain, "special", GPT2)) == 17_726_464


@pytest.mark.parametrize("settings", [
    {"controller": "none"}, {"salience": "causal"}, {"salience": "reactive"}, {"salience": "none"},
])  # fmt: skip
@pytest.mark.parametrize("position", [1, 7, 23])
def test_a_change_leaves_every_earlier_logit_identical(
    tiny: Params, settings: dict[str, str], position: int
) -> None:
    model = shaken(special(tiny, **settings))
    before, changed = tokens(), tokens()
    changed[:, position:] = tokens(seed=1)[:, position:]
    assert torch.equal(model(before)[:, :position], model(changed)[:, :position])


def test_global_salience_sees_the_future(tiny: Params) -> None:
    model = shaken(special(tiny, salience="global"))
    before, changed = tokens(), tokens()
    changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY
    assert not torch.equal(model(before)[:, 0], model(changed)[:, 0])


def test_neutral_signals_make_the_model_its_own_backbone(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shaken(special(tiny))
    plain = LanguageModel(model.config.model_copy(update={"control": None})).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    ones = torch.ones(2, 24, tiny.model.n_layers)
    assert model.control is not None
    assert model.config.control is not None
    neutral = ControlOutput(dict.fromkeys(model.config.control.signals, ones))
    monkeypatch.setattr(model.control, "forward", lambda *_: neutral)
    assert torch.equal(model(tokens()), plain(tokens()))


@pytest.mark.parametrize(
    ("init", "values"),
    [("identity", {"gain": 1.0, "precision": 0.9997, "ffn_gate": 0.9526}),
     ("zero", {"gain": 1.0, "precision": 0.7031, "ffn_gate": 0.5})],
)  # fmt: skip
def test_the_built_model_starts_at_its_declared_signals(
    published: Params, init: str, values: dict[str, float]
) -> None:
    signals = special(published, init=init).signals(tokens())
    for name, value in values.items():
        assert signals[name].mean().item() == pytest.approx(value, abs=0.02)
        assert signals[name].shape == (2, 24, 6)


def test_a_zeroed_start_has_the_penalty_of_the_published_log(published: Params) -> None:
    model = special(published, init="zero", frozen=True)
    _, penalty = model.loss(tokens(), tokens(seed=1))
    assert penalty.item() == pytest.approx(0.00338, abs=5e-5)
    optimizer = make_optimizer(model, published.train)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert model.control is not None
    assert not any(id(parameter) in trained for parameter in model.control.parameters())


def test_signals_stay_in_range_for_any_weights(tiny: Params) -> None:
    signals = shaken(special(tiny), scale=5.0).signals(tokens())
    upper = {"gain": 2.0, "precision": 4.0, "ffn_gate": 1.0}
    for name, limit in upper.items():
        assert signals[name].min() >= 0
        assert signals[name].max() <= limit


def test_precision_above_its_clamp_has_no_gradient(tiny: Params) -> None:
    control = special(tiny, signals=["precision"]).control
    assert control is not None
    with torch.no_grad():
        control.output.bias.fill_(10.0)
    control(torch.randn(1, 4, 32)).signals["precision"].sum().backward()
    assert control.output.bias.grad is not None
    assert torch.all(control.output.bias.grad == 0)


def test_the_penalty_is_equation_18_and_15_on_request(tiny: Params) -> None:
    signals = {"gain": torch.full((2, 5, 3), 1.5), "ffn_gate": torch.full((2, 5, 3), 0.8)}
    expected = 0.01 * (0.5**2 + 0.2**2)
    assert homeostatic_penalty(signals, tiny.ncn).item() == pytest.approx(expected)
    summed = tiny.ncn.model_copy(update={"penalty": "sum"})
    assert homeostatic_penalty(signals, summed).item() == pytest.approx(3 * expected)


def test_scaling_queries_by_precision_scales_the_attention_logits(tiny: Params) -> None:
    attention = shaken(special(tiny, controller="none")).blocks[0].attention
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    q, k, v = attention.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    logits = 1.7 * (q @ k.transpose(-1, -2)) / math.sqrt(8)
    heads = logits.masked_fill(future, -torch.inf).softmax(-1) @ v
    expected = attention.out(heads.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, {"layer": torch.full((1, 6), 1.7)})[0], expected)


@pytest.mark.parametrize("gain", [0.0, 0.5, 2.0])
def test_the_gradient_of_a_modulated_branch_scales_with_its_gain(tiny: Params, gain: float) -> None:
    block = shaken(special(tiny, controller="none")).blocks[0]
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))

    def gradients(value: float, gate: float) -> list[Tensor]:
        # d(x + g a)/da = g: the branches alone, with the same gradient arriving from above.
        y, _ = block(x, gain=torch.full((1, 6), value), ffn_gate=torch.full((1, 6), gate))
        branches = [*block.attention.parameters(), *block.feed_forward.parameters()]
        return list(torch.autograd.grad(y.sum(), branches))

    for got, whole in zip(gradients(gain, 0.0), gradients(1.0, 0.0), strict=True):
        torch.testing.assert_close(got, gain * whole)
    # What enters the feed-forward depends on the gain as well, so its gate is turned instead.
    own = slice(len(list(block.attention.parameters())), None)
    for got, whole in zip(gradients(1.0, gain)[own], gradients(1.0, 1.0)[own], strict=True):
        torch.testing.assert_close(got, gain * whole)
        assert whole.abs().max() > 0


def test_first_loss_is_near_ln_v_for_every_arm(published: Params) -> None:
    for arm in published.arms:
        loss, _ = build_model(published, arm, 2048).loss(tokens(), tokens(seed=1))
        assert loss.item() == pytest.approx(math.log(2048), abs=0.15)


def test_arms_of_one_seed_start_with_equal_shared_weights(tiny: Params) -> None:
    baseline, ncn = (build_model(tiny, arm, VOCABULARY, 3) for arm in ("baseline", "ncn"))
    assert torch.equal(baseline.embedding.weight, ncn.embedding.weight)
    assert torch.equal(baseline.blocks[2].attention.qkv.weight, ncn.blocks[2].attention.qkv.weight)
    other = build_model(tiny, "ncn", VOCABULARY, 4)
    assert not torch.equal(other.embedding.weight, ncn.embedding.weight)


def test_the_built_model_has_the_distributions_of_the_table(published: Params) -> None:
    model = build_model(published, "ncn", GPT2)
    for name, parameter in model.named_parameters():
        if name in ("control.pooling.query", *POOLING_INPUTS):
            continue  # see below
        if "norm" in name:
            assert torch.all(parameter == 1), name
        elif name == "control.output.bias":
            assert parameter.view(6, 3).tolist() == [pytest.approx([0.0, 0.525, 3.0])] * 6
        elif name.endswith("bias"):
            assert torch.all(parameter == 0), name
        else:
            slack = 4 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(0.02, rel=slack), name
            assert abs(parameter.mean().item()) < 5 * 0.02 / math.sqrt(parameter.numel()), name


def test_the_pooling_starts_as_declared(published: Params) -> None:
    pooling = build_model(published, "ncn", GPT2).control.pooling
    assert pooling.query.std().item() == pytest.approx(1.0, rel=0.15)
    bound = math.sqrt(6 / (4 * 256))  # Xavier of the three projections as one matrix
    for part in ("q_proj", "k_proj", "v_proj"):
        weight = pooling.get_submodule(part).weight
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert pooling.out_proj.weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(
    ("start", "low", "high"), [("published", 5e-3, 5e-2), ("small", 5e-6, 1e-4)]
)
def test_only_the_published_start_gives_scores_that_differ(
    published: Params, start: str, low: float, high: float
) -> None:
    model = special(published, salience_start=start)
    x = model._embedded(torch.randint(97, (2, 64), generator=torch.Generator().manual_seed(0)))
    scores = x @ model.control.pooling.folded_query().T
    assert low < scores.std().item() < high


def test_pooling_entropy_is_1_for_a_mean_and_falls_as_scores_differ(tiny: Params) -> None:
    model = special(tiny, salience="causal")
    even = model.pooling_entropy(tokens())
    assert even.shape == (len(tokens()), tiny.ncn.heads)
    assert even.min().item() > 0.99
    with torch.no_grad():
        model.control.pooling.query.mul_(1000)
    assert model.pooling_entropy(tokens()).max().item() < 0.9
    assert special(tiny, salience="reactive").pooling_entropy(tokens()).max().item() == 0
    assert special(tiny, controller="none").pooling_entropy(tokens()) is None


@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_every_parameter_is_in_exactly_one_optimizer_group(tiny: Params, decay: str) -> None:
    model = build_model(tiny, "ncn", VOCABULARY)
    optimizer = make_optimizer(model, tiny.train.model_copy(update={"decay": decay}))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_the_control_network_receives_gradient(tiny: Params) -> None:
    model = build_model(tiny, "ncn_causal", VOCABULARY)
    cross_entropy, _ = model.loss(tokens(), tokens(seed=1))
    cross_entropy.backward()
    assert model.control is not None
    silent = [name for name, p in model.control.named_parameters() if p.grad is None]
    assert silent == ["pooling.k_proj.bias"]  # it drops out of the softmax
    assert model.control.output.weight.grad is not None
    assert model.control.output.weight.grad.abs().max() > 0


def test_unused_signals_are_neutral(tiny: Params) -> None:
    signals = special(tiny, signals=["gain"]).signals(tokens())
    assert torch.all(signals["precision"] == 1)
    assert torch.all(signals["ffn_gate"] == 1)
    assert not torch.all(signals["gain"] == 1)


def test_initialisation_is_repeatable(tiny: Params) -> None:
    first, second = (build_model(tiny, "ncn", VOCABULARY, 9) for _ in range(2))
    initialise(first, 8)
    initialise(first, 9)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_too_long_input_is_refused(tiny: Params) -> None:
    with pytest.raises(ValueError, match="41 tokens are more than context_length 40"):
        build_model(tiny, "ncn", VOCABULARY)(tokens(length=41))
