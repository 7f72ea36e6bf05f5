"""The language model: a pre-norm decoder-only transformer that a control network may modulate.

The baseline is this class without a control network.

With `model.task_tokens` the transformer itself is told the task k of a text, which is what
`ncn.tasks` of a control network is to be compared with: a learned vector e_k [D] is added to what
the first token of the window enters with,

    x_1 = E[token_1] + p_1 + e_k,    x_t = E[token_t] + p_t after it,

so that every later position can attend to it, no token of the text is lost, and rows, targets and
positions are those of every other arm. A token of its own would take a position and a target away.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.dispatch import Setting, resolve
from kernels.linear_cross_entropy import Reduction, linear_cross_entropy
from ncn.common.errors import InputError
from ncn.control.network import ControlNetwork, make_control
from ncn.control.outputs import Control, ControlOutput, homeostatic_penalty
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.layers import Layer, RMSNorm, embedding
from ncn.model.blocks import Block, Cache
from ncn.model.experts import imbalance
from ncn.model.norm_film import NormFilm
from ncn.model.skipping import Form, Skip, refuse_skipping
from ncn.settings import ModelConfig, Salience
from ncn.signals import SIGNALS, Signal

RunBlock = Callable[..., tuple[Tensor, Tensor | None]]


def run_as_it_is(block: nn.Module, *inputs: Any, **signals: Any) -> tuple[Tensor, Tensor | None]:
    """The plain call of a block."""
    return block(*inputs, **signals)


class LanguageModel(Layer):
    """tokens [B, T] -> logits [B, T, V]. Build one with `build_model`.

    kernels: which form of the kernels it runs through, see `kernels.dispatch.resolve`.
    skip: what it leaves out of a token, see `skip_below`.
    How a model is computed is not part of what it is: neither its configuration nor its files know
    of these.
    """

    skip: Skip | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding(config.vocab_size, config.d_model)  # also the output head
        self.positions = embedding(config.context_length, config.d_model)
        if config.task_tokens:
            self.task_tokens = embedding(config.task_tokens, config.d_model)
        self.control = make_control(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model)

    def forward(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Tensor:
        """The logits [B, T, V] of the next token at each position of tokens [B, T].

        Args:
            tokens: token ids, int64, at most context_length with those of the cache.
            salience: see `Control.forward`; ignored without a control network.
            cache: holds the text before `tokens`, and then them too: the logits are those that
                the whole text would have at these positions.
            conditions: see `Control.forward`; ignored without one.
        """
        hidden, _ = self._hidden(tokens, salience, cache, conditions)
        return F.linear(hidden, self.embedding.weight)

    def next_logits(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Tensor:
        """The last of the logits that `forward` returns, [B, V], the others never computed."""
        hidden, _ = self._hidden(tokens, salience, cache, conditions)
        last = hidden[:, -1]  # [B, D]
        if (batch := len(last)) == 1:
            # One row would go to a matrix-vector routine that reads the weights on one thread, at
            # a quarter of the speed: 4.1 ms against 1.0 (V 50257, D 256, two cores).
            last = last.repeat(2, 1)
        return torch.bmm(self.embedding.weight[None], last.T[None])[0, :, :batch].T

    def make_cache(self, batch_size: int) -> Cache:
        """Room for a text of the whole context, for each of batch_size rows."""
        return Cache(self.config, batch_size, self.embedding.weight)

    def freeze_control(self) -> None:
        """Train nothing that a model without a control network would not have."""
        for module in self.modules():
            if isinstance(module, (Control, NormFilm)):
                module.requires_grad_(False)

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

    def skip_below(
        self, below: float | None, form: Form = "feed_forward", name: str = "this model"
    ) -> None:
        """Leave out of a token, from now on, what weighs less than `below` (`ncn.model.skipping`).

        Args:
            below: None: nothing.
            form: what is left out.
            name: of the model, for the error.

        Raises:
            InputError: the model has no control network, or one that needs every layer.
        """
        if below is not None:
            refuse_skipping(self.config, form, name)
        self.skip = None if below is None else Skip(below, form)

    @torch.no_grad()
    def signals(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> dict[str, Tensor]:
        """Every signal of table 1 for tokens [B, T], neutral where not modulated, and every further
        one that the arm has.

        Each [B, T, L], or [B, T, L, W] where it is wider than one number a layer.
        """
        config, mine = self.config, dict[str, Tensor]()
        if config.control is not None and config.control.by_layer:
            _, mine = self._hidden(tokens, salience, conditions=conditions)
        elif self.control is not None:  # from the embeddings alone: no layer needs to run
            x, told = self._with_task(self._embedded(tokens), conditions)
            mine = self.control(x, salience, None, told).signals

        def neutral(signal: Signal) -> Tensor:
            shape = [*tokens.shape, config.n_layers]
            if signal.width != "layer":
                shape.append(signal.columns(config.n_heads, config.d_model, config.experts))
            return torch.full(shape, float(signal.neutral), device=tokens.device)

        return {
            name: mine[name] if name in mine else neutral(signal)
            for name, signal in SIGNALS.items()
            if name in mine or not signal.further
        }

    @torch.no_grad()
    def pooling_entropy(self, tokens: Tensor) -> Tensor | None:
        """How widely the salience pools tokens [B, T], [B, H]; None where nothing is pooled."""
        control = self.config.control
        if control is None or self.control is None or self.control.pooling is None:
            return None
        return self.control.pooling.entropy(self._embedded(tokens), control.salience)

    def loss(
        self,
        tokens: Tensor,
        targets: Tensor,
        conditions: Conditions = NO_CONDITIONS,
        run_block: RunBlock = run_as_it_is,
    ) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats a token, and the penalties to add: homeostatic (eq. 18-19) and
        of experts that are not used alike (`ncn.model.experts`).

        Args:
            tokens: [B, T].
            targets: [B, T], the token after each.
            conditions: see `Control.forward`; ignored without one.
            run_block: calls a block with its inputs; training may compile or recompute it.
        """
        hidden, signals = self._hidden(tokens, conditions=conditions, run_block=run_block)
        cross_entropy = self._cross_entropy(hidden, targets, "mean")
        penalty = cross_entropy.new_zeros(())
        if signals and self.config.control is not None:
            penalty = homeostatic_penalty(signals, self.config.control)
        uneven = imbalance(getattr(block, "router", None) for block in self.blocks)
        if uneven is not None:
            penalty = penalty + self.config.balance * uneven
        return cross_entropy, penalty

    def token_losses(
        self,
        tokens: Tensor,
        targets: Tensor,
        salience: Salience | None = None,
        conditions: Conditions = NO_CONDITIONS,
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

    def _embedded(self, tokens: Tensor, start: int = 0, place: Tensor | None = None) -> Tensor:
        """Token plus position embeddings [B, T, D] of tokens [B, T], the first at `start`; or of
        one token, at `place` [1].
        """
        if place is not None:
            return self.embedding(tokens) + self.positions(place)
        end = start + tokens.shape[1]
        if end > self.config.context_length:
            raise ValueError(
                f"{end} tokens are more than context_length {self.config.context_length}"
            )
        return self.embedding(tokens) + self.positions.weight[start:end]

    def _with_task(
        self, x: Tensor, conditions: Conditions, start: int = 0
    ) -> tuple[Tensor, Conditions]:
        """Embeddings [B, T, D], the first at `start`, and what is left to tell the control network:
        with task tokens, the window's first position has the task's vector, see above.
        """
        if not self.config.task_tokens:
            return x, conditions
        if start == 0 and (task := conditions.task) is not None:
            first = x[:, :1] + self.task_tokens(task)[:, None]
            x = torch.cat([first, x[:, 1:]], dim=1)
        control = self.config.control
        if control is None or not control.tasks:
            conditions = replace(conditions, task=None)
        return x, conditions

    def _hidden(
        self,
        tokens: Tensor,
        salience: Salience | None = None,
        cache: Cache | None = None,
        conditions: Conditions = NO_CONDITIONS,
        run_block: RunBlock = run_as_it_is,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The last hidden state [B, T, D], and the signals that shaped it as `signals` has them."""
        if self.skip is not None:
            run_block = self.skip
        start = 0 if cache is None else cache.length
        place = None if cache is None else cache.place
        embedded = self._embedded(tokens, start, place)
        x, conditions = self._with_task(embedded, conditions, start)
        x = self.dropout(x)
        control = self.control
        output = ControlOutput({})
        if control is not None:
            tonic = None if cache is None else cache.tonic
            output = control(x, salience, tonic, conditions)
        made = {k: signal.unbind(2) for k, signal in output.signals.items()}
        by_layer: list[dict[str, Tensor]] = []
        entropy: Tensor | None = None
        for n, block in enumerate(self.blocks):
            if n and output.unfinished and isinstance(control, ControlNetwork):
                by_layer.append(control.at_layer(n, x, output, entropy))
            else:
                by_layer.append({k: each[n] for k, each in made.items()})
            past = None if cache is None else cache.layers[n]
            measure = self._entropy_is_seen(output) and n + 1 < len(self.blocks)
            x, entropy = run_block(block, x, **by_layer[n], past=past, measure=measure)
        signals = output.signals
        if output.unfinished:
            signals = {k: torch.stack([each[k] for each in by_layer], dim=2) for k in signals}
        return self.norm(x), signals

    def _entropy_is_seen(self, output: ControlOutput) -> bool:
        """Whether a later layer's signals, yet to be made, see how widely attention attends."""
        control = self.config.control
        return output.unfinished and control is not None and control.attention_entropy
