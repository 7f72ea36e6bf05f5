"""Salience pooling against plain multi-head attention with a mask, in float64."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.control.salience import CHUNK, SaliencePooling, Tonic, next_mean, prefix_softmax

D, H, B = 24, 2, 3


def pooling() -> SaliencePooling:
    module = SaliencePooling(D, H).double()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5, generator=stream)
    return module


def embeddings(length: int) -> Tensor:
    stream = torch.Generator().manual_seed(1)
    return torch.randn(B, length, D, dtype=torch.float64, generator=stream, requires_grad=True)


def plain_attention(module: SaliencePooling, x: Tensor, mask: Tensor) -> Tensor:
    """The same query at every position of nn.MultiheadAttention's function; mask [T', T]."""
    query = module.query.expand(len(mask), B, D)
    projections = (module.q_proj, module.k_proj, module.v_proj)
    out, _ = F.multi_head_attention_forward(
        query, x.transpose(0, 1), x.transpose(0, 1), D, H,
        torch.cat([each.weight for each in projections]),
        torch.cat([each.bias for each in projections]),
        None, None, False, 0.0, module.out_proj.weight, module.out_proj.bias,
        attn_mask=~mask, need_weights=False,
    )  # fmt: skip
    return out.transpose(0, 1)


@pytest.mark.parametrize("mode", ["global", "causal", "reactive"])
@pytest.mark.parametrize("length", [1, 7, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_pooling_equals_masked_attention_in_value_and_gradient(mode: str, length: int) -> None:
    module, x = pooling(), embeddings(length)
    everything = torch.ones(length, length, dtype=torch.bool)
    reactive = torch.eye(length, dtype=torch.bool)
    masks = {"global": everything[:1], "causal": everything.tril(), "reactive": reactive}
    mine, plain = module(x, mode), plain_attention(module, x, masks[mode])
    torch.testing.assert_close(mine, plain)
    weights = torch.randn(
        mine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    inputs = [x, module.query, module.k_proj.weight, module.v_proj.weight, module.out_proj.bias]
    for got, expected in zip(
        torch.autograd.grad((mine * weights).sum(), inputs, allow_unused=True),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(torch.zeros_like(expected) if got is None else got, expected)


@pytest.mark.parametrize("slope", [3.0, -3.0, 50.0])
def test_the_prefix_softmax_is_exact_when_scores_grow_without_bound(slope: float) -> None:
    length = 3 * CHUNK + 1
    scores = (slope * torch.arange(length)).expand(1, 1, -1).float()
    values = torch.randn(1, 1, length, 4, generator=torch.Generator().manual_seed(0))
    means, _ = prefix_softmax(scores, values)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = scores[:, :, None, :].double().expand(1, 1, length, length)
    exact = weights.masked_fill(future, -torch.inf).softmax(-1) @ values.double()
    torch.testing.assert_close(means.double(), exact, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cut", [1, 5, CHUNK, CHUNK + 3])
def test_the_state_carries_the_past(cut: int) -> None:
    stream = torch.Generator().manual_seed(0)
    scores = torch.randn(2, H, 2 * CHUNK, dtype=torch.float64, generator=stream)
    values = torch.randn(2, H, 2 * CHUNK, 5, dtype=torch.float64, generator=stream)
    whole, _ = prefix_softmax(scores, values)
    first, state = prefix_softmax(scores[..., :cut], values[:, :, :cut])
    second, _ = prefix_softmax(scores[..., cut:], values[:, :, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=2), whole)


@pytest.mark.parametrize("mode", ["causal", "reactive"])
@pytest.mark.parametrize("pieces", [(1,) * 9, (4, 5), (CHUNK + 2, 1, 1, 3)])
def test_pooling_in_pieces_is_pooling_at_once(mode: str, pieces: tuple[int, ...]) -> None:
    module, x, tonic = pooling(), embeddings(sum(pieces)), Tonic()
    parts = [module(piece, mode, tonic) for piece in x.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), module(x, mode))


def test_the_state_stays_exact_and_small_over_a_long_text_of_growing_scores() -> None:
    length = 5000
    scores = (0.7 * torch.arange(length)).view(length, 1, 1, 1)
    values = torch.randn(length, 1, 1, 1, 4, generator=torch.Generator().manual_seed(0))
    state = None
    for score, value in zip(scores, values, strict=True):
        mean, state = prefix_softmax(score, value, state)
    weights = scores.flatten().double().softmax(0)
    torch.testing.assert_close(mean.double().flatten(), weights @ values.double().view(length, 4))
    assert state is not None
    assert sum(part.numel() for part in state) == 1 + 1 + 4


def test_held_rows_keep_their_context_and_still_take_in_what_they_read() -> None:
    module, x, tonic = pooling(), embeddings(8), Tonic()
    whole = module(x, "causal")
    module(x[:, :5], "causal", tonic)
    tonic.refresh = torch.tensor([True, False, False])
    sixth = module(x[:, 5:6], "causal", tonic)
    torch.testing.assert_close(sixth[0], whole[0, 5:6])
    torch.testing.assert_close(sixth[1:], whole[1:, 4:5])
    tonic.refresh = torch.tensor([False, True, False])
    seventh = module(x[:, 6:7], "causal", tonic)
    torch.testing.assert_close(seventh[:, 0], whole[torch.arange(3), torch.tensor([5, 6, 4])])
    tonic.refresh = None
    torch.testing.assert_close(module(x[:, 7:], "causal", tonic), whole[:, 7:])


def test_global_pooling_has_no_state() -> None:
    with pytest.raises(ValueError, match="global salience pools the future"):
        pooling()(embeddings(3), "global", Tonic())


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed are global, causal, reactive"):
        pooling()(embeddings(3), "none")


def test_the_key_bias_never_matters() -> None:
    module, x = pooling(), embeddings(9)
    before = module(x, "causal")
    nn.init.normal_(module.k_proj.bias)
    assert torch.equal(module(x, "causal"), before)


def test_one_position_more_is_the_prefix_softmax_of_one() -> None:
    stream = torch.Generator().manual_seed(3)
    scores = torch.randn(B, H, 9, dtype=torch.float64, generator=stream).mul(40).cumsum(-1)
    values = torch.randn(B, H, 9, D, dtype=torch.float64, generator=stream)
    means, _ = prefix_softmax(scores, values)  # scores that grow, and that fall
    _, state = prefix_softmax(scores[..., :1], values[..., :1, :])
    for t in range(1, 9):
        mean, state = next_mean(scores[..., t], values[..., t, :], state)
        torch.testing.assert_close(mean, means[..., t, :])
