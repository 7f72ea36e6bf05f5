"""Which branches are left out of which tokens: by the gate, at random, or of fixed layers.

A choice is keep [N, T, L]: whether token t of row n goes through layer l, or (form `feed_forward`)
through its feed-forward. Two choices of one share leave out equally many of the N T L.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ncn.model import LanguageModel
from ncn.model.skipping import Form, weights
from ncn.scoring.asked import Asked
from ncn.scoring.probes import Signals, signals_changed
from ncn.settings import ModelConfig


def by_weight(asked: Asked, form: Form, below: float) -> Tensor:
    """keep [N, T, L]: what weighs `below` or more, the rule of `LanguageModel.skip_below`."""
    signals = asked.model.signals(asked.tokens, asked.mode, asked.conditions)
    return weights(signals, form) >= below


def at_random(shape: torch.Size, left_out: int, draw: np.random.Generator) -> Tensor:
    """keep of `shape`: `left_out` of its elements are False, each choice equally likely."""
    keep = np.ones(shape.numel(), bool)
    keep[draw.permutation(shape.numel())[:left_out]] = False
    return torch.from_numpy(keep).view(shape)


def of_layers(
    shape: torch.Size, left_out: int, order: Sequence[int], draw: np.random.Generator
) -> Tensor:
    """keep of `shape` [N, T, L]: whole layers are left out in `order`, the last of some tokens."""
    keep = torch.ones(shape, dtype=torch.bool)
    for layer in order:
        mine = min(left_out, shape[:2].numel())
        keep[:, :, layer] = at_random(shape[:2], mine, draw)
        left_out -= mine
    return keep


def cheapest_first(asked: Asked, form: Form) -> list[int]:
    """The layers, by what the loss becomes where each is left out alone: the least first."""
    shape = torch.Size([*asked.tokens.shape, asked.model.config.n_layers])
    losses = []
    for layer in range(shape[2]):
        keep = torch.ones(shape, dtype=torch.bool)
        keep[:, :, layer] = False
        with left_out(asked.model, keep, form):
            losses.append(asked.row_losses().mean())
    return [int(layer) for layer in np.argsort(losses, kind="stable")]


@contextmanager
def left_out(model: LanguageModel, keep: Tensor, form: Form) -> Iterator[None]:
    """While the block runs, the model's branches are times 0 where keep [N, T, L] is False.

    The function that skipping computes, to the last bit the same whatever later tokens keep: how
    many rows a product has does not depend on the choice.
    """
    gate = "ffn_gate" if form == "feed_forward" else "depth_gate"

    def closed(signals: Signals) -> Signals:
        kept = keep.to(next(iter(signals.values())))
        return signals | {gate: signals[gate] * kept if gate in signals else kept}

    with signals_changed(model, closed):
        yield


def flops_saved(config: ModelConfig, keep: Tensor, form: Form) -> float:
    """The floating-point operations a token that keep [N, T, L] leaves out, of a forward pass.

    As `ncn.model.flops` counts. A layer's keys and values are still made, and its queries with
    them, in one product; position t attends to t + 1 positions. What makes the scales of a branch
    (`ncn.model.rivals`) is not counted as left out.
    """
    width, skipped = config.d_model, (~keep).sum(dim=(0, 2)).double().cpu()  # [T]
    each = torch.full_like(skipped, 2 * 2 * width * config.d_ff)
    if form == "layer":
        positions = torch.arange(1, len(skipped) + 1, dtype=skipped.dtype)
        each += 2 * width**2 + 2 * 2 * width * positions
    return float((skipped * each).sum()) / keep.shape[:2].numel()
