"""The controller of `controller: static`: constants."""

import torch
from torch import Tensor, nn

from ncn.control.outputs import Control, ControlOutput
from ncn.control.salience import Tonic
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.settings import ControlSettings, ModelConfig, Salience


class StaticControl(Control):
    """Learned signals for each layer, whatever the text: `controller: static`.

    What any claim of dynamic control has to beat: it can rescale branches, and react to nothing.
    """

    pooling = None  # no stream of the text, so no mode to score it in

    def __init__(self, config: ModelConfig, settings: ControlSettings) -> None:
        super().__init__(config, settings)
        self.bias = nn.Parameter(torch.empty(config.n_layers * self._columns))

    @property
    def output_bias(self) -> Tensor:
        """Where the signals start, [L * C]."""
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
        return ControlOutput(self.actuated(z))
