"""Weights in int8: how far they are off, and that what is scored is what generates."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ncn.common.errors import InputError
from ncn.corpus.conditions import NO_CONDITIONS
from ncn.generation.caches import make_cache
from ncn.generation.decoding import stream
from ncn.generation.matrices import LARGEST, AsItIs, InInt8, in_int8, rounded
from ncn.generation.one_token import OneToken
from ncn.generation.sampling import Sampling
from ncn.settings import Params
from tests.conftest import special
from tests.generation.saved import lively
from tests.generation.test_one_token import OTHERS, PLAIN
from tests.model.test_language_model import shaken, tokens

GREEDY = Sampling(0.0)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 70)),
        elements=st.floats(-4, 4, width=32, allow_subnormal=False),
    )
)
def test_a_weight_is_off_by_half_a_step_at_most(weight: np.ndarray) -> None:
    matrix = torch.from_numpy(weight)
    numbers, scales = in_int8(matrix)
    assert int(numbers.int().abs().max()) <= LARGEST
    # A scale in bfloat16 may be too small by 1 / 2^9: the largest lies 127 / 2^9 steps too far.
    off = (matrix.double() - numbers.double() * scales[:, None].double()).abs()
    assert bool((off <= 0.5 * (1 + 1e-5) * scales[:, None].double()).all())


@pytest.mark.parametrize("inputs", [1, 8, 31, 32, 33, 70, 1112])
def test_products_in_int8_are_those_of_the_rounded_weights(inputs: int) -> None:
    torch.manual_seed(inputs)
    weight, x, base = torch.randn(50, inputs), torch.randn(inputs), torch.randn(50)
    numbers, scales = in_int8(weight)
    exact = AsItIs(numbers.double() * scales[:, None].double())
    made, whole = InInt8(weight), x.double()
    # Of bfloat16's 8 bits: x and the product are rounded once each.
    tolerance = 2**-8 * float((numbers * scales[:, None]).abs().sum(1).max() * x.abs().max())
    for mine, right in (
        (made.product(x, 0.7), exact.product(whole, 0.7)),
        (made.added(base, x, 0.7), exact.added(base.double(), whole, 0.7)),
    ):
        torch.testing.assert_close(mine.double(), right, atol=tolerance, rtol=0)
        assert (mine - base).std() > 0.1


@pytest.mark.parametrize(("settings", "salience"), PLAIN)
def test_what_generates_in_int8_is_the_model_that_is_scored(
    tiny: Params, settings: dict[str, str], salience: str | None
) -> None:
    text = tokens(1, 40)
    model = shaken(special(tiny, **settings)).eval()
    mended = rounded(model)
    cache = make_cache(mended, 1)
    one_token = OneToken(mended, cache, "int8")
    with torch.inference_mode():
        mended.next_logits(text[:, :5], salience, cache)
        logits = torch.cat(
            [
                one_token.next_logits(text[:, t : t + 1], salience, NO_CONDITIONS)
                for t in range(5, 40)
            ]
        )
        scored, plain = (each(text, salience)[0, 5:] for each in (mended, model))
    spread = scored.std()
    assert spread > 0.3
    assert (logits - scored).std() < 0.03 * spread  # bfloat16
    assert 0 < (scored - plain).std() < 0.1 * spread


def test_a_weight_of_zero_in_a_norm_stays_finite(tiny: Params) -> None:
    model = lively(special(tiny))
    with torch.no_grad():
        model.blocks[0].attention_norm.weight[3] = 0
    mended, before = rounded(model), model.blocks[0].attention.qkv.weight
    after = mended.blocks[0].attention.qkv.weight
    assert torch.equal(after[:, 3], before[:, 3])
    assert after.isfinite().all()


def test_a_text_outgrows_the_context_in_int8(tiny: Params) -> None:
    model, text = lively(special(tiny, salience="causal")), tokens(1, 9)
    new = [int(each) for each in stream(model, text, 120, GREEDY, [0], weights="int8")]
    assert len(new) == 120
    assert len({*new}) > 10


# What is said of each of OTHERS.
SAID = [
    "gain, precision, ffn_gate: each layer's see the attention of the one before",
    "gain, precision, ffn_gate: each layer's are made of its own input",
    "gain, precision, ffn_gate: made with a state over positions",
    "head_gate: several numbers a layer, one a head",
    "depth_gate: it acts on the layer",
    "norm_film: several numbers a layer, 4 for the norms",
    "activation_slope: it acts on the slope",
    "its modulator is gated_attention",
]


@pytest.mark.parametrize(("settings", "said"), list(zip(OTHERS, SAID, strict=True)))
def test_what_cannot_be_read_in_int8_is_said(
    tiny: Params, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError) as refusal:
        stream(lively(special(tiny, **settings)), tokens(1, 6), 8, GREEDY, [0], weights="int8")
    assert str(refusal.value) == f"weights int8 cannot be had here: {said}"


def test_several_texts_cannot_be_read_in_int8(tiny: Params) -> None:
    with pytest.raises(InputError, match=r"2 texts at once, and only one can be$"):
        stream(lively(special(tiny)), tokens(2, 6), 8, GREEDY, [0, 1], weights="int8")


def test_without_the_cache_none_can_be_read_in_int8(tiny: Params) -> None:
    with pytest.raises(InputError, match=r"without the cache$"):
        stream(lively(special(tiny)), tokens(1, 6), 8, GREEDY, [0], cached=False, weights="int8")
