"""The control network for one token of one text.

As `ncn.control.network` and `ncn.control.salience` compute it, in fewer calls: the folded query
lies beside the value projection, so that one product gives score and value; and where a token is
pooled alone, both projections are one matrix.
"""

import math

import torch
from torch import Tensor

from ncn.control.network import ControlNetwork
from ncn.control.salience import SaliencePooling, Tonic, next_mean
from ncn.corpus.conditions import Conditions
from ncn.generation.matrices import AsItIs, after_norm
from ncn.layers import NORM_EPS
from ncn.settings import Salience


def norm_of(x: Tensor) -> float:
    """1 / RMS of x [1, D]: what a norm without weights multiplies x by."""
    row = x[0]
    return 1 / math.sqrt(row.dot(row).item() / row.shape[0] + NORM_EPS)


class _Pooling:
    """Salience pooling of one more position."""

    def __init__(self, pooling: SaliencePooling) -> None:
        value, out = pooling.v_proj, pooling.out_proj
        query = pooling.folded_query()  # [H, D]
        self._n_heads = pooling.n_heads
        self._scores_and_values = torch.cat([query, value.weight]).T.contiguous()  # [D, H + D]
        self._bias = torch.cat([value.bias.new_zeros(len(query)), value.bias])
        self._out, self._out_bias = out.weight.T.contiguous(), out.bias
        self._alone = (out.weight @ value.weight).T.contiguous()  # [D, D]
        self._alone_bias = out(value.bias)

    def __call__(self, x: Tensor, mode: Salience, tonic: Tonic) -> Tensor:
        """c [1, D] of x [1, D]; causal pooling goes on from the state of `tonic`."""
        if mode == "reactive":
            pooled = torch.addmm(self._alone_bias, x, self._alone)
        else:
            assert tonic.state is not None
            both = torch.addmm(self._bias, x, self._scores_and_values)
            score, value = both.split([self._n_heads, x.shape[1]], dim=1)
            mean, tonic.state = next_mean(score, value.view(1, self._n_heads, -1), tonic.state)
            pooled = torch.addmm(self._out_bias, mean.view(1, -1), self._out)
        return tonic.hold(pooled[None])[0]


class OneTokenControl:
    """The signals of one more token. The weights are copied: they must not change."""

    def __init__(self, control: ControlNetwork) -> None:
        self._control = control
        self._pooling = None if control.pooling is None else _Pooling(control.pooling)
        self._hidden = AsItIs(after_norm(control.norm, control.hidden.weight))  # [D, hidden]
        self._output = AsItIs(control.output.weight)  # [hidden, L * C]

    def signals(
        self, x: Tensor, mode: Salience, tonic: Tonic, conditions: Conditions
    ) -> dict[str, Tensor]:
        """By name, each [1, L], for the embedding x [1, D]; `tonic` holds the past of the text."""
        control, context = self._control, x
        if self._pooling is not None:
            context = x + self._pooling(x, mode, tonic)
        for given in control.embedded(conditions):
            context = context + given
        drive = self._hidden.added(control.hidden.bias, context, norm_of(context))
        z = self._output.added(control.output.bias, control.activated(drive), 1)
        return control.actuated(z)
