"""From z to the signals: what a controller puts out, where it starts, what straying costs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.actuator import Output, actuator
from ncn.control.salience import Tonic
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.layers import Layer
from ncn.settings import ControlSettings, ModelConfig, Salience
from ncn.signals import SIGNALS


def outputs(config: ModelConfig) -> dict[str, Output]:
    """What the control network of `config` puts out for a layer, in the order of z.

    By signal: its transformation, and how many of the layer's columns it takes.
    """
    made: dict[str, Output] = {}
    for signal in (SIGNALS[name] for name in (config.control.signals if config.control else ())):
        transformation = signal.transformations[0]
        if len(signal.transformations) > 1:
            transformation = getattr(config.control, signal.name, transformation)
        width = signal.columns(config.n_heads, config.d_model, config.experts)
        made[signal.name] = transformation, width
    return made


def columns(config: ModelConfig) -> int:
    """How many numbers the control network of `config` puts out for a layer and token, C."""
    return sum(width for _, width in outputs(config).values())


@torch.no_grad()
def start_at_declared_signals(bias: Tensor, config: ModelConfig) -> None:
    """Set the output biases [L * C] as `ncn.init` says.

    `identity` starts next to a plain transformer, at the z that each signal declares (preprint
    4.1.4: g = 1, beta = 0.9997, gamma = 0.953); `zero` leaves beta = 0.703, gamma = 0.5.
    """
    identity = config.control is not None and config.control.init == "identity"
    start = [
        SIGNALS[name].start if identity else 0.0
        for name, (_, width) in outputs(config).items()
        for _ in range(width)
    ]
    bias.view(-1, len(start)).copy_(torch.tensor(start))


class ControlOutput(NamedTuple):
    """What a control network makes of a text.

    signals: by name, each [B, T, L], or [B, T, L, W] where it is wider than one number a layer.
        Only those that the arm has. The first layer's alone count where the others are made layer
        by layer (`ControlNetwork.at_layer`), of one of these two:
    drive: W_1 u + b_1, or the states of it, [B, T, hidden], yet to see the attention entropy.
    added: what is added to each layer's input in eq. 2, each [B, T, D] or [B, 1, D]: with
        `phasic: layer`, where L above is 1.
    """

    signals: dict[str, Tensor]
    drive: Tensor | None = None
    added: tuple[Tensor, ...] | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the signals of later layers are yet to be made."""
        return self.drive is not None or self.added is not None


class Control(Layer, ABC):
    """What both controllers share: what they are given, and how z becomes the signals."""

    def __init__(self, config: ModelConfig, settings: ControlSettings) -> None:
        super().__init__()
        self._settings = settings
        self._outputs = outputs(config)
        self._columns = columns(config)

    @property
    @abstractmethod
    def output_bias(self) -> Tensor:
        """Where the signals start, [L * C]."""

    @abstractmethod
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

    def actuated(self, z: Tensor) -> dict[str, Tensor]:
        """The signals of z [..., L * C], by name, each [..., L] or [..., L, W]."""
        outputs, maximum = list(self._outputs.values()), self._settings.precision_max
        made = actuator(z, outputs, maximum, backend=self.backend(z))
        return {
            name: each[..., 0] if SIGNALS[name].width == "layer" else each
            for name, each in zip(self._outputs, made, strict=True)
        }


def homeostatic_penalty(signals: Mapping[str, Tensor], settings: ControlSettings) -> Tensor:
    """lambda * sum over signals of mean((signal - neutral)^2), over batch, time, layers and width.

    `penalty: sum` sums over the layers instead (eq. 15; eq. 18 has the mean). A scalar.
    """
    deviations = torch.stack(
        [(signal - SIGNALS[name].neutral).square().mean() for name, signal in signals.items()]
    )
    layers = next(iter(signals.values())).shape[2] if settings.penalty == "sum" else 1
    return settings.homeostatic_lambda * layers * deviations.sum()
