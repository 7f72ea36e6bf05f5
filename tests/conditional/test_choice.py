"""What is left out by the gate, at random and of fixed layers: equally much, counted exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncn.conditional.choice import (
    at_random,
    by_weight,
    cheapest_first,
    flops_saved,
    left_out,
    of_layers,
)
from ncn.model import model_config
from ncn.model.flops import flops_per_token
from ncn.model.skipping import FORMS, Form
from ncn.scoring.asked import Asked, asked_of
from ncn.settings import ModelConfig, Params
from tests.conftest import VOCABULARY
from tests.model.test_skipping import a_share, tokens, varied


def asked(params: Params, n: int = 4) -> Asked:
    rows = np.random.default_rng(2).integers(VOCABULARY, size=(n, 25), dtype=np.uint16)
    return asked_of(varied(params, salience="causal"), rows, n)


@pytest.fixture(scope="module")
def config(tiny: Params) -> ModelConfig:
    """Three layers."""
    return model_config(tiny, "ncn", VOCABULARY)


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5)),
    part=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_random_and_fixed_choices_leave_out_as_many_as_asked(
    shape: tuple[int, int, int], part: float, seed: int
) -> None:
    size, draw = torch.Size(shape), np.random.default_rng(seed)
    without = round(part * size.numel())
    order = [int(layer) for layer in draw.permutation(shape[2])]
    random, layers = at_random(size, without, draw), of_layers(size, without, order, draw)
    assert int((~random).sum()) == int((~layers).sum()) == without
    shares = (~layers).double().mean(dim=(0, 1))[order].tolist()
    assert shares == sorted(shares, reverse=True)
    assert sum(0 < share < 1 for share in shares) <= 1


def test_all_random_choices_are_equally_likely() -> None:
    draw = np.random.default_rng(1)
    kept = torch.stack([at_random(torch.Size((2, 3, 2)), 3, draw) for _ in range(2000)])
    assert torch.allclose((~kept).double().mean(0), torch.tensor(0.25).double(), atol=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_the_choice_by_weight_is_what_the_model_skips(tiny: Params, form: Form) -> None:
    mine = asked(tiny)
    below, keep = a_share(mine.model, mine.tokens, form, 0.5)
    assert torch.equal(by_weight(mine, form, below), keep)
    assert by_weight(mine, form, 0.0).all()
    with left_out(mine.model, keep, form):
        dense = mine.row_losses()
    whole = mine.row_losses()
    mine.model.skip_below(below, form)
    assert mine.row_losses() == pytest.approx(dense, abs=1e-5)
    assert np.abs(dense - whole).min() > 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_a_later_token_moves_no_bit_of_an_earlier_logit(tiny: Params, form: Form) -> None:
    mine = asked(tiny)
    below, keep = a_share(mine.model, mine.tokens, form, 0.5)
    other = mine.tokens.clone()
    other[:, 15:] = (other[:, 15:] + 1) % VOCABULARY
    changed = by_weight(Asked(mine.model, other, mine.targets, mine.conditions, None), form, below)
    assert torch.equal(changed[:, :15], keep[:, :15])
    assert not torch.equal(changed, keep)
    with left_out(mine.model, keep, form):
        before = mine.model(mine.tokens)
    with left_out(mine.model, changed, form):
        after = mine.model(other)
    assert torch.equal(before[:, :15], after[:, :15])


@pytest.mark.parametrize("form", FORMS)
def test_where_all_is_kept_not_one_bit_differs(tiny: Params, form: Form) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    whole = model(text)
    with left_out(model, torch.ones(*text.shape, 3, dtype=torch.bool), form):
        assert torch.equal(model(text), whole)


def test_the_layer_that_does_nothing_is_left_out_first(tiny: Params) -> None:
    mine = asked(tiny)
    with torch.no_grad():
        for name, each in mine.model.blocks[1].named_parameters():
            if "down" in name or "attention.out" in name:
                each.zero_()
        expected = mine.model(mine.tokens).argmax(-1)  # which other layers' absence makes less so
    mine = replace(mine, targets=expected)
    assert cheapest_first(mine, "layer")[0] == 1
    assert cheapest_first(mine, "feed_forward")[0] == 1
    assert sorted(cheapest_first(mine, "layer")) == [0, 1, 2]


def test_without_any_feed_forward_the_flops_are_those_of_none(config: ModelConfig) -> None:
    d, f, length = config.d_model, config.d_ff, config.context_length
    nothing = torch.zeros(2, length, 3, dtype=torch.bool)
    without = flops_per_token(config.model_copy(update={"d_ff": 0}))
    assert flops_per_token(config) - flops_saved(config, nothing, "feed_forward") == without
    # The products of queries, keys and values remain of a layer: 2 * 3 D^2.
    attention = 2 * d**2 + 2 * 2 * d * (length + 1) / 2
    assert flops_saved(config, nothing, "layer") == 3 * (2 * 2 * d * f + attention)


@given(part=st.floats(0, 1), seed=st.integers(0, 99))
def test_flops_saved_are_the_share_of_all(config: ModelConfig, part: float, seed: int) -> None:
    shape = torch.Size((2, 10, 3))
    keep = at_random(shape, round(60 * part), np.random.default_rng(seed))
    whole = flops_saved(config, torch.zeros(shape, dtype=torch.bool), "feed_forward")
    assert flops_saved(config, keep, "feed_forward") == pytest.approx(
        whole * float((~keep).double().mean())
    )
    one = torch.ones(1, 10, 3, dtype=torch.bool)
    one[0, 6, 1] = False  # attends to seven positions
    d, f = config.d_model, config.d_ff
    assert flops_saved(config, one, "layer") * 10 == pytest.approx(4 * d * f + 2 * d**2 + 28 * d)
