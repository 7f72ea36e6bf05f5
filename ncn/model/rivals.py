"""Rivals of the control network: what else scales the branches of a layer (`model.modulator`).

Each is computed in its own layer from that layer's normed input n [B, T, D], or is a constant, and
multiplies a site of `ncn.signals`: the queries of attention, its heads or output, or the
feed-forward's output. An arm has one beside a control network or without one, and the width of its
feed-forward makes it as large as the model of `ncn`.

    gated_attention   head_h <- sigmoid(w_h . n) head_h         before the output projection
    transponder       F(n) <- 2 sigmoid(W_up silu(W_down n)) F(n)     of attention, feed-forward
    rezero            x <- x + a F(n),   a = 0 at the start     one a for each branch
    layerscale        x <- x + a * F(n), a in R^D, 0.1 at the start
    temperature       Q_h <- tau_h Q_h,  tau_h = 1 at the start

What neither the layer's input nor a constant can do, a control network has to show against these.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.settings import ModelConfig
from ncn.signals import Site, Width

# [B, T] for a layer, [B, T, H] for heads, [B, T, D] for a vector; or what broadcasts to it.
Scales = Mapping[Width, Tensor]
NEUTRAL: Scales = MappingProxyType({})
BOTTLENECK = 2  # hidden units of a contextual modulator


def combined(first: Scales, second: Scales) -> Scales:
    """The product of two scales, by width."""
    both = {width: first[width] * second[width] for width in first.keys() & second.keys()}
    return {**first, **second, **both}


class GatedAttention(nn.Module):
    """One gate a head on attention's output: head_h <- sigmoid(w_h . n) head_h.

    n: the normed input of the layer [B, T, D]; w [H, D], without bias. In (0, 1), 0.5 where w = 0.
    Source: Qiu et al. 2025, "Gated Attention for Large Language Models" (arXiv 2505.06708):
    after the attention itself (position G1), head-wise and multiplicative.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.n_heads, bias=False)

    def forward(self, site: Site, normed: Tensor) -> Scales:
        """The scales of `site`, whose branch reads `normed` [B, T, D]."""
        return {"head": self.gate(normed).sigmoid()} if site == "attention" else NEUTRAL


class Bottleneck(nn.Module):
    """n [B, T, D] -> 2 sigmoid(W_up silu(W_down n)) [B, T, D], in (0, 2), 1 where a weight is 0."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.down = nn.Linear(d_model, BOTTLENECK, bias=False)
        self.up = nn.Linear(BOTTLENECK, d_model, bias=False)

    def forward(self, normed: Tensor) -> Tensor:
        """The scale of each channel of each token."""
        return 2 * self.up(F.silu(self.down(normed))).sigmoid()


class Transponder(nn.Module):
    """A contextual modulator for each branch: F(n) <- m(n) F(n), by token and channel.

    m is a bottleneck of 2 hidden units. Source: "From Transformer to Transponder" (preprints
    202506.0120, 2025), whose published summary gives y <- m(n) y with a compact m at token and
    channel level; that m is 2 sigmoid of a bottleneck with silu, neutral at 0, is our choice.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = Bottleneck(config.d_model)
        self.feed_forward = Bottleneck(config.d_model)

    def forward(self, site: Site, normed: Tensor) -> Scales:
        """The scales of `site`, whose branch reads `normed` [B, T, D]."""
        match site:
            case "attention":
                return {"vector": self.attention(normed)}
            case "feed_forward":
                return {"vector": self.feed_forward(normed)}
        return NEUTRAL


class ReZero(nn.Module):
    """x <- x + a F(n) with one learned number a for each branch, 0 at the start.

    Source: Bachlechner et al. 2020, "ReZero is All You Need" (arXiv 2003.04887); there one
    a serves both branches of a layer and the norms go. Here the norms stay, as in every arm.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(2))

    def forward(self, site: Site, normed: Tensor) -> Scales:
        """The scales of `site`, whose branch reads `normed` [B, T, D]."""
        if site == "queries":
            return NEUTRAL
        return {"layer": self.scale[int(site == "feed_forward")].expand(normed.shape[:-1])}


class LayerScale(nn.Module):
    """x <- x + a * F(n) with a learned vector a [D] for each branch, small at the start.

    0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond. Source: Touvron et al. 2021, "Going deeper with
    Image Transformers" (arXiv 2103.17239).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(2, config.d_model))

    def forward(self, site: Site, normed: Tensor) -> Scales:
        """The scales of `site`, whose branch reads `normed` [B, T, D]."""
        return NEUTRAL if site == "queries" else {"vector": self.scale[int(site == "feed_forward")]}


class Temperature(nn.Module):
    """Q_h <- tau_h Q_h: a learned inverse temperature of each head's softmax, 1 at the start.

    Source: Lee et al. 2021, "Vision Transformer for Small-Size Datasets" (arXiv 2112.13492),
    "learnable temperature scaling"; without its mask of the diagonal.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(config.n_heads))

    def forward(self, site: Site, normed: Tensor) -> Scales:
        """The scales of `site`, whose branch reads `normed` [B, T, D]."""
        return {"head": self.scale} if site == "queries" else NEUTRAL


RIVALS: dict[str, type[GatedAttention | Transponder | ReZero | LayerScale | Temperature]] = {
    "gated_attention": GatedAttention,
    "transponder": Transponder,
    "rezero": ReZero,
    "layerscale": LayerScale,
    "temperature": Temperature,
}


def make_modulator(config: ModelConfig) -> nn.Module | None:
    """What `modulator` names, of one layer; None for none."""
    return None if config.modulator == "none" else RIVALS[config.modulator](config)


def static_start(config: ModelConfig) -> float:
    """Where the learned constants of `config`'s modulator start."""
    deep = 0.1 if config.n_layers <= 18 else 1e-5 if config.n_layers <= 24 else 1e-6
    return {"rezero": 0.0, "layerscale": deep, "temperature": 1.0}[config.modulator]


def modulator_flops(config: ModelConfig) -> int:
    """Forward FLOPs a token and layer, counted as in `ncn.model.flops`."""
    match config.modulator:
        case "gated_attention":
            return 2 * config.d_model * config.n_heads
        case "transponder":
            return 2 * 2 * 2 * BOTTLENECK * config.d_model  # down and up, two branches
    return 0
