"""The controller with a state: the same as a loop, however a text is cut."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ncn.control.recurrence import linear_scan
from ncn.control.salience import Tonic
from ncn.model import model_config, parameter_count
from ncn.model.flops import flops_per_token
from ncn.settings import Params
from tests.conftest import special, with_arm
from tests.generation.saved import lively
from tests.model.test_language_model import shaken, tokens

GPT2 = 50_257


def looped(keep: Tensor, add: Tensor, state: Tensor | None = None) -> Tensor:
    """The recurrence as it is written, a position at a time."""
    last = torch.zeros_like(add[:, 0]) if state is None else state
    states = []
    for kept, added in zip(keep.unbind(1), add.unbind(1), strict=True):
        last = kept * last + added
        states.append(last)
    return torch.stack(states, dim=1)


def drawn(length: int, spread: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of gates, values and a state, in float64; `spread` large: gates of exactly 0 and 1."""
    stream = torch.Generator().manual_seed(seed)
    shape = (2, length, 3)
    logits, values = (torch.randn(shape, dtype=torch.float64, generator=stream) for _ in range(2))
    return spread * logits, values, torch.randn(2, 3, dtype=torch.float64, generator=stream)


@settings(max_examples=40)
@given(
    length=st.integers(1, 70),
    spread=st.sampled_from([0.0, 1.0, 10.0, 1000.0]),
    seed=st.integers(0, 1000),
    continued=st.booleans(),
)
def test_the_scan_is_the_loop_with_its_gradients(
    length: int, spread: float, seed: int, continued: bool
) -> None:
    logits, values, first = drawn(length, spread, seed)
    start = first if continued else None
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 3e-6)):
        found = []
        for scan, kind in ((linear_scan, dtype), (looped, torch.float64)):
            inputs = [each.to(kind).requires_grad_() for each in (logits, values)]
            keep, add = inputs[0].sigmoid(), inputs[0].neg().sigmoid() * inputs[1]
            states = scan(keep, add, None if start is None else start.to(kind))
            gradients = torch.autograd.grad(states.sin().sum(), inputs)
            found.append([states, *gradients])
        for mine, truth in zip(*found, strict=True):
            torch.testing.assert_close(mine.double(), truth, rtol=0, atol=tolerance * length)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 39), max_size=6), seed=st.integers(0, 100))
def test_a_text_in_pieces_has_the_states_of_the_whole(cuts: list[int], seed: int) -> None:
    logits, values, _ = drawn(40, 1.0, seed)
    keep, add = logits.sigmoid(), logits.neg().sigmoid() * values
    state, states = None, []
    for piece in torch.tensor_split(torch.arange(40), sorted({*cuts})):
        states.append(linear_scan(keep[:, piece], add[:, piece], state))
        state = states[-1][:, -1]
    torch.testing.assert_close(torch.cat(states, dim=1), linear_scan(keep, add))


def test_gates_that_keep_all_or_nothing_stay_finite_over_a_long_text() -> None:
    """Where a scan by quotients or logarithms of products would divide 0 by 0."""
    logits = torch.tensor([[-1e4, 1e4, -30.0, 30.0]]).repeat(1, 1025, 1).requires_grad_()
    values = torch.ones(1, 1025, 4)
    states = linear_scan(logits.sigmoid(), logits.neg().sigmoid() * values)
    (gradient,) = torch.autograd.grad(states.sum(), logits)
    assert torch.isfinite(states).all()
    assert torch.isfinite(gradient).all()
    assert states[0, -1].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("salience", ["causal", "none", "global"])
def test_the_signals_are_those_of_the_equation(tiny: Params, salience: str) -> None:
    changes = {"controller": "recurrent", "salience": salience, "signals": ["gain"]}
    model = shaken(special(tiny, **changes)).double()
    control = model.control
    with torch.no_grad():
        x = model._embedded(tokens())
        u = control.norm(x if control.pooling is None else x + control.pooling(x, salience))
        gate = torch.sigmoid(F.linear(u, control.recurrence.forget.weight)
                             + control.recurrence.forget.bias)  # fmt: skip
        states = looped(gate, (1 - gate) * control.hidden(u))
        expected = 2 * control.output(states.tanh()).sigmoid()
    torch.testing.assert_close(model.signals(tokens())["gain"], expected)


def test_a_gate_that_keeps_nothing_is_the_network_without_a_state(tiny: Params) -> None:
    recurrent, plain = (
        special(tiny, controller=controller, salience="causal", match="none").eval()
        for controller in ("recurrent", "network")
    )
    assert not torch.equal(recurrent(tokens()), plain(tokens()))
    with torch.no_grad():
        recurrent.control.recurrence.forget.weight.zero_()
        recurrent.control.recurrence.forget.bias.fill_(-1000.0)
    torch.testing.assert_close(recurrent(tokens()), plain(tokens()))


def test_it_adds_the_gates_weights_and_nothing_else(published: Params) -> None:
    def config(**changes: object) -> tuple[int, int]:
        made = model_config(with_arm(published, match="none", **changes), "special", GPT2)
        return parameter_count(made), flops_per_token(made)

    count, flops = config(controller="recurrent")
    plain_count, plain_flops = config()
    assert plain_count == 18_007_762
    assert count == 18_007_762 + 64 * (256 + 1)
    assert flops - plain_flops == 2 * 64 * 256
    matched = with_arm(published, controller="recurrent", multiple_of=1)
    size = parameter_count(model_config(matched, "special", GPT2))
    assert abs(size - 18_007_762) <= 6 * 513 / 2


def test_generation_keeps_one_state_of_constant_size(tiny: Params) -> None:
    model = lively(special(tiny, controller="recurrent", salience="causal"))
    cache, text = model.make_cache(2), tokens(2, 40)
    for end in range(0, 40, 5):
        model(text[:, end : end + 5], cache=cache)
        assert cache.tonic.memory is not None
        assert cache.tonic.memory.shape == (2, 8)
        assert cache.tonic.memory.untyped_storage().nbytes() == 2 * 8 * 4
    cache.clear()
    assert cache.tonic == Tonic()
