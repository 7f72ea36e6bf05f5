"""Skipping: the model with a branch times 0 computed in less, on whole texts and token by token."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ncn.common.errors import InputError
from ncn.generation import generate
from ncn.generation.one_token import suits
from ncn.model import LanguageModel, build_model
from ncn.model.blocks import Block
from ncn.model.skipping import FORMS, Form, weights
from ncn.settings import Params
from tests.conftest import VOCABULARY, special

GATE: dict[Form, str] = {"feed_forward": "ffn_gate", "layer": "depth_gate"}
ARMS: dict[str, dict[str, Any]] = {
    "causal": {"salience": "causal"},
    "static": {"controller": "static"},
    "further": {
        "salience": "causal",
        "signals": ["gain", "ffn_gate", "head_gate", "depth_gate", "activation_slope"],
    },
    "norms": {"salience": "causal", "signals": ["gain", "ffn_gate", "norm_film", "dropout"]},
    "by layer": {"salience": "causal", "phasic": "layer"},
    "rivals": {"salience": "causal", "modulator": "transponder"},
}


def varied(params: Params, **changes: Any) -> LanguageModel:
    """A model whose signals differ widely from token to token, in evaluation mode."""
    model = special(params, **changes).eval()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if name.startswith("control") and each.ndim == 2:
                each.normal_(0, 0.6, generator=draw)
            elif name == "control.bias":
                each.normal_(0, 1, generator=draw)
            elif "blocks" in name and each.ndim == 2:
                each.mul_(6)  # so that a branch is seen in the logits
    return model


def tokens(rows: int = 3, length: int = 24, seed: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, length), generator=draw)


def times_zero(below: float, form: Form) -> Any:
    """In place of a Skip: every layer as it is, with the branches of a form times 0."""

    def dense(block: Block, x: Tensor, *caches: Any, **signals: Any) -> Any:
        own = {k: each for k, each in signals.items() if k not in ("past", "measure")}
        keep = weights(own, form) >= below
        gate = own.get(GATE[form], torch.ones(x.shape[:2]))
        return block(x, *caches, **signals | {GATE[form]: gate * keep})

    return dense


def a_share(model: LanguageModel, text: Tensor, form: Form, share: float) -> tuple[float, Tensor]:
    """An eps that leaves about a share out, one weight at least, and what it keeps [B, T, L].

    Midway between two weights, so that no rounding decides.
    """
    mine = weights(model.signals(text), form).expand(*text.shape, model.config.n_layers)
    values = [*mine.unique().tolist(), 1e9]
    place = int(share * (len(values) - 2))
    below = (values[place] + values[place + 1]) / 2
    return below, mine >= below


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_skipping_is_the_branch_times_zero(
    tiny: Params, arm: dict[str, Any], form: Form, share: float
) -> None:
    model, text = varied(tiny, **arm), tokens()
    below, keep = a_share(model, text, form, share)
    assert not keep.all()
    whole = model(text)
    model.skip = times_zero(below, form)
    expected = model(text)
    model.skip_below(below, form)
    torch.testing.assert_close(model(text), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, whole, rtol=1e-3, atol=1e-3)


@settings(max_examples=25)
@given(
    share=st.floats(0, 1), rows=st.integers(1, 4), length=st.integers(1, 40),
    form=st.sampled_from(FORMS),
)  # fmt: skip
def test_whatever_is_left_out(
    tiny: Params, share: float, rows: int, length: int, form: Form
) -> None:
    model, text = varied(tiny, salience="causal"), tokens(rows, length)
    below, _ = a_share(model, text, form, share)
    model.skip = times_zero(below, form)
    expected = model(text)
    model.skip_below(below, form)
    torch.testing.assert_close(model(text), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_at_eps_zero_not_one_bit_differs(tiny: Params, form: Form) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    whole = model(text)
    written = generate(model, text, 40, temperature=0)
    model.skip_below(0.0, form)
    assert torch.equal(model(text), whole)
    assert torch.equal(generate(model, text, 40, temperature=0), written)
    model.skip_below(None)
    assert model.skip is None


@pytest.mark.parametrize("form", FORMS)
def test_where_all_is_skipped_a_text_goes_through_untouched(tiny: Params, form: Form) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    model.skip_below(1e9, form)
    if form == "layer":
        hidden = model.norm(model.embedding(text) + model.positions.weight[: text.shape[1]])
        torch.testing.assert_close(model(text), hidden @ model.embedding.weight.T)
    for block in model.blocks:
        assert isinstance(block, Block)
        with torch.no_grad():
            block.feed_forward.down.bias.fill_(torch.nan)  # which nobody reads
    assert torch.isfinite(model(text)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 3])
def test_token_by_token_is_the_whole_pass(tiny: Params, form: Form, rows: int) -> None:
    model, text = varied(tiny, salience="causal"), tokens(rows)
    below, _ = a_share(model, text, form, 0.5)
    model.skip_below(below, form)
    whole, cache = model(text), model.make_cache(rows)
    for end in range(4, text.shape[1] + 1):
        logits = model.next_logits(text[:, cache.length : end], None, cache)
        torch.testing.assert_close(logits, whole[:, end - 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_one_text_is_written_alike_by_either_path(tiny: Params, form: Form) -> None:
    model, text = varied(tiny, salience="causal"), tokens(1, 8)
    below, _ = a_share(model, tokens(), form, 0.5)
    assert suits(model, 1)
    plain = generate(model, text, 40, temperature=0)
    model.skip_below(below, form)
    quick = generate(model, text, 40, temperature=0)
    assert torch.equal(quick, generate(model, text, 40, temperature=0, cached=False))
    assert not torch.equal(quick, plain)


@pytest.mark.parametrize("form", FORMS)
def test_a_later_token_moves_no_earlier_logit_beyond_rounding(tiny: Params, form: Form) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    below, _ = a_share(model, text, form, 0.5)
    model.skip_below(below, form)
    other = text.clone()
    other[:, 15:] = (text[:, 15:] + 1) % VOCABULARY
    before, after = model(text), model(other)
    torch.testing.assert_close(before[:, :15], after[:, :15], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before[:, 15:], after[:, 15:], atol=1e-2)


def test_the_weight_is_gate_times_gain_and_of_a_layer_its_larger_branch() -> None:
    gain, gate, depth = torch.rand(3, 2, 5).unbind()
    heads = torch.rand(2, 5, 4)
    mine = {"gain": 2 * gain, "ffn_gate": gate}
    torch.testing.assert_close(weights(mine, "feed_forward"), 2 * gain * gate)
    torch.testing.assert_close(weights(mine, "layer"), 2 * gain)
    more = mine | {"depth_gate": depth, "head_gate": heads}
    torch.testing.assert_close(weights(more, "feed_forward"), depth * 2 * gain * gate)
    larger = torch.maximum(2 * gain * heads.amax(-1), 2 * gain * gate)
    torch.testing.assert_close(weights(more, "layer"), depth * larger)
    assert weights({}, "layer") == 1


def test_a_model_without_control_is_refused_by_name(tiny: Params) -> None:
    model = build_model(tiny, "baseline", VOCABULARY)
    with pytest.raises(InputError, match=r"^baseline: no control network") as refused:
        model.skip_below(0.5, name="baseline")
    assert "\n" not in str(refused.value)
    entropy = special(tiny, salience="causal", attention_entropy=True)
    with pytest.raises(InputError, match="no layer can be skipped; a feed_forward can"):
        entropy.skip_below(0.5, "layer")
    entropy.skip_below(0.5, "feed_forward")
    assert entropy.eval()(tokens()).isfinite().all()
