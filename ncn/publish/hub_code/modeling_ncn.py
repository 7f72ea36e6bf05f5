"""A Neuromodulatory Control Network, or its baseline, for the transformers library.

    AutoModelForCausalLM.from_pretrained("OWNER/NAME", trust_remote_code=True)

The function is that of the project's own model, in plain PyTorch; the project's tests compare their
logits. Equations: the preprint "Neuromodulatory Control Networks" (2025), by their numbers below.

In `global` salience the control network pools the whole window, later tokens too, as it was
trained: `model(tokens)` is that function, and no language model's. With a cache, as `generate` uses
one, such a model is `reactive`: it pools each token alone, as the published code generates.
`salience="causal"` pools the tokens so far.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_ncn import NCNConfig

Elementwise = Callable[[Tensor], Tensor]
# Of z (table 1; section 4.1.4 for `shifted`); a softplus is clamped besides.
TRANSFORMATIONS: dict[str, Elementwise] = {
    "2sigmoid": lambda z: 2 * z.sigmoid(),
    "shifted": lambda z: z.sigmoid() + 0.5,
    "sigmoid": torch.sigmoid,
    "softplus": lambda z: F.softplus(z) + 0.01,
}
ACTIVATIONS: dict[str, Elementwise] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
}
# transformers renamed it in 5.2x: what `generate` reads from an output and passes to `forward`.
CACHE = "cache" if hasattr(CausalLMOutputWithPast(), "cache") else "past_key_values"


class RMSNorm(nn.Module):
    """w * x / sqrt(mean(x^2) + 1e-5), computed in at least fp32."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(
            x.dtype
        ) * self.weight


class SaliencePooling(nn.Module):
    """Multi-head attention of one learned query over the embeddings (eq. 1)."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Parameter(torch.empty(d_model))
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, mode: str, visible: Tensor, past: Cache | None, place: int
    ) -> Tensor:
        """c [B, T, D] of x [B, T, D]; visible [B, T, S] says which of the S positions each sees.

        The scores and values of earlier positions are kept in layer `place` of the cache.
        """
        values = self.v_proj(x)
        if mode == "reactive":  # each position sees itself alone
            return self.out_proj(values)
        heads = self.n_heads
        query = self.q_proj(self.query).unflatten(0, (heads, -1))  # [H, K]
        keys = self.k_proj(x).unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, T, K]
        scores = torch.einsum("bhtk,hk->bht", keys, query) * query.shape[-1] ** -0.5
        values = values.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, T, K]
        if past is not None:
            kept, values = past.update(scores[..., None], values, place)
            scores = kept[..., 0]
        if mode == "global":  # all that is text, from every position
            visible = visible.any(1, keepdim=True)
        weights = scores[:, :, None].masked_fill(~visible[:, None], -torch.inf).softmax(-1)
        pooled = (weights @ values).transpose(1, 2).flatten(2)  # [B, T or 1, D]
        return self.out_proj(pooled).expand_as(x)


class StaticControl(nn.Module):
    """Learned signals for each layer, whatever the text."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(n_columns))


class ControlNetwork(nn.Module):
    """u = RMSNorm(c + x + e), z = W_2 f(W_1 u + b_1) + b_2 (eq. 1-4, 13-14; section 3.2)."""

    def __init__(self, d_model: int, control: dict[str, Any], n_columns: int) -> None:
        super().__init__()
        pools = control["salience"] != "none"
        self.pooling = SaliencePooling(d_model, control["heads"]) if pools else None
        self.norm = RMSNorm(d_model)
        self.hidden = nn.Linear(d_model, control["hidden"])
        self.output = nn.Linear(control["hidden"], n_columns)
        if control["tasks"]:
            self.tasks = nn.Embedding(control["tasks"], d_model)
        if n_sliders := len(control["sliders"]):
            self.sliders = nn.Linear(n_sliders, d_model, bias=False)
            self.register_buffer("slider_mean", torch.zeros(n_sliders))
            self.register_buffer("slider_sd", torch.ones(n_sliders))
        if control["attention_entropy"]:
            self.entropy_weight = nn.Parameter(torch.empty(control["hidden"]))

    def told(self, task: Tensor | None, sliders: Tensor | None) -> Tensor | float:
        """What tasks [B] and slider values [B, n] add to x, [B, 1, D]."""
        added: Tensor | float = 0.0
        if task is not None:
            added = added + self.tasks(task)[:, None]
        if sliders is not None:
            added = added + self.sliders(sliders)[:, None]
        return added


class Attention(nn.Module):
    """Causal multi-head self-attention, its queries scaled (eq. 8: Q' = beta Q)."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Tensor, scales: dict[tuple[str, str], Tensor], visible: Tensor,
        past: Cache | None, layer: int, measure: bool,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """x [B, T, D] -> [B, T, D], and with `measure` the attention entropy [B, T]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).unbind(2)  # [B, T, H, K]
        q = _scaled(q, scales, "queries")
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        if past is not None:
            k, v = past.update(k, v, layer)
        heads = F.scaled_dot_product_attention(q, k, v, visible[:, None])
        entropy = _entropy(q, k, visible) if measure else None
        heads = heads.transpose(1, 2)  # [B, T, H, K]
        if (scale := scales.get(("attention", "head"))) is not None:
            heads = heads * scale[..., None].to(heads.dtype)
        return self.out(heads.flatten(2)), entropy


class FeedForward(nn.Module):
    """GELU(x W_1 + b_1) W_2 + b_2; with slopes s, GELU(s x) / s for GELU(x)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor, slope: Tensor | None) -> Tensor:
        """x [B, T, D] -> [B, T, D], with one slope a token, [B, T]."""
        up = self.up(x)
        if slope is None:
            return self.down(F.gelu(up))
        slope = slope[..., None].to(up.dtype)
        return self.down(F.gelu(slope * up) / slope)


class Block(nn.Module):
    """x + g Attention(RMSNorm(x)), then x + g gamma FeedForward(RMSNorm(x)) (eq. 8-12).

    A signal of the whole layer weighs what it adds to its input (section 8).
    """

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(shape["d_model"])
        self.attention = Attention(shape["d_model"], shape["n_heads"])
        self.feed_forward_norm = RMSNorm(shape["d_model"])
        self.feed_forward = FeedForward(shape["d_model"], shape["d_ff"])
        self.dropout = nn.Dropout(shape["dropout"])

    def forward(
        self, x: Tensor, scales: dict[tuple[str, str], Tensor], visible: Tensor,
        past: Cache | None, layer: int, measure: bool,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """x [B, T, D] -> [B, T, D]; `scales` are by site and by what they are one number of."""
        start = x
        attended, entropy = self.attention(
            self.attention_norm(x), scales, visible, past, layer, measure
        )
        x = x + _branch(self.dropout(attended), scales, "attention")
        slope = scales.get(("slope", "layer"))
        fed = self.dropout(self.feed_forward(self.feed_forward_norm(x), slope))
        x = x + _branch(fed, scales, "feed_forward")
        if (depth := scales.get(("layer", "layer"))) is not None:
            x = torch.lerp(start, x, depth[..., None].to(x.dtype))
        return x, entropy


class NCNForCausalLM(PreTrainedModel, GenerationMixin):
    """tokens [B, T] -> logits [B, T, V], the embedding also being the output head.

    For trained weights: a start from a configuration alone is not the published one.
    """

    config_class = NCNConfig
    base_model_prefix = ""
    _no_split_modules = ["Block"]  # noqa: RUF012 (as transformers declares it)
    _supports_sdpa = True

    def __init__(self, config: NCNConfig) -> None:
        super().__init__(config)
        shape = config.ncn
        self.settings: dict[str, Any] = shape["control"] or {"controller": "none"}
        d_model, self.n_layers = shape["d_model"], shape["n_layers"]
        self.control: Any = None
        self.embedding: Any = nn.Embedding(shape["vocab_size"], d_model)
        self.positions = nn.Embedding(shape["context_length"], d_model)
        self.n_columns = sum(each["width"] for each in config.outputs)  # of a layer
        match self.settings["controller"]:
            case "static":
                self.control = StaticControl(self.n_layers * self.n_columns)
            case "network":
                columns = self.n_layers * self.n_columns
                self.control = ControlNetwork(d_model, self.settings, columns)
        self.dropout = nn.Dropout(shape["dropout"])
        self.blocks = nn.ModuleList(Block(shape) for _ in range(self.n_layers))
        self.norm = RMSNorm(d_model)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, which is the output head too."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another in its place."""
        self.embedding = value

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As transformers does; without a cache, too, no later token is pooled."""
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)
        if self.settings.get("salience") == "global" and inputs.get("salience") is None:
            inputs["salience"] = "reactive"
        return inputs

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool = False,
        salience: str | None = None,
        task: Tensor | None = None,
        sliders: Tensor | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """The logits [B, T, V] of the next token, and with labels [B, T] their mean cross-entropy.

        Args:
            input_ids: [B, T], those after the ones that the cache holds.
            attention_mask: [B, S], 0 where a text is padded, for all S positions so far.
            position_ids: [B, T]; without them, padding counts for none.
            cache: holds the text before, and then input_ids too.
            past_key_values: the same, as transformers called it before.
            labels: [B, T], -100 where nothing is to be predicted; the homeostatic penalty of
                training (eq. 18) is not in the loss.
            use_cache: make a cache where none is given.
            salience: another mode than the model's own: causal or reactive.
            task: [B], of a model with tasks.
            sliders: [B, n], in standard deviations from the training mean, of a model with sliders.
            logits_to_keep: only the last so many; 0: all.

        Raises:
            ValueError: there are more positions than the model has, or `global` with a cache.
        """
        past = past_key_values if cache is None else cache
        if use_cache and past is None:
            past = DynamicCache()
        visible, positions = self._positions(input_ids, attention_mask, past)
        positions = positions if position_ids is None else position_ids
        mode = salience or self.settings.get("salience", "none")
        if past is not None:
            if salience == "global":
                raise ValueError("salience global pools the future: allowed with a cache are"
                                 " causal and reactive")  # fmt: skip
            mode = "reactive" if mode == "global" else mode
            # One layer more than the transformer has holds the salience pooling.
            while len(past.layers) <= self.n_layers:
                past.layers.append(DynamicLayer())
        x = self.dropout(self.embedding(input_ids) + self.positions(positions))
        told = {"task": task, "sliders": sliders}
        z, drive = self._control(x, mode, visible, past, told)
        entropy = None
        for n, block in enumerate(self.blocks):
            mine = slice(n * self.n_columns, (n + 1) * self.n_columns)
            own = None if z is None else z[..., mine]
            if entropy is not None and drive is not None:
                seen = drive + entropy[..., None].to(drive.dtype) * self.control.entropy_weight
                weight, bias = self.control.output.weight[mine], self.control.output.bias[mine]
                own = F.linear(ACTIVATIONS[self.settings["activation"]](seen), weight, bias)
            measure = drive is not None and n + 1 < self.n_layers
            scales = self._scales(own)
            x, entropy = block(x, scales, visible, past, n, measure)
        logits = F.linear(self.norm(x)[:, -logits_to_keep:], self.embedding.weight)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        made: dict[str, Any] = {"loss": loss, "logits": logits, CACHE: past}
        return CausalLMOutputWithPast(**made)

    def _positions(
        self, tokens: Tensor, attention_mask: Tensor | None, past: Cache | None
    ) -> tuple[Tensor, Tensor]:
        """Which positions each token sees, [B, T, S], and its own position [B, T]."""
        start = 0 if past is None or not past.layers else past.get_seq_length()
        own, length = tokens.shape[1], start + tokens.shape[1]
        if length > (context := self.config.ncn["context_length"]):
            raise ValueError(f"{length} tokens are more than the context of {context}")
        steps = torch.arange(length, device=tokens.device)
        visible = (steps <= steps[start:, None]).expand(len(tokens), -1, -1)
        if attention_mask is None or attention_mask.dim() != 2:
            return visible, steps[start:].expand(len(tokens), -1)
        text = attention_mask[:, :length].bool()
        # A padded position sees itself, so that it stays a number; nothing sees it.
        visible = visible & text[:, None] | (steps == steps[start:, None])
        return visible, (text.cumsum(1) - 1).clamp(min=0)[:, -own:]

    def _control(
        self, x: Tensor, mode: str, visible: Tensor, past: Cache | None, told: dict[str, Any]
    ) -> tuple[Tensor | None, Tensor | None]:
        """z [B, T, L C], and W_1 u + b_1 where the signals have yet to see the entropy."""
        match self.settings["controller"]:
            case "none":
                return None, None
            case "static":
                return self.control.bias.expand(*x.shape[:2], -1), None
        context = x + self.control.told(**told)
        if self.control.pooling is not None:
            context = context + self.control.pooling(x, mode, visible, past, self.n_layers)
        drive = self.control.hidden(self.control.norm(context))
        z = self.control.output(ACTIVATIONS[self.settings["activation"]](drive))
        return z, drive if self.settings["attention_entropy"] else None

    def _scales(self, z: Tensor | None) -> dict[tuple[str, str], Tensor]:
        """The product of a layer's signals of z [B, T, C], by site and what they are one of."""
        scales: dict[tuple[str, str], Tensor] = {}
        if z is None:
            return scales
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        widths = [each["width"] for each in self.config.outputs]
        for output, columns in zip(self.config.outputs, wide.split(widths, -1), strict=True):
            signal = TRANSFORMATIONS[output["transformation"]](columns)
            if output["transformation"] == "softplus":
                signal = signal.clamp(max=self.settings["precision_max"])
            if output["per"] == "layer":
                signal = signal[..., 0]
            for site in output["sites"]:
                key = site, output["per"]
                scales[key] = scales[key] * signal if key in scales else signal
        return scales


def _scaled(q: Tensor, scales: dict[tuple[str, str], Tensor], site: str) -> Tensor:
    """q [B, T, H, K] times the scales of a site."""
    if (scale := scales.get((site, "layer"))) is not None:
        q = q * scale[..., None, None].to(q.dtype)
    if (scale := scales.get((site, "head"))) is not None:
        q = q * scale[..., None].to(q.dtype)
    if (scale := scales.get((site, "vector"))) is not None:
        q = q * scale.unflatten(-1, q.shape[2:]).to(q.dtype)
    return q


def _branch(branch: Tensor, scales: dict[tuple[str, str], Tensor], site: str) -> Tensor:
    """A branch [B, T, D] times the scales of a site, but for those of its heads."""
    if (scale := scales.get((site, "vector"))) is not None:
        branch = branch * scale.to(branch.dtype)
    if (scale := scales.get((site, "layer"))) is not None:
        branch = (branch * scale[..., None]).to(branch.dtype)
    return branch


@torch.no_grad()
def _entropy(q: Tensor, k: Tensor, visible: Tensor) -> Tensor:
    """How widely each position attends, [B, T] in [0, 1]: the mean over heads (section 3.2)."""
    scores = q.float() @ k.float().mT * k.shape[-1] ** -0.5  # [B, H, T, S]
    log_p = scores.masked_fill(~visible[:, None], -torch.inf).log_softmax(-1)
    entropy = torch.special.entr(log_p.exp()).sum(-1).mean(1)
    return entropy / visible.sum(-1).clamp(min=2).log()
