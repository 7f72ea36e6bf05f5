"""The control network: a few numbers a token and layer, from the embeddings.

    c_t = salience pooling of x                      (tonic stream, preprint eq. 1)
    u_t = RMSNorm(c_t + x_t)                         (phasic integration, eq. 2, 13)
    z_t = W_2 tanh(W_1 u_t + b_1) + b_2              (controller, eq. 3, 14; with a state:
                                                      `ncn.control.recurrence`)

with, where asked for, the further inputs of section 3.2: a vector e of the text's task
and values s from outside (`ncn.corpus.conditions`), the attention entropy h of the layer before
(`ncn.layers`), so that the signals of layer l are

    u_t   = RMSNorm(c_t + x_t + e + W_s s)
    z_l,t = W_2,l tanh(W_1 u_t + b_1 + w_h h_l-1,t) + b_2,l             h_0 = 0

Eq. 2 calls what is integrated "the input to the current layer or step"; the published code gives
every layer the embeddings (`ncn.phasic: embedding`). With `ncn.phasic: layer` it is x_l,t, the
input of layer l, while c stays pooled of the embeddings, which are x_1:

    u_l,t = RMSNorm(c_t + x_l,t + e + W_s s)

by the same weights, so that no parameter is added, and gradients reach the backbone through u.

z, layer-major and then by signal (eq. 4: one number each; the columns of a wider one lie together),
becomes the signals as `ncn.signals` declares them. The preprint's:

    gain       g     = 2 sigmoid(z)                  in [0, 2], neutral at z = 0
    precision  beta  = min(softplus(z) + 0.01, max)  in (0, 4], neutral near z = 0.525
    ffn_gate   gamma = sigmoid(z)                    in [0, 1], neutral as z -> infinity

The norm is in the published code and parameter count, not in its equations.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.control.outputs import Control, ControlOutput
from ncn.control.recurrence import Recurrence
from ncn.control.salience import SaliencePooling, Tonic
from ncn.control.static import StaticControl
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.layers import RMSNorm, embedding
from ncn.settings import ControlSettings, ModelConfig, Salience

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
}


class ControlNetwork(Control):
    """x [B, T, D] -> the signals of every layer, and what they need to see the entropy."""

    slider_mean: Tensor
    slider_sd: Tensor

    def __init__(self, config: ModelConfig, settings: ControlSettings) -> None:
        super().__init__(config, settings)
        d_model = config.d_model
        self.pooling = (
            None if settings.salience == "none" else SaliencePooling(d_model, settings.heads)
        )
        self.norm = RMSNorm(d_model)
        self.hidden = nn.Linear(d_model, settings.hidden)
        self.recurrence = (
            Recurrence(d_model, settings.hidden) if settings.controller == "recurrent" else None
        )
        self.output = nn.Linear(settings.hidden, config.n_layers * self._columns)
        if settings.tasks:
            self.tasks = embedding(settings.tasks, d_model)
        if n_sliders := len(settings.sliders):
            self.sliders = nn.Linear(n_sliders, d_model, bias=False)
            # Of the training part, in the sliders' own units: a saved model knows what its 0 means.
            self.register_buffer("slider_mean", torch.zeros(n_sliders))
            self.register_buffer("slider_sd", torch.ones(n_sliders))
        if settings.attention_entropy:
            self.entropy_weight = nn.Parameter(torch.empty(settings.hidden))

    @property
    def output_bias(self) -> Tensor:
        """Where the signals start, [L * C]."""
        return self.output.bias

    def forward(
        self,
        x: Tensor,
        salience: Salience | None = None,
        tonic: Tonic | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> ControlOutput:
        """The signals for embeddings x [B, T, D]."""
        mode = salience or self._settings.salience
        pooled = () if self.pooling is None else (self.pooling(x, mode, tonic),)
        added = (*pooled, *(given[:, None] for given in self.embedded(conditions)))
        if self._settings.phasic == "layer":
            signals = self.at_layer(0, x, ControlOutput({}, added=added), None)
            return ControlOutput({k: each[:, :, None] for k, each in signals.items()}, added=added)
        drive = self._drive(x, added, tonic)
        z = self.output(self.activated(drive))
        return ControlOutput(self.actuated(z), drive if self._settings.attention_entropy else None)

    def _drive(self, x: Tensor, added: Iterable[Tensor], tonic: Tonic | None = None) -> Tensor:
        """W_1 u + b_1, or the states made of it, [B, T, hidden]: of x [B, T, D] and what eq. 2 adds
        to it.
        """
        for each in added:
            x = x + each
        u = self.norm(x)
        drive = self.hidden(u)
        return drive if self.recurrence is None else self.recurrence(u, drive, tonic)

    def at_layer(
        self, layer: int, x: Tensor, output: ControlOutput, entropy: Tensor | None
    ) -> dict[str, Tensor]:
        """The signals of one layer, each [B, T], or [B, T, W].

        Args:
            layer: its number, from 0.
            x: its input [B, T, D].
            output: what `forward` returned, its `drive` or `added`.
            entropy: of the layer before, h [B, T]; None: 0, or not seen.

        Raises:
            ValueError: the output has neither.
        """
        seen = output.drive if output.added is None else self._drive(x, output.added)
        if seen is None:
            raise ValueError("these signals were made for all layers at once")
        if entropy is not None:
            seen = seen + entropy[..., None].to(seen.dtype) * self.entropy_weight
        mine = slice(layer * self._columns, (layer + 1) * self._columns)
        z = F.linear(self.activated(seen), self.output.weight[mine], self.output.bias[mine])
        return {name: signal[:, :, 0] for name, signal in self.actuated(z).items()}

    def activated(self, drive: Tensor) -> Tensor:
        """The hidden units of W_1 u + b_1, or of the states, [..., hidden]."""
        return ACTIVATIONS[self._settings.activation](drive)

    def embedded(self, conditions: Conditions) -> Iterator[Tensor]:
        """e and W_s s, [B, D] each, where they are given."""
        if (task := conditions.task) is not None:
            if not self._settings.tasks:
                raise ValueError("a task was given, but the control network was built for none")
            yield self.tasks(task)
        if (sliders := conditions.sliders) is not None:
            names = self._settings.sliders
            if sliders.shape[-1] != len(names):
                raise ValueError(
                    f"{sliders.shape[-1]} slider values were given, but the control network was"
                    f" built for {len(names)}: {', '.join(names) or 'none'}"
                )
            yield self.sliders(sliders.to(self.sliders.weight.dtype))


def make_control(config: ModelConfig) -> ControlNetwork | StaticControl | None:
    """What `controller` names; None for a plain transformer."""
    settings = config.control
    if settings is None or settings.controller == "none":
        return None
    if settings.controller == "static":
        return StaticControl(config, settings)
    return ControlNetwork(config, settings)
