"""Keys and values in few bits: how far a number may move, and how many bytes are left."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncn.conditional.quantised import SCALE_BYTES, WHOLE, compressed, quantised, stored_bytes
from ncn.model import LanguageModel, model_config
from ncn.model.blocks import split_heads
from ncn.model.rivals import NEUTRAL
from ncn.settings import Params
from tests.conftest import VOCABULARY
from tests.model.test_skipping import tokens, varied

BITS = range(2, 9)
FLOATS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=3, max_side=9),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@given(FLOATS, st.sampled_from(BITS))
def test_no_number_moves_by_more_than_half_a_step(x: NDArray[np.float32], bits: int) -> None:
    before = torch.from_numpy(x)
    read = quantised(before, bits)
    largest = before.abs().amax(-1, keepdim=True)
    step = largest / (2 ** (bits - 1) - 1)
    tiny = torch.finfo(torch.float32).tiny  # below it, numbers have fewer digits than others
    assert ((read - before).abs() <= 0.5 * step + 1e-5 * largest + tiny).all()
    assert (read.abs() <= largest * (1 + 1e-5) + tiny).all()


@given(FLOATS, st.sampled_from(BITS))
def test_a_vector_has_no_more_values_than_its_bits_tell(x: NDArray[np.float32], bits: int) -> None:
    for vector in quantised(torch.from_numpy(x), bits).view(-1, x.shape[-1]):
        assert len(vector.unique()) <= 2**bits - 1


def test_a_vector_of_zeros_stays_zero() -> None:
    assert torch.equal(quantised(torch.zeros(2, 5), 4), torch.zeros(2, 5))


def stored(model: LanguageModel) -> list[torch.Tensor]:
    """What the first layer keeps of a text: keys and values [B, T, H, K]."""
    kept: list[torch.Tensor] = []
    qkv = model.get_submodule("blocks.0.attention.qkv")

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
        kept.extend(split_heads(output, model.config.n_heads, NEUTRAL))

    hook = qkv.register_forward_hook(keep)
    model(tokens())
    hook.remove()
    return kept


def test_keys_and_values_are_rounded_by_head_and_token_and_queries_are_not(tiny: Params) -> None:
    model = varied(tiny, salience="causal")
    q, k, v = stored(model)
    bits = torch.zeros(3, 24, 3, dtype=torch.int64)
    bits[1], bits[:, 20:] = 8, 4
    with compressed(model, bits):
        asked, *read = stored(model)
    assert torch.equal(asked, q)
    for mine, whole in zip(read, (k, v), strict=True):
        assert torch.equal(mine[0, :20], whole[0, :20])
        assert torch.equal(mine[1, :20], quantised(whole[1, :20], 8))
        assert torch.equal(mine[:, 20:], quantised(whole[:, 20:], 4))


def test_uncompressed_not_one_bit_differs_and_fewer_bits_move_more(tiny: Params) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    whole, moved = model(text), []
    for bits in (WHOLE, 8, 4, 2):
        with compressed(model, torch.full((3, 24, 3), bits)):
            moved.append((model(text) - whole).abs().mean().item())
    assert moved[0] == 0
    assert moved == sorted(moved)
    assert moved[1] > 0
    assert torch.equal(model(text), whole)  # nothing stays behind


def test_a_later_token_moves_no_bit_of_an_earlier_logit(tiny: Params) -> None:
    model, text = varied(tiny, salience="causal"), tokens()
    other = text.clone()
    other[:, 15:] = (text[:, 15:] + 1) % VOCABULARY
    bits = torch.full((3, 24, 3), 4)
    bits[:, ::2] = WHOLE
    with compressed(model, bits):
        assert torch.equal(model(text)[:, :15], model(other)[:, :15])


@pytest.mark.parametrize(("bits", "vector"), [(8, 8), (4, 4), (2, 2), (3, 3), (5, 5)])
def test_bytes_are_those_of_packed_numbers_and_a_scale(
    tiny: Params, bits: int, vector: int
) -> None:
    config = model_config(tiny, "ncn", VOCABULARY)  # 3 layers of 4 heads of 8 numbers
    vectors = 2 * 3 * 4
    assert stored_bytes(config, torch.full((2, 5, 3), bits)) == vectors * (vector + SCALE_BYTES)
    assert stored_bytes(config, torch.full((2, 5, 3), WHOLE)) == vectors * 8 * 4
    mixed = torch.full((2, 5, 3), bits)
    mixed[:, :, 0] = WHOLE
    assert stored_bytes(config, mixed) == 16 * (vector + SCALE_BYTES) + 8 * 32
