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
from ncn.generation.caches import close_layers
from ncn.generation.matrices import FORMS, Matrix, Weights, after_norm
from ncn.generation.one_token_control import OneTokenControl, norm_of
from ncn.model import LanguageModel
from ncn.model.blocks import Block, Cache
from ncn.settings import ControlSettings, Salience
from ncn.signals import NORM_RANK, SIGNALS, Site, Width

SITES: tuple[Site, ...] = ("queries", "attention", "feed_forward")
IN_TRAINING: tuple[Site, ...] = ("noise",)  # elsewhere nothing acts there
SEVERAL: dict[Width, str] = {
    "head": "several numbers a layer, one a head",
    "vector": "several numbers a layer, one for each element of the width",
    "rank": f"several numbers a layer, {NORM_RANK} for the norms",
    "expert": "several numbers a layer, one an expert",
}


def suits(model: LanguageModel, batch: int) -> bool:
    """Whether `OneToken` computes what `model` does with a batch of texts."""
    return batch == 1 and not obstacles(model)


def obstacles(model: LanguageModel) -> list[str]:
    """Why `model` has to be computed as it stands: what it has that no quick pass does."""
    config, weight = model.config, model.embedding.weight
    found = []
    if weight.device.type != "cpu":
        found.append(f"it is on {weight.device.type}, not on a CPU")
    elif weight.dtype not in (torch.float32, torch.float64):
        found.append(f"its weights are {str(weight.dtype).removeprefix('torch.')}")
    if model.backend(weight) == "triton":
        found.append("its kernels are Triton's")
    if config.modulator != "none":
        found.append(f"its modulator is {config.modulator}")
    if config.task_tokens:
        found.append("its tasks are told by tokens")
    if config.experts > 1:
        found.append(f"its feed-forward has {config.experts} experts")
    if config.control is not None and model.control is not None:
        found += _of_signals(config.control)
    return found


def _of_signals(control: ControlSettings) -> list[str]:
    """The signals that are more than one number a layer, made of the embeddings alone."""
    found, names = [], ", ".join(control.signals)
    if control.attention_entropy:
        found.append(f"{names}: each layer's see the attention of the one before")
    elif control.by_layer:
        found.append(f"{names}: each layer's are made of its own input")
    if control.controller == "recurrent":
        found.append(f"{names}: made with a state over positions")
    for name in control.signals:
        signal = SIGNALS[name]
        if signal.width != "layer":
            found.append(f"{name}: {SEVERAL[signal.width]}")
        elif not {*signal.sites} <= {*SITES, *IN_TRAINING}:
            found.append(f"{name}: it acts on the {signal.sites[0]}")
    return found


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
        cache: of one row, as `ncn.generation.caches` makes it.
        weights: what the layers and the head are multiplied in.
    """

    def __init__(self, model: LanguageModel, cache: Cache, weights: Weights = "fp32") -> None:
        self._model, self._cache = model, cache
        self._pasts = close_layers(cache)
        self._embedding, self._positions = model.embedding.weight, model.positions.weight
        self._norm = model.norm.weight
        self._layers = [_laid_out(block, weights) for block in model.blocks]
        # Without the norm's weights, since to multiply so much takes as long as several tokens.
        self._head: Matrix = FORMS[weights](model.embedding.weight)  # [D, V]
        signals = model.config.control.signals if model.config.control else []
        # By site, the signals that act there.
        self._acting = [[name for name in signals if site in SIGNALS[name].sites] for site in SITES]
        network = model.control
        self._control = (
            OneTokenControl(network, model.config) if isinstance(network, ControlNetwork) else None
        )
        # Of each layer, where no token changes them.
        self._always: list[tuple[float, ...]] | None = (
            None if model.control else [(1.0, 1.0, 1.0)] * len(self._layers)
        )

    def next_logits(
        self, token: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """The logits [1, V] after `token` [1, 1], which continues the cache's text."""
        model, width = self._model, self._model.config.d_model
        place = self._cache.length
        x = self._embedding[int(token)] + self._positions[place]  # [D]
        scales, skip = self._scales(x, salience, conditions), model.skip
        for layer, past, scale in zip(self._layers, self._pasts, scales, strict=True):
            queries, attention, feed_forward = scale
            qkv = layer.qkv.product(x, norm_of(x)).view(3, 1, model.config.n_heads, 1, -1)
            q = qkv[0]  # [1, H, 1, K]
            keys, values = past.append(qkv[1:])
            attends, feeds = (True, True) if skip is None else skip.keeps(attention, feed_forward)
            if attends:
                factor = queries / math.sqrt(q.shape[-1])
                heads = F.scaled_dot_product_attention(q, keys, values, scale=factor)
                x = layer.out.added(x, heads.view(width), attention)
            if not feeds:
                continue
            up = layer.up.added(layer.up_bias, x, norm_of(x))
            x = torch.add(x, layer.down_bias, alpha=feed_forward)
            x = layer.down.added(x, F.gelu(up), feed_forward)
        return self._head.product(x * self._norm, norm_of(x))[None]

    def _scales(
        self, x: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Sequence[tuple[float, ...]]:
        """What scales the sites of each layer at the token with embedding x [D]."""
        control = self._model.control
        if self._always is not None or control is None:  # as well: without control it is set
            return self._always or []
        tonic, settings = self._cache.tonic, self._model.config.control
        mode = salience or (settings.salience if settings else "none")
        if self._control is not None and (mode != "causal" or tonic.state is not None):
            signals = self._control.signals(x, mode, tonic, conditions)
        else:
            made = control(x[None, None], salience, tonic, conditions).signals
            signals = {name: each.flatten().tolist() for name, each in made.items()}  # [L]
        scales = [
            tuple(math.prod(signals[name][n] for name in names) for names in self._acting)
            for n in range(len(self._layers))
        ]
        if isinstance(control, StaticControl):  # the same at every token
            self._always = scales
        return scales
