"""The language model: a pre-norm decoder-only transformer that a control network may modulate.

Per layer l and token t, with the signals g, beta, gamma (preprint eq. 8-12):

    x <- x + g * Attention(RMSNorm(x)),       where queries are scaled: Q' = beta Q
    x <- x + g * gamma * FeedForward(RMSNorm(x))

The baseline is this class without a control network: every signal is 1 and costs nothing.
"""

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.cache_update import cache_update
from kernels.dispatch import Backend, Setting, resolve
from kernels.linear_cross_entropy import Reduction, linear_cross_entropy
from kernels.modulated_add import modulated_add
from ncn.conditions import UNTOLD, Conditions
from ncn.config import SIGNALS, ModelConfig, Params, Salience
from ncn.control import (
    ControlNetwork,
    ControlOutput,
    homeostatic_penalty,
    make_control,
    start_at_declared_signals,
)
from ncn.entropy import attention_entropy
from ncn.errors import InputError
from ncn.flops import flops_per_token
from ncn.layers import Layer, RMSNorm, embedding
from ncn.salience import Tonic


class KeyValues:
    """Keys and values of one layer, [B, H, T, K] each: room for the whole context, filled in place.

    Only the first `length` positions hold anything.
    """

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

    layers: keys and values, which grow with the text; tonic: the salience pooling, which does not.
    """

    def __init__(self, model: "LanguageModel", batch_size: int) -> None:
        config = model.config
        empty = model.embedding.weight.new_empty(
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
        precision: Tensor | None,
        past: KeyValues | None = None,
        measure: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], precision [B, T] or None -> [B, T, D]; x continues `past`.

        With `measure` also the attention entropy [B, T], else None.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).unbind(2)  # [B, T, H, K]
        if precision is not None:
            q = q * precision[..., None, None].to(q.dtype)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))  # [B, H, T, K]
        start = 0 if past is None else past.length
        if past is not None:
            k, v = past.extend(k, v, self.backend(k))
        mask = None
        if start and q.shape[2] > 1:  # is_causal would align the first query with the first key
            mask = q.new_ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(start)
        heads = F.scaled_dot_product_attention(q, k, v, mask, is_causal=start == 0)
        entropy = attention_entropy(q, k) if measure else None
        return self.out(heads.transpose(1, 2).flatten(2)), entropy


class FeedForward(nn.Module):
    """GELU(x W_1 + b_1) W_2 + b_2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.down = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] -> [B, T, D]."""
        return self.down(F.gelu(self.up(x)))


class Block(Layer):
    """One layer: attention and feed-forward branches, each scaled a token at a time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.d_model)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        gain: Tensor | None = None,
        precision: Tensor | None = None,
        ffn_gate: Tensor | None = None,
        past: KeyValues | None = None,
        measure: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], signals [B, T] (None is neutral) -> [B, T, D]; the rest: see `Attention`."""
        attended, entropy = self.attention(self.attention_norm(x), precision, past, measure)
        x = self._added(x, self.dropout(attended), gain)
        fed = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        both = ffn_gate if gain is None else gain if ffn_gate is None else gain * ffn_gate
        return self._added(x, fed, both), entropy

    def _added(self, x: Tensor, branch: Tensor, signal: Tensor | None) -> Tensor:
        """x plus a branch [B, T, D], scaled a token at a time where there is a signal [B, T]."""
        if signal is None:
            return x + branch
        return modulated_add(x, branch, signal, backend=self.backend(x))


RunBlock = Callable[..., tuple[Tensor, Tensor | None]]


def run_as_it_is(block: nn.Module, *inputs: Any, **signals: Any) -> tuple[Tensor, Tensor | None]:
    """The plain call of a block."""
    return block(*inputs, **signals)


class LanguageModel(Layer):
    """tokens [B, T] -> logits [B, T, V]. Build one with `build_model`.

    kernels: which form of the kernels it runs through, see `kernels.dispatch.resolve`. How a model
    is computed is not part of what it is: neither its configuration nor its files know of it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding(config.vocab_size, config.d_model)  # also the output head
        self.positions = embedding(config.context_length, config.d_model)
        self.control = make_control(config.d_model, config.n_layers, config.control)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model)

    def forward(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = UNTOLD,
    ) -> Tensor:
        """The logits [B, T, V] of the next token at each position of tokens [B, T].

        Args:
            tokens: token ids, int64, at most context_length with those of the cache.
            salience: see `ControlNetwork.forward`; ignored without a control network.
            cache: holds the text before `tokens`, and then them too: the logits are those that
                the whole text would have at these positions.
            conditions: see `ControlNetwork.forward`; ignored without one.
        """
        hidden, _ = self._hidden(tokens, salience, cache, conditions)
        return F.linear(hidden, self.embedding.weight)

    def next_logits(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = UNTOLD,
    ) -> Tensor:
        """The last of the logits that `forward` returns, [B, V], the others never computed."""
        hidden, _ = self._hidden(tokens, salience, cache, conditions)
        last = hidden[:, -1]  # [B, D]
        if (batch := len(last)) == 1:
            # One row would go to a matrix-vector routine that reads the weights on one thread, at
            # a quarter of the speed: 4.1 ms against 1.0 (V 50257, D 256, two cores).
            last = last.repeat(2, 1)
        return torch.bmm(self.embedding.weight[None], last.T[None])[0, :, :batch].T

    def use_kernels(self, setting: Setting) -> None:
        """Choose the form of the kernels.

        Raises:
            InputError: this machine cannot run it.
        """
        try:
            resolve(setting, self.embedding.weight.device)
        except ValueError as error:
            raise InputError(f"train.{error}") from None
        for module in self.modules():
            if isinstance(module, Layer):
                module.kernels = setting

    @torch.no_grad()
    def signals(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        conditions: Conditions = UNTOLD,
    ) -> dict[str, Tensor]:
        """gain, precision and ffn_gate for tokens [B, T], each [B, T, L]; 1 where not modulated."""
        neutral = torch.ones(*tokens.shape, self.config.n_layers, device=tokens.device)
        mine: dict[str, Tensor] = {}
        if self.control is not None and self.control.settings.attention_entropy:
            _, mine = self._hidden(tokens, salience, conditions=conditions)
        elif self.control is not None:  # from the embeddings alone: no layer needs to run
            mine = self.control(self._embedded(tokens), salience, None, conditions).signals
        return {name: mine.get(name, neutral) for name in SIGNALS}

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        conditions: Conditions = UNTOLD,
        run_block: RunBlock = run_as_it_is,
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats a token, and the homeostatic penalty to add (eq. 18-19).

        Args:
            tokens: [B, T].
            targets: [B, T], the token after each.
            conditions: see `ControlNetwork.forward`; ignored without one.
            run_block: calls a block with its inputs; training may compile or recompute it.
        """
        hidden, signals = self._hidden(tokens, conditions=conditions, run_block=run_block)
        cross_entropy = self._cross_entropy(hidden, targets, "mean")
        if not signals or self.config.control is None:
            return cross_entropy, cross_entropy.new_zeros(())
        return cross_entropy, homeostatic_penalty(signals, self.config.control)

    def token_losses(
        self,
        tokens: Tensor,
        targets: Tensor,
        salience: Salience | None = None,
        conditions: Conditions = UNTOLD,
    ) -> Tensor:
        """Cross-entropy of each target in nats, [B, T], from tokens and targets [B, T]."""
        hidden, _ = self._hidden(tokens, salience, conditions=conditions)
        return self._cross_entropy(hidden, targets, "none").view(targets.shape)

    def _cross_entropy(self, hidden: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        return linear_cross_entropy(
            hidden.flatten(0, 1),
            self.embedding.weight,
            targets.flatten(),
            backend=self.backend(hidden),
            reduction=reduction,
        )

    @classmethod
    def from_pretrained(cls, repo_or_directory: str | Path, **options: Any) -> "LanguageModel":
        """The model of a directory or a hub repository: see `ncn.hub.from_pretrained`."""
        # By name: no stage uses the hub, so no stage should run again when it changes.
        return import_module("ncn.hub").from_pretrained(repo_or_directory, **options)

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Publish this model with a card made from metrics/: see `ncn.hub.push_to_hub`."""
        return import_module("ncn.hub").push_to_hub(self, repo, **options)

    def _embedded(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Token plus position embeddings [B, T, D] of tokens [B, T], the first at `start`."""
        end = start + tokens.shape[1]
        if end > self.config.context_length:
            raise ValueError(
                f"{end} tokens are more than context_length {self.config.context_length}"
            )
        return self.embedding(tokens) + self.positions.weight[start:end]

    def _hidden(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = UNTOLD,
        run_block: RunBlock = run_as_it_is,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The last hidden state [B, T, D] and the signals that shaped it, each [B, T, L]."""
        x = self.dropout(self._embedded(tokens, 0 if cache is None else cache.length))
        control = self.control
        if control is None:
            signals, drive = ControlOutput({})
        else:
            tonic = None if cache is None else cache.tonic
            signals, drive = control(x, salience, tonic, conditions)
        n_layers = len(self.blocks)
        columns = {k: signal.unbind(-1) for k, signal in signals.items()}
        by_layer = [{k: each[n] for k, each in columns.items()} for n in range(n_layers)]
        for n, block in enumerate(self.blocks):
            past = None if cache is None else cache.layers[n]
            measure = drive is not None and n + 1 < n_layers
            x, entropy = run_block(block, x, **by_layer[n], past=past, measure=measure)
            if isinstance(control, ControlNetwork) and drive is not None and entropy is not None:
                by_layer[n + 1] = control.at_layer(n + 1, drive, entropy)
        if drive is not None:  # some have been replaced
            signals = {k: torch.stack([each[k] for each in by_layer], dim=-1) for k in signals}
        return self.norm(x), signals


def build_model(
    params: Params, arm: str, vocab_size: int, seed: int | None = None
) -> LanguageModel:
    """The initialised model of an arm.

    Args:
        params: the experiment.
        arm: a name from params.arms.
        vocab_size: of the tokenizer in use.
        seed: of the initialisation; the experiment's own seed where not given.

    Raises:
        InputError: the arm is not in params.
    """
    model = LanguageModel(model_config(params, arm, vocab_size))
    initialise(model, params.seed if seed is None else seed)
    return model


def model_config(params: Params, arm: str, vocab_size: int) -> ModelConfig:
    """What `arm` builds: with a control network, or plain with its feed-forward widened."""
    shape = params.model.model_dump() | {"vocab_size": vocab_size}
    control = params.control_network(arm)
    if control.controller != "none":
        return ModelConfig(**shape, control=control)
    plain = ModelConfig(**shape)
    baseline = params.baseline_of(arm)
    if baseline.match == "none":
        return plain
    size = parameter_count if baseline.match == "parameters" else flops_per_token
    missing = size(ModelConfig(**shape, control=params.ncn)) - size(plain)
    widening = missing / (size(_widened(plain, plain.d_ff + 1)) - size(plain))
    multiple = baseline.multiple_of
    return _widened(plain, round((plain.d_ff + widening) / multiple) * multiple)


def _widened(config: ModelConfig, d_ff: int) -> ModelConfig:
    return config.model_copy(update={"d_ff": d_ff})


def parameter_count(config: ModelConfig) -> int:
    """The number of parameters, counted on a model without storage (tied weights once)."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LanguageModel(config).parameters())


@torch.no_grad()
def initialise(model: LanguageModel, seed: int) -> None:
    """Set every parameter. Runs last, so that nothing it sets is overwritten.

    | parameter                       | distribution                                     |
    |---------------------------------|--------------------------------------------------|
    | embeddings (tokens, positions,  |                                                  |
    | tasks), linear weights          | N(0, 0.02)                                       |
    | salience query, entropy weight  | N(0, 0.02)                                       |
    | norm weights                    | 1                                                |
    | biases                          | 0                                                |
    | output bias of the controller   | `ncn.init`: identity 0, 0.525, 3 (for gain,      |
    |                                 | precision, ffn_gate) on each layer; zero 0, 0, 0 |

    Each parameter draws from its own stream, named by seed and parameter: what the arms share
    starts equal, since adding a control network moves no other draw.
    """
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            stream = torch.Generator().manual_seed(int.from_bytes(digest[:6]))
            parameter.normal_(0.0, 0.02, generator=stream)
    if model.control is not None:
        start_at_declared_signals(model.control.output_bias, model.control.settings)
        if model.control.settings.frozen:
            model.control.requires_grad_(False)
