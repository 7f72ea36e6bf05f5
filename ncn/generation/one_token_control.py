"""The control network for one token of one text.

As `ncn.control.network` and `ncn.control.salience` compute it, in fewer calls: the folded query
lies beside the value projection, so that one product gives score and value; where a token is
pooled alone, both projections are one matrix; and the signals, a few numbers, are plain numbers.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ncn.control.network import ControlNetwork
from ncn.control.outputs import outputs
from ncn.control.salience import SaliencePooling, Tonic, next_mean
from ncn.corpus.conditions import Conditions
from ncn.generation.matrices import AsItIs, after_norm
from ncn.layers import NORM_EPS
from ncn.settings import ModelConfig, Salience


def norm_of(x: Tensor) -> float:
    """1 / RMS of x [D]: what a norm without weights multiplies x by."""
    return 1 / math.sqrt(x.dot(x).item() / x.shape[0] + NORM_EPS)


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), of any z."""
    small = math.exp(-abs(z))
    return (1.0 if z >= 0 else small) / (1 + small)


def softplus(z: float) -> float:
    """log(1 + exp(z)), of any z."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


# As `kernels.actuator` has them, for a number: a layer's few are made in less time than a tensor.
TRANSFORMATIONS: dict[str, Callable[[float, float], float]] = {
    "2sigmoid": lambda z, maximum: 2 * sigmoid(z),
    "shifted": lambda z, maximum: sigmoid(z) + 0.5,
    "sigmoid": lambda z, maximum: sigmoid(z),
    "softplus": lambda z, maximum: min(softplus(z) + 0.01, maximum),
}


class _Pooling:
    """Salience pooling of one more position."""

    def __init__(self, pooling: SaliencePooling) -> None:
        value, out = pooling.v_proj, pooling.out_proj
        query = pooling.folded_query()  # [H, D]
        self._n_heads = pooling.n_heads
        self._scores_and_values = AsItIs(torch.cat([query, value.weight]))  # [D, H + D]
        self._bias = torch.cat([value.bias.new_zeros(len(query)), value.bias])
        self._out, self._out_bias = AsItIs(out.weight), out.bias
        self._alone = AsItIs(out.weight @ value.weight)  # [D, D]
        self._alone_bias = out(value.bias)

    def __call__(self, x: Tensor, mode: Salience, tonic: Tonic) -> Tensor:
        """c [D] of x [D]; causal pooling goes on from the state of `tonic`."""
        if mode == "reactive":
            pooled = self._alone.added(self._alone_bias, x, 1)
        else:
            assert tonic.state is not None
            both = self._scores_and_values.added(self._bias, x, 1)
            score, value = both.split([self._n_heads, x.shape[0]])
            mean, tonic.state = next_mean(
                score[None], value.view(1, self._n_heads, -1), tonic.state
            )
            pooled = self._out.added(self._out_bias, mean.view(-1), 1)
        if tonic.refresh is None:  # a policy has something to hold at every token, or at none
            return pooled
        return tonic.hold(pooled[None, None])[0, 0]


class OneTokenControl:
    """The signals of one more token. The weights are copied: they must not change."""

    def __init__(self, control: ControlNetwork, config: ModelConfig) -> None:
        self._control = control
        self._pooling = None if control.pooling is None else _Pooling(control.pooling)
        self._hidden = AsItIs(after_norm(control.norm, control.hidden.weight))  # [D, hidden]
        self._output = AsItIs(control.output.weight)  # [hidden, L * C]
        self._transformations = {
            name: TRANSFORMATIONS[kind] for name, (kind, _) in outputs(config).items()
        }
        settings = config.control
        self._maximum = math.inf if settings is None else settings.precision_max

    def signals(
        self, x: Tensor, mode: Salience, tonic: Tonic, conditions: Conditions
    ) -> dict[str, list[float]]:
        """By name, one a layer, for the embedding x [D]; `tonic` holds the past of the text."""
        control, context = self._control, x
        if self._pooling is not None:
            context = x + self._pooling(x, mode, tonic)
        for given in control.embedded(conditions):
            context = context + given[0]
        drive = self._hidden.added(control.hidden.bias, context, norm_of(context))
        z = self._output.added(control.output.bias, control.activated(drive), 1)
        numbers, n_signals = z.tolist(), len(self._transformations)
        return {
            name: [made(each, self._maximum) for each in numbers[n::n_signals]]
            for n, (name, made) in enumerate(self._transformations.items())
        }
