"""One token of one text after another, on a CPU: the pass of the model with nothing between.

Such a pass reads every weight once, so memory sets its limit; but at published size the modules
of `ncn.model` spend as long again between their operators. Here a layer is ten calls:

    n = 1 / sqrt(mean(x^2) + eps)
    q, k, v = n x (w W_qkv)^T                       the norm's weights w within the matrix
    x <- x + a_attention Attention(a_queries q) W_out^T
    n = 1 / sqrt(mean(x^2) + eps)
    x <- x + a_feed_forward (GELU(n x (w W_1)^T + b_1) W_2^T + b_2)

with the scales n and a as plain numbers, which the products take as factors, so that a modulated
layer costs what a plain one does. The function is the model's; only roundings differ. Matrices are
copies, laid out for one row (`ncn.generation.matrices`), where asked for in int8.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.control.network import ControlNetwork
from ncn.control.static import StaticControl
from ncn.corpus.conditions import Conditions
from ncn.generation.matrices import FORMS, Matrix, Weights, after_norm
from ncn.generation.one_token_control import OneTokenControl, norm_of
from ncn.model import LanguageModel
from ncn.model.blocks import Block, Cache
from ncn.settings import Salience
from ncn.signals import SIGNALS, Site

SITES: tuple[Site, ...] = ("queries", "attention", "feed_forward")
IN_TRAINING: tuple[Site, ...] = ("noise",)  # elsewhere nothing acts there
# Copying the matrices takes as long as 20 tokens gain by it (published size).
WORTH_TOKENS = 32


def suits(model: LanguageModel, batch: int) -> bool:
    """Whether `OneToken` computes what `model` does with a batch of texts."""
    control = model.config.control
    signals = control.signals if control is not None and model.control is not None else []
    return (
        batch == 1
        and model.embedding.weight.device.type == "cpu"
        and model.embedding.weight.dtype in (torch.float32, torch.float64)
        and model.backend(model.embedding.weight) != "triton"
        and model.config.modulator == "none"
        and model.config.experts == 1
        and not model.config.task_tokens
        and not (control is not None and (control.by_layer or control.controller == "recurrent"))
        and all(SIGNALS[name].width == "layer" for name in signals)
        and all({*SIGNALS[name].sites} <= {*SITES, *IN_TRAINING} for name in signals)
    )


class _Layer(NamedTuple):
    """What a layer multiplies by, the norms' weights within."""

    qkv: Matrix  # [D, 3 D]
    out: Matrix  # [D, D]
    up: Matrix  # [D, F]
    up_bias: Tensor  # [F]
    down: Matrix  # [F, D]
    down_bias: Tensor  # [D]


def _laid_out(block: nn.Module, weights: Weights) -> _Layer:
    assert isinstance(block, Block)
    attention, feed_forward, matrix = block.attention, block.feed_forward, FORMS[weights]
    return _Layer(
        matrix(after_norm(block.attention_norm, attention.qkv.weight)),
        matrix(attention.out.weight),
        matrix(after_norm(block.feed_forward_norm, feed_forward.up.weight)),
        feed_forward.up.bias,
        matrix(feed_forward.down.weight),
        feed_forward.down.bias,
    )


class OneToken:
    """Reads one token of one text at a time into a cache.

    Args:
        model: one that `suits`, in evaluation mode. Its weights are copied: they must not change.
        cache: of one row.
        weights: what the layers and the head are multiplied in.
    """

    def __init__(self, model: LanguageModel, cache: Cache, weights: Weights = "fp32") -> None:
        self._model, self._cache = model, cache
        self._layers = [_laid_out(block, weights) for block in model.blocks]
        # Without the norm's weights, since to multiply so much takes as long as several tokens.
        self._head: Matrix = FORMS[weights](model.embedding.weight)  # [D, V]
        signals = model.config.control.signals if model.config.control else []
        # By site, the signals that act there.
        self._acting = [[name for name in signals if site in SIGNALS[name].sites] for site in SITES]
        network = model.control
        self._control = OneTokenControl(network) if isinstance(network, ControlNetwork) else None
        # Of each layer, where no token changes them.
        self._always = None if model.control else [(1.0, 1.0, 1.0)] * len(self._layers)

    def next_logits(
        self, token: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """The logits [1, V] after `token` [1, 1], which continues the cache's text."""
        model, n_heads = self._model, self._model.config.n_heads
        place = self._cache.length
        x = model.embedding.weight[token[0]] + model.positions.weight[place]  # [1, D]
        scales, skip = self._scales(x, salience, conditions), model.skip
        for layer, past, scale in zip(self._layers, self._cache.layers, scales, strict=True):
            queries, attention, feed_forward = scale
            qkv = layer.qkv.product(x, norm_of(x)).view(3, 1, n_heads, 1, -1)
            q, k, v = qkv.unbind()  # [1, H, 1, K]
            past.keys.select(2, place).copy_(k.select(2, 0))
            past.values.select(2, place).copy_(v.select(2, 0))
            past.length = place + 1
            attends, feeds = (True, True) if skip is None else skip.keeps(attention, feed_forward)
            if attends:
                heads = F.scaled_dot_product_attention(
                    q,
                    past.keys.narrow(2, 0, place + 1),
                    past.values.narrow(2, 0, place + 1),
                    scale=queries / math.sqrt(q.shape[-1]),
                )
                x = layer.out.added(x, heads.view(1, -1), attention)
            if not feeds:
                continue
            up = layer.up.added(layer.up_bias, x, norm_of(x))
            x = torch.add(x, layer.down_bias, alpha=feed_forward)
            x = layer.down.added(x, F.gelu(up), feed_forward)
        return self._head.product(x * model.norm.weight, norm_of(x))

    def _scales(
        self, x: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Sequence[tuple[float, ...]]:
        """What scales the sites of each layer at the token with embedding x [1, D]."""
        control = self._model.control
        if self._always is not None or control is None:  # as well: without control it is set
            return self._always or []
        tonic, settings = self._cache.tonic, self._model.config.control
        mode = salience or (settings.salience if settings else "none")
        if self._control is not None and (mode != "causal" or tonic.state is not None):
            made = self._control.signals(x, mode, tonic, conditions)
        else:
            made = control(x[None], salience, tonic, conditions).signals
        signals = {name: each.flatten().tolist() for name, each in made.items()}  # [L]
        scales = [
            tuple(math.prod(signals[name][n] for name in names) for names in self._acting)
            for n in range(len(self._layers))
        ]
        if isinstance(control, StaticControl):  # the same at every token
            self._always = scales
        return scales
