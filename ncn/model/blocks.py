"""One layer of the transformer, its branches modulated a token at a time; and its caches.

Per token t, with the product a of the layer's signals that act at each site (`ncn.signals`):

    x <- x + a_attention * Attention(RMSNorm(x)),       where queries are scaled: Q' = a_queries Q
    x <- x + a_feed_forward * FeedForward(RMSNorm(x)),  with the activation x Phi(a_slope x)

and last, of the layer as a whole, from its input x_0:  x <- x_0 + a_layer (x - x_0).

The preprint (eq. 8-12) has a_queries = beta, a_attention = g, a_feed_forward = g * gamma. A signal
with one number a head scales that head: its queries, or its output before the heads are joined.
Without a control network every signal is neutral and costs nothing. A rival of the control network
(`ncn.model.rivals`) multiplies the same sites. A signal of the norms changes what RMSNorm gives to
both branches (`ncn.model.norm_film`), one of the routing which experts serve a token
(`ncn.model.experts`).

A dropout rate of its own for each token (section 8) is, in training alone, noise on both branches:

    F <- (1 + a_noise eps) F,    eps ~ N(0, 1) for each element,    neutral at a_noise = 0

as strong as dropout at the rate p = a^2 / (1 + a^2), since both leave the mean of F and give it the
variance a^2 F^2 = p / (1 - p) F^2 (Srivastava et al. 2014, section 10). Not a mask m / (1 - p) with
m ~ Bernoulli(1 - p): whether an element falls has no gradient, so only 1 / (1 - p) would pass one,
which tells the network that a higher rate makes its branch louder, though the mean stays. Through
a eps the gradient is that of the expected loss (Kingma et al. 2015, arXiv 1506.02557).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.cache_update import cache_update
from kernels.dispatch import Backend
from kernels.modulated_add import modulated_add
from ncn.control.salience import Tonic
from ncn.layers import Layer, RMSNorm, attention_entropy
from ncn.model.experts import make_router, weighted
from ncn.model.norm_film import make_norm_film, modulated
from ncn.model.rivals import NEUTRAL, Scales, combined, make_modulator
from ncn.settings import ModelConfig
from ncn.signals import SIGNALS, Site, Width


def scales_at(site: Site, signals: Mapping[str, Tensor | None]) -> Scales:
    """The product of the signals that act at a site, by their width; None is neutral."""
    scales: dict[Width, Tensor] = {}
    for name, declared in SIGNALS.items():
        signal = signals.get(name)
        if signal is not None and site in declared.sites:
            before = scales.get(declared.width)
            scales[declared.width] = signal if before is None else before * signal
    return scales


def at(x: Tensor, positions: Tensor) -> Tensor:
    """x [B, T, ...] at positions [B, n]: [B, n, ...]."""
    return x[torch.arange(len(x), device=x.device)[:, None], positions]


class KeyValues:
    """Keys and values of one layer, [B, H, T, K] each: room for the whole context, filled in place.

    Only the first `length` positions hold anything.

    mask: which of the keys that `extend` returns one query more attends to; None: all of them.
    """

    mask: Tensor | None = None

    def __init__(self, empty: Tensor, positions: Tensor) -> None:
        self.keys, self.values = torch.empty_like(empty), torch.empty_like(empty)
        self.positions = positions  # 0 ... T - 1, where the keys are
        self.length = 0

    def extend(self, k: Tensor, v: Tensor, backend: Backend) -> tuple[Tensor, Tensor]:
        """Append k and v [B, H, t, K]; returns views of all keys and values so far."""
        end = self.length + k.shape[2]
        added, self.length = self.positions[self.length : end], end
        cache_update(self.keys, self.values, k, v, added, backend=backend)
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


class Cache:
    """What a model keeps of the tokens that it has read, so that each is computed once.

    layers: keys and values, which grow with the text; tonic: the control network's past, which does
    not. Made by `LanguageModel.make_cache`; `like` says where it lies and in which precision.
    place: where the next token stands, [1], as a pass needs it that is recorded for any place
    (`ncn.generation.recorded`); None: after those read.
    """

    place: Tensor | None = None

    def __init__(self, config: ModelConfig, batch_size: int, like: Tensor) -> None:
        empty = like.new_empty(
            batch_size, config.n_heads, config.context_length, config.d_model // config.n_heads
        )
        positions = torch.arange(config.context_length, device=empty.device)
        self.layers = [KeyValues(empty, positions) for _ in range(config.n_layers)]
        self.tonic = Tonic()

    @property
    def length(self) -> int:
        """The number of positions read."""
        return self.layers[0].length

    def clear(self) -> None:
        """Forget the text; the memory stays."""
        self.tonic = Tonic()
        for layer in self.layers:
            layer.length = 0


def split_heads(qkv: Tensor, n_heads: int, queries: Scales) -> tuple[Tensor, Tensor, Tensor]:
    """The projections [B, T, 3 D] as q, k and v [B, T, H, K], the queries scaled."""
    q, k, v = qkv.unflatten(-1, (3, n_heads, -1)).unbind(2)
    for width, scale in queries.items():
        match width:
            case "layer":
                across = scale[..., None, None]
            case "head":
                across = scale[..., None]
            case "vector":
                across = scale.unflatten(-1, (n_heads, -1))
        q = q * across.to(q.dtype)
    return q, k, v


class Attention(Layer):
    """Causal multi-head self-attention without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        queries: Scales = NEUTRAL,
        outputs: Scales = NEUTRAL,
        past: KeyValues | None = None,
        measure: bool = False,
        asking: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D] -> [B, T, D]; x continues `past`.

        `queries` scales the queries; of `outputs`, what is one number a head scales each head's
        output. With `measure` also the attention entropy [B, T], else None. With `asking` [B, n],
        positions of x, only these attend, to the keys of all: [B, n, D], and `outputs` is theirs.
        """
        q, k, v = split_heads(self.qkv(x), self.n_heads, queries)  # [B, T, H, K]
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))  # [B, H, T, K]
        start = 0 if past is None else past.length
        if past is not None:
            k, v = past.extend(k, v, self.backend(k))
        mask = None if past is None else past.mask
        if start and q.shape[2] > 1:  # is_causal would align the first query with the first key
            mask = q.new_ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(start)
        if asking is not None:
            places = asking[:, None, :, None]  # [B, 1, n, 1]
            q = q.gather(2, places.expand(-1, q.shape[1], -1, q.shape[3]))
            mask = torch.arange(k.shape[2], device=k.device) <= start + places  # [B, 1, n, T]
        causal = start == 0 and mask is None
        heads = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
        entropy = attention_entropy(q, k) if measure else None
        heads = heads.transpose(1, 2)  # [B, T, H, K]
        if (scale := outputs.get("head")) is not None:
            heads = heads * scale[..., None].to(heads.dtype)
        return self.out(heads.flatten(2)), entropy


class FeedForward(nn.Module):
    """GELU(x W_1 + b_1) W_2 + b_2; with slopes s, x Phi(s x) = GELU(s x) / s for GELU(x).

    With weights of experts, each hidden unit is multiplied by that of its expert.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor, slopes: Scales = NEUTRAL, experts: Tensor | None = None) -> Tensor:
        """x [B, T, D] -> [B, T, D]; the weights of experts are [B, T, E]."""
        up = self.up(x)
        if (slope := slopes.get("layer")) is None:
            hidden = F.gelu(up)
        else:
            slope = slope[..., None].to(up.dtype)
            hidden = F.gelu(slope * up) / slope
        return self.down(hidden if experts is None else weighted(hidden, experts))


class Block(Layer):
    """One layer: attention and feed-forward branches, each scaled a token at a time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.d_model)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)
        self.modulator = make_modulator(config)
        self.film = make_norm_film(config)
        self.router = make_router(config)

    def forward(
        self,
        x: Tensor,
        past: KeyValues | None = None,
        measure: bool = False,
        **signals: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D] -> [B, T, D], with the layer's signals by name: [B, T], or [B, T, W] of wider
        ones; one that is None or absent is neutral. The rest: see `Attention`.
        """
        attended, entropy = self.attended(x, signals, past, measure)
        return self.gated(x, self.fed(attended, signals), signals), entropy

    def attended(
        self,
        x: Tensor,
        signals: Mapping[str, Tensor | None],
        past: KeyValues | None = None,
        measure: bool = False,
        asking: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D] with attention added; the rest: see `Attention`.

        With `asking` [B, n], positions: [B, n, D], only these.
        """
        normed = self._filmed(self.attention_norm(x), "attention", signals)
        queries = self._scales("queries", normed, signals)
        mine, asker = signals, normed
        if asking is not None:
            mine = {k: at(each, asking) for k, each in signals.items() if each is not None}
            x, asker = at(x, asking), at(normed, asking)
        attention = self._scales("attention", asker, mine)
        attended, entropy = self.attention(normed, queries, attention, past, measure, asking)
        return self._added(x, self._dropped(attended, mine), attention), entropy

    def fed(self, x: Tensor, signals: Mapping[str, Tensor | None]) -> Tensor:
        """x [B, T, D] with the feed-forward added; each token by itself."""
        normed = self._filmed(self.feed_forward_norm(x), "feed_forward", signals)
        experts = None
        if self.router is not None:
            experts = self.router(normed, scales_at("routing", signals).get("expert"))
        fed = self.feed_forward(normed, scales_at("slope", signals), experts)
        scales = self._scales("feed_forward", normed, signals)
        return self._added(x, self._dropped(fed, signals), scales)

    def gated(self, start: Tensor, x: Tensor, signals: Mapping[str, Tensor | None]) -> Tensor:
        """The layer's output [B, T, D], from its input `start` and what its branches made of it."""
        if (depth := scales_at("layer", signals).get("layer")) is None:
            return x
        # lerp is exactly x at 1; start + (x - start) is not
        return torch.lerp(start, x, depth[..., None].to(x.dtype))

    def _filmed(self, normed: Tensor, branch: str, signals: Mapping[str, Tensor | None]) -> Tensor:
        """What a branch reads [B, T, D], with the gain and bias of its norm that signals set."""
        film = scales_at("norms", signals).get("rank")
        if film is None or self.film is None:
            return normed
        return modulated(normed, film, self.film.get_submodule(branch))

    def _scales(self, site: Site, normed: Tensor, signals: Mapping[str, Tensor | None]) -> Scales:
        """What scales a site of a branch that reads `normed` [B, T, D]: signals and modulator."""
        scales = scales_at(site, signals)
        if self.modulator is None:
            return scales
        return combined(scales, self.modulator(site, normed))

    def _dropped(self, branch: Tensor, signals: Mapping[str, Tensor | None]) -> Tensor:
        """A branch [B, T, D] after dropout, with the noise of a signal: both in training alone."""
        branch = self.dropout(branch)
        deviation = scales_at("noise", signals).get("layer")
        if deviation is None or not self.training:
            return branch
        noise = deviation[..., None].to(branch.dtype) * torch.randn_like(branch)
        return branch * (1 + noise)

    def _added(self, x: Tensor, branch: Tensor, scales: Scales) -> Tensor:
        """x plus a branch [B, T, D], scaled a token at a time where there are signals."""
        if (scale := scales.get("vector")) is not None:
            branch = branch * scale.to(branch.dtype)
        if (scale := scales.get("layer")) is None:
            return x + branch
        return modulated_add(x, branch, scale, backend=self.backend(x))
