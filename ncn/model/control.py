"""The control network: three scalars a token and layer, from the embeddings alone.

    c_t = salience pooling of x                      (tonic stream, preprint eq. 1)
    u_t = RMSNorm(c_t + x_t)                         (phasic integration, eq. 2, 13)
    z_t = W_2 tanh(W_1 u_t + b_1) + b_2              (controller, eq. 3, 14)

with, where they are asked for, the further inputs of section 3.2: a vector e of the text's task
and values s from outside (`ncn.conditions`), the attention entropy h of the layer before
(`ncn.entropy`), so that the signals of layer l are

    u_t   = RMSNorm(c_t + x_t + e + W_s s)
    z_l,t = W_2,l tanh(W_1 u_t + b_1 + w_h h_l-1,t) + b_2,l             h_0 = 0

z, one number a layer and signal (eq. 4), becomes

    gain       g     = 2 sigmoid(z)                  in [0, 2], neutral at z = 0
    precision  beta  = min(softplus(z) + 0.01, max)  in (0, 4], neutral near z = 0.525
    ffn_gate   gamma = sigmoid(z)                    in [0, 1], neutral as z -> infinity

The norm is in the published code and parameter count, not in its equations.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.actuator import actuator
from kernels.dispatch import Backend
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.model.layers import Layer, RMSNorm, embedding
from ncn.model.salience import SaliencePooling, Tonic
from ncn.settings import ControlSettings, Salience

# Biases of W_2 that start the model next to a plain transformer (preprint 4.1.4):
# g = 1, beta = 0.9997, gamma = 0.953. `init: zero` leaves beta = 0.703, gamma = 0.5.
IDENTITY_BIAS = {"gain": 0.0, "precision": 0.525, "ffn_gate": 3.0}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "gelu": F.gelu,
}


def actuate(z: Tensor, settings: ControlSettings, backend: Backend) -> dict[str, Tensor]:
    """The signals of z [..., L * S] (layer-major), by name, each [..., L]: `kernels.actuator`."""
    names = settings.signals
    signals = actuator(z, names, settings.gain, settings.precision_max, backend=backend)
    return dict(zip(names, signals, strict=True))


@torch.no_grad()
def start_at_declared_signals(bias: Tensor, settings: ControlSettings) -> None:
    """Set the output biases [L * S] that `ncn.init` declares."""
    start = [
        IDENTITY_BIAS[name] if settings.init == "identity" else 0.0 for name in settings.signals
    ]
    bias.view(-1, len(start)).copy_(torch.tensor(start))


class ControlOutput(NamedTuple):
    """What a control network makes of a text.

    signals: by name, each [B, T, L]. Only those of `ncn.signals`.
    drive: W_1 u + b_1 [B, T, hidden] where the signals have yet to see the attention entropy
        (`ControlNetwork.at_layer`): these are then those of h = 0.
    """

    signals: dict[str, Tensor]
    drive: Tensor | None = None


class StaticControl(Layer):
    """One learned scalar a layer and signal, whatever the text: `controller: static`.

    What any claim of dynamic control has to beat: it can rescale branches, and react to nothing.
    """

    pooling = None  # no stream of the text, so no mode to score it in

    def __init__(self, n_layers: int, settings: ControlSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bias = nn.Parameter(torch.empty(n_layers * len(settings.signals)))

    @property
    def output_bias(self) -> Tensor:
        """Where the signals start, [L * S]."""
        return self.bias

    def forward(
        self,
        x: Tensor,
        salience: Salience | None = None,
        tonic: Tonic | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> ControlOutput:
        """The same signals at every position of x [B, T, D]."""
        z = self.bias.expand(*x.shape[:2], -1)
        return ControlOutput(actuate(z, self.settings, self.backend(x)))


class ControlNetwork(Layer):
    """x [B, T, D] -> the signals of every layer, and what they need to see the entropy."""

    slider_mean: Tensor
    slider_sd: Tensor

    def __init__(self, d_model: int, n_layers: int, settings: ControlSettings) -> None:
        super().__init__()
        self.settings = settings
        self.pooling = (
            None if settings.salience == "none" else SaliencePooling(d_model, settings.heads)
        )
        self.norm = RMSNorm(d_model)
        self.hidden = nn.Linear(d_model, settings.hidden)
        self.output = nn.Linear(settings.hidden, n_layers * len(settings.signals))
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
        """Where the signals start, [L * S]."""
        return self.output.bias

    def forward(
        self,
        x: Tensor,
        salience: Salience | None = None,
        tonic: Tonic | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> ControlOutput:
        """The signals for embeddings x [B, T, D].

        Args:
            x: token plus position embeddings.
            salience: pool in another mode than the network was built for: `reactive` scores a
                model as the published code generates with it.
            tonic: where x continues a text that is read in pieces, see `SaliencePooling.forward`.
            conditions: what is known of the texts.

        Raises:
            ValueError: the conditions are not those that the network was built for.
        """
        mode = salience or self.settings.salience
        context = x if self.pooling is None else x + self.pooling(x, mode, tonic)
        for told in self._embedded(conditions):
            context = context + told[:, None]
        drive = self.hidden(self.norm(context))
        z = self.output(self._activated(drive))
        signals = actuate(z, self.settings, self.backend(z))
        return ControlOutput(signals, drive if self.settings.attention_entropy else None)

    def at_layer(self, layer: int, drive: Tensor, entropy: Tensor) -> dict[str, Tensor]:
        """The signals of one layer, each [B, T], with the entropy h [B, T] of the layer before."""
        seen = drive + entropy[..., None].to(drive.dtype) * self.entropy_weight
        signals = len(self.settings.signals)
        mine = slice(layer * signals, (layer + 1) * signals)
        z = F.linear(self._activated(seen), self.output.weight[mine], self.output.bias[mine])
        made = actuate(z, self.settings, self.backend(z))
        return {name: signal[..., 0] for name, signal in made.items()}

    def _activated(self, drive: Tensor) -> Tensor:
        return ACTIVATIONS[self.settings.activation](drive)

    def _embedded(self, conditions: Conditions) -> Iterator[Tensor]:
        """e and W_s s, [B, D] each, where they are given."""
        if (task := conditions.task) is not None:
            if not self.settings.tasks:
                raise ValueError("a task was given, but the control network was built for none")
            yield self.tasks(task)
        if (sliders := conditions.sliders) is not None:
            names = self.settings.sliders
            if sliders.shape[-1] != len(names):
                raise ValueError(
                    f"{sliders.shape[-1]} slider values were given, but the control network was"
                    f" built for {len(names)}: {', '.join(names) or 'none'}"
                )
            yield self.sliders(sliders.to(self.sliders.weight.dtype))


def make_control(
    d_model: int, n_layers: int, settings: ControlSettings | None
) -> ControlNetwork | StaticControl | None:
    """What `controller` names; None for a plain transformer."""
    if settings is None or settings.controller == "none":
        return None
    if settings.controller == "static":
        return StaticControl(n_layers, settings)
    return ControlNetwork(d_model, n_layers, settings)


def homeostatic_penalty(signals: Mapping[str, Tensor], settings: ControlSettings) -> Tensor:
    """lambda * sum over signals of mean((signal - 1)^2), the mean over batch, time and layers.

    `penalty: sum` sums over the layers instead (eq. 15; eq. 18 has the mean). A scalar.
    """
    deviations = torch.stack([(signal - 1).square().mean() for signal in signals.values()])
    layers = next(iter(signals.values())).shape[-1] if settings.penalty == "sum" else 1
    return settings.homeostatic_lambda * layers * deviations.sum()
