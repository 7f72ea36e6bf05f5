"""Salience pooling: what of the sequence matters, as one vector a position (preprint eq. 1).

A learned query attends to the embeddings x with H heads. Because the query is fixed, the
score of a token is an inner product with one folded vector a head,

    score_h(t) = q_h . (W_k,h x_t + b_k,h) / sqrt(K)  =  f_h . x_t + constant,
    f_h = W_k,h^T q_h / sqrt(K),

so no key is ever projected, and the constant (with it the key bias) drops out of the softmax.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ncn.settings import Salience

# Positions that share one masked softmax; the rest of the past comes in through the state.
# 64 keeps the [chunk, chunk] weights small beside the values; the cost stays O(T).
CHUNK = 64


class SalienceState(NamedTuple):
    """The past of a causal pooling: all that later positions need, O(1) in its length.

    maximum [B, H]: largest score so far; total [B, H]: sum of exp(score - maximum);
    weighted [B, H, K]: sum of exp(score - maximum) * value.
    """

    maximum: Tensor
    total: Tensor
    weighted: Tensor


@dataclass
class Tonic:
    """The tonic stream while a text is read in pieces: what one call hands to the next.

    state: of the causal pooling; None before the first position.
    refresh: rows [B] (or [1]: all alike) whose c is recomputed in the next call; the others keep
        the last c that they used. None: every row.
    context: that last c, [B, 1, D].
    query: the folded query f [H, D]: fixed by the weights, so folded once a text.
    memory: beside the stream, the last state [B, hidden] of a recurrent controller
        (`ncn.control.recurrence`).
    """

    state: SalienceState | None = None
    refresh: Tensor | None = None
    context: Tensor | None = None
    query: Tensor | None = None
    memory: Tensor | None = None

    def hold(self, pooled: Tensor) -> Tensor:
        """The c to use at the positions of `pooled` [B, T, D]: it, or the last one."""
        if self.refresh is not None and self.context is not None:
            pooled = torch.where(self.refresh[:, None, None], pooled, self.context)
        self.context = pooled[:, -1:]
        return pooled


def prefix_softmax(
    scores: Tensor, values: Tensor, state: SalienceState | None = None
) -> tuple[Tensor, SalienceState]:
    """Softmax-weighted mean of the values up to each position, in O(T).

        out_t = sum_{s <= t} exp(score_s) value_s / sum_{s <= t} exp(score_s)

    Every position is stabilised by its own running maximum: one maximum for the whole
    sequence would underflow early positions when scores grow along it.

    Args:
        scores: [B, H, T].
        values: [B, H, T, K].
        state: the past before position 0, as an earlier call returned it.

    Returns:
        The means [B, H, T, K] and the state after the last position.
    """
    batch, heads, _, width = values.shape
    if state is None:
        state = SalienceState(
            scores.new_full((batch, heads), -torch.inf),
            scores.new_zeros(batch, heads),
            values.new_zeros(batch, heads, width),
        )
    means = []
    for score, value in zip(scores.split(CHUNK, dim=2), values.split(CHUNK, dim=2), strict=True):
        # The softmax does not depend on its maximum, so no gradient flows through it.
        running = torch.maximum(score.detach().cummax(dim=2).values, state.maximum[..., None])
        exponent = score[:, :, None, :] - running[..., None]  # [B, H, t, s]
        if score.shape[2] > 1:  # one position, as generation adds them, has no future to mask
            future = torch.ones(exponent.shape[-2:], dtype=torch.bool, device=score.device).triu(1)
            exponent = exponent.masked_fill(future, -torch.inf)
        weights = exponent.exp()
        carried = (state.maximum[..., None] - running).exp()  # [B, H, t]
        total = carried * state.total[..., None] + weights.sum(-1)
        weighted = carried[..., None] * state.weighted[:, :, None] + weights @ value
        means.append(weighted / total[..., None])
        state = SalienceState(running[..., -1], total[..., -1], weighted[..., -1, :])
    return torch.cat(means, dim=2), state


def next_mean(score: Tensor, value: Tensor, state: SalienceState) -> tuple[Tensor, SalienceState]:
    """`prefix_softmax` of one position more: score [B, H], value [B, H, K] -> mean [B, H, K].

    The same sums, without what cuts several positions into chunks and masks their future.
    """
    running = torch.maximum(score, state.maximum)
    weight, carried = (score - running).exp(), (state.maximum - running).exp()
    total = torch.addcmul(weight, carried, state.total)
    weighted = torch.addcmul(weight[..., None] * value, carried[..., None], state.weighted)
    return weighted / total[..., None], SalienceState(running, total, weighted)


class SaliencePooling(nn.Module):
    """Multi-head attention of one learned query over the sequence: x [B, T, D] -> c [B, T', D].

    Modes (`ncn.salience`):
        global: one c for the whole window, future tokens included; T' = 1 (as published).
        causal: c_t pools the positions up to t; T' = T.
        reactive: c_t pools position t alone, as the published model generates; T' = T.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Parameter(torch.empty(d_model))
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, mode: Salience, tonic: Tonic | None = None) -> Tensor:
        """Pool x [B, T, D]; returns [B, 1, D] for `global`, else [B, T, D].

        Args:
            x: the embeddings; with `tonic`, those of the positions after the ones it has seen.
            mode: see above.
            tonic: carries the past of x and is brought up to date.

        Raises:
            ValueError: a mode that pools nothing, or `global` with `tonic`.
        """
        if tonic is None:
            return self._pooled(x, mode, Tonic())
        if mode == "global":
            raise ValueError("global salience pools the future, which a text in pieces has not yet")
        return tonic.hold(self._pooled(x, mode, tonic))

    def _pooled(self, x: Tensor, mode: Salience, tonic: Tonic) -> Tensor:
        if mode == "reactive":  # a softmax over one position is 1: only the value is left
            return self.out_proj(self.v_proj(x))
        if tonic.query is None:
            tonic.query = self.folded_query()
        scores = x @ tonic.query.T  # [B, T, H]
        if mode == "global":  # pool first, so that only one vector a sequence is projected
            pooled = scores.softmax(dim=1).transpose(1, 2) @ x  # [B, H, D]
            return self.out_proj(self._values_of(pooled))[:, None]
        if mode == "causal":  # every position is projected anyway: project first, pool D not H * D
            values = self.v_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            means, tonic.state = prefix_softmax(scores.transpose(1, 2), values, tonic.state)
            return self.out_proj(means.transpose(1, 2).flatten(2))
        raise ValueError(f"salience {mode!r} pools nothing; allowed are global, causal, reactive")

    @torch.no_grad()
    def entropy(self, x: Tensor, mode: Salience) -> Tensor:
        """How widely each head pools x [B, T, D], at the last position: [B, H], of at most 1.

        -sum_t p_t ln p_t / ln T with p the weights over the T positions: 1 is their plain mean,
        which the preprint (3.2) rejects; 0 is one position, as in the mode `reactive`.
        """
        if mode == "reactive" or x.shape[1] < 2:
            return x.new_zeros(len(x), self.n_heads)
        log_p = (x @ self.folded_query().T).log_softmax(dim=1)  # [B, T, H]
        return torch.special.entr(log_p.exp()).sum(1) / math.log(x.shape[1])

    def folded_query(self) -> Tensor:
        """f [H, D]: the query seen through the key projection, scaled."""
        query = self.q_proj(self.query).unflatten(0, (self.n_heads, 1, -1))  # [H, 1, K]
        key_weight = self.k_proj.weight.unflatten(0, (self.n_heads, -1))  # [H, K, D]
        return (query @ key_weight).squeeze(1) * query.shape[-1] ** -0.5

    def _values_of(self, pooled: Tensor) -> Tensor:
        """Each head's value projection of its own pooled x: [B, H, D] -> [B, D]."""
        weight = self.v_proj.weight.unflatten(0, (self.n_heads, -1))  # [H, K, D]
        return torch.einsum("bhd,hkd->bhk", pooled, weight).flatten(1) + self.v_proj.bias
