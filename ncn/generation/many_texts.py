"""One token more of several texts at once, on a CPU: the pass of the model, laid out for it.

The equations are those of `ncn.generation.one_token`, with the scales n and a one a text. Several
texts read each weight once together, so arithmetic sets the limit, most of it the head's: its
matrix is laid out in the processor's own order, the layers' transposed, which is as fast for so few
columns. One query a head attends by two plain products, which a fused attention for many queries
takes twice as long for.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.corpus.conditions import Conditions
from ncn.generation.caches import CloseKeyValues, close_layers
from ncn.generation.matrices import Packed, after_norm
from ncn.generation.one_token import SITES, obstacles
from ncn.layers import NORM_EPS
from ncn.model import LanguageModel
from ncn.model.blocks import Block, Cache
from ncn.settings import Salience
from ncn.signals import SIGNALS

# Numbers of the embedding. A smaller one stays in the processor's cache: not measured there.
WORTH_WEIGHTS = 2**22


def suits_many(model: LanguageModel, batch: int) -> bool:
    """Whether `ManyTexts` computes what `model` does with a batch of texts, and faster."""
    embedding = model.embedding.weight
    return (
        batch > 1
        and model.skip is None
        and embedding.dtype == torch.float32
        and embedding.numel() >= WORTH_WEIGHTS
        and Packed.available()
        and not obstacles(model)
    )


class _Layer(NamedTuple):
    """What a layer multiplies by, the norms' weights within."""

    qkv: Tensor  # [D, 3 D]
    out: Tensor  # [D, D]
    up: Tensor  # [D, F]
    up_bias: Tensor  # [F]
    down: Tensor  # [F, D]
    down_bias: Tensor  # [D]


def _laid_out(block: nn.Module) -> _Layer:
    assert isinstance(block, Block)
    attention, feed_forward = block.attention, block.feed_forward
    return _Layer(
        after_norm(block.attention_norm, attention.qkv.weight).T.contiguous(),
        attention.out.weight.T.contiguous(),
        after_norm(block.feed_forward_norm, feed_forward.up.weight).T.contiguous(),
        feed_forward.up.bias,
        feed_forward.down.weight.T.contiguous(),
        feed_forward.down.bias,
    )


class ManyTexts:
    """Reads one token of each of B texts at a time into a cache.

    Args:
        model: one that `suits_many`, in evaluation mode. Its weights are copied: they must not
            change.
        cache: of B rows, as `ncn.generation.caches` makes it.
        batch: B.
    """

    def __init__(self, model: LanguageModel, cache: Cache, batch: int) -> None:
        self._model, self._cache = model, cache
        self._pasts = close_layers(cache)
        self._layers = [_laid_out(block) for block in model.blocks]
        self._head = Packed(model.embedding.weight, batch)  # [D, V]
        signals = model.config.control.signals if model.config.control else []
        # By site, the signals that act there.
        self._acting = [[name for name in signals if site in SIGNALS[name].sites] for site in SITES]

    def next_logits(
        self, tokens: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """The logits [B, V] after `tokens` [B, 1], which continue the cache's texts."""
        model, place = self._model, self._cache.length
        x = model.embedding.weight[tokens[:, 0]] + model.positions.weight[place]  # [B, D]
        scales = self._scales(x, salience, conditions)
        for n, (layer, past) in enumerate(zip(self._layers, self._pasts, strict=True)):
            queries, attention, feed_forward = (each[n] if each else None for each in scales)
            qkv = torch.mm(_normed(x), layer.qkv).view(len(x), 3, model.config.n_heads, -1)
            q, kv = qkv[:, 0], qkv[:, 1:].transpose(0, 1)  # [B, H, K], [2, B, H, K]
            if queries is not None:
                q = q * queries[..., None]
            past.append(kv[:, :, :, None])
            x = torch.addmm(x, _scaled(_attended(q, past), attention), layer.out)
            up = torch.addmm(layer.up_bias, _normed(x), layer.up)
            down = torch.addmm(layer.down_bias, F.gelu(up), layer.down)
            x = x + _scaled(down, feed_forward)
        return self._head(_normed(x) * model.norm.weight)

    def _scales(
        self, x: Tensor, salience: Salience | None, conditions: Conditions
    ) -> list[tuple[Tensor, ...] | None]:
        """By site, what scales it in each layer, [B, 1], at embeddings x [B, D]; None: nothing."""
        control = self._model.control
        if control is None:
            return [None] * len(SITES)
        signals = control(x[:, None], salience, self._cache.tonic, conditions).signals  # [B, 1, L]
        return [
            math.prod(signals[name] for name in names).unbind(2) if names else None
            for names in self._acting
        ]


def _normed(x: Tensor) -> Tensor:
    """x [B, D] after a norm without weights."""
    return x * (x.square().mean(1, keepdim=True) + NORM_EPS).rsqrt()


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    """x [B, D] times the scale [B, 1] of each text."""
    return x if scale is None else x * scale


def _attended(q: Tensor, past: CloseKeyValues) -> Tensor:
    """Attention [B, D] of a query a text and head, [B, H, K], over the past.

    All of the room is read, and what is yet empty of it counts as 0: a stream without gaps takes
    0.6 of the time that the same keys take with them.
    """
    query, (keys, values) = q.reshape(-1, 1, q.shape[-1]), past.both.flatten(1, 2)
    scores = torch.baddbmm(
        q.new_empty(()), query, keys.mT, beta=0, alpha=q.shape[-1] ** -0.5
    )  # [B H, 1, room]
    scores.narrow(2, past.length, scores.shape[2] - past.length).fill_(-torch.inf)
    return torch.bmm(scores.softmax(-1), values).view(len(q), -1)
