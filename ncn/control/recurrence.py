"""The controller with a state: `controller: recurrent`.

A gated linear recurrence over positions in place of the hidden layer of `ncn.control.network`:

    f_t = sigmoid(W_f u_t + b_f)                  in (0, 1)^hidden: how much of the state stays
    v_t = W_1 u_t + b_1
    s_t = f_t * s_t-1 + (1 - f_t) * v_t           s_0 = 0
    z_t = W_2 tanh(s_t) + b_2

s is a weighted mean of 0 and the v so far, so it cannot grow; f = 0 is the network without a state.
Nothing but s_t-1 is needed of the past: O(1) while generating. As f and v do not depend on s, all
positions are computed at once (`linear_scan`). Source: preprint section 8, "Phasic Modulation
Implementation"; the form is the f-pooling of Bradbury et al. 2016 (arXiv 1611.01576).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.control.salience import Tonic
from ncn.layers import at_least_single


def linear_scan(keep: Tensor, add: Tensor, state: Tensor | None = None) -> Tensor:
    """s_t = keep_t s_t-1 + add_t at every position, [B, T, N], in log2 T steps.

    After a step of distance d, `add` at t is what the last 2 d positions up to t make of a state of
    0, and `keep` at t the product of theirs; two such stretches join to one of twice the length
    (Martin & Cundy 2018, arXiv 1709.04057). No division and no logarithm: products of gates in
    [0, 1] may underflow to 0, as they should, and never overflow. Training keeps some 4 log2 T
    tensors of this size for the way back.

    Args:
        keep, add: [B, T, N].
        state: s before the first position [B, N]; 0 where not given.
    """
    if state is not None:
        first = add[:, :1] + keep[:, :1] * state[:, None]
        add = torch.cat([first, add[:, 1:]], dim=1)
    distance = 1
    while distance < add.shape[1]:
        # Before the start of the text there is nothing to add, so that no product counts there.
        before = (0, 0, distance, 0)
        add = add + keep * F.pad(add[:, :-distance], before)
        keep = keep * F.pad(keep[:, :-distance], before)
        distance *= 2
    return add


class Recurrence(nn.Module):
    """u [B, T, D] and v [B, T, hidden] -> s [B, T, hidden], in at least fp32."""

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.forget = nn.Linear(d_model, hidden)

    def forward(self, u: Tensor, values: Tensor, tonic: Tonic | None = None) -> Tensor:
        """The states. `tonic` carries the last of an earlier piece, and is brought up to date."""
        logits = at_least_single(self.forget(u))
        # 1 - f as a sigmoid of its own: near f = 1 a difference would keep few digits of it.
        added = torch.sigmoid(-logits) * at_least_single(values)
        states = linear_scan(logits.sigmoid(), added, None if tonic is None else tonic.memory)
        if tonic is not None:
            tonic.memory = states[:, -1].clone()  # a view would keep all states
        return states
