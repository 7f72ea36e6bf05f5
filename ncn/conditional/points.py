"""One trained model with branches left out and with its caches compressed: the loss of each way."""

import numpy as np
import torch
from torch import Tensor

from ncn.conditional.choice import (
    at_random,
    by_weight,
    cheapest_first,
    flops_saved,
    left_out,
    of_layers,
)
from ncn.conditional.curves import ALL, CACHES, CHOICES, LOW, RANDOM, Point, Run
from ncn.conditional.quantised import WHOLE, compressed, stored_bytes
from ncn.model.flops import flops_per_token
from ncn.model.skipping import FORMS
from ncn.scoring.asked import Asked
from ncn.settings import Conditional, Params

GATES = ("ffn_gate", "depth_gate")


def arm_with_a_gate(params: Params) -> str | None:
    """The first arm whose control network sets a gate for each token before any layer runs."""
    for arm in params.arms:
        control = params.control_network(arm)
        dynamic = control.reads and not control.by_layer
        if dynamic and {*GATES} & {*control.signals}:
            return arm
    return None


def points_of(asked: Asked, before: Asked, settings: Conditional, seed: int) -> Run:
    """Every point of one model.

    Args:
        asked: the model with the rows that are scored.
        before: the same with rows of the training part, from which is known which layers cost
            least, and below which precision a state counts as low.
        settings: of params.yaml.
        seed: of the random choices.
    """
    draw = np.random.default_rng(seed)
    skipped = _skipped(asked, before, settings, draw)
    return Run(asked.row_losses(), skipped + _compressed(asked, before, settings, draw))


def _skipped(
    asked: Asked, before: Asked, settings: Conditional, draw: np.random.Generator
) -> list[Point]:
    config, points = asked.model.config, []
    for form in FORMS:
        order = cheapest_first(before, form)
        for below in settings.skip_below:
            gate = by_weight(asked, form, below)
            without = int((~gate).sum())
            random = at_random(gate.shape, without, draw)
            layers = of_layers(gate.shape, without, order, draw)
            for choice, keep in zip(CHOICES, (gate, random, layers), strict=True):
                flops = flops_per_token(config) - flops_saved(config, keep, form)
                with left_out(asked.model, keep, form):
                    losses = asked.row_losses()
                share = without / gate.numel()
                points.append(Point(form, choice, (below,), share, flops, losses))
    return points


def _compressed(
    asked: Asked, before: Asked, settings: Conditional, draw: np.random.Generator
) -> list[Point]:
    descending = sorted(settings.bits, reverse=True)
    every = torch.ones(*asked.tokens.shape, asked.model.config.n_layers, dtype=torch.bool)
    states = {ALL: every}
    if "precision" in asked.signals():
        states[LOW] = low_precision(asked, before, settings.low_share)
        states[RANDOM] = ~at_random(every.shape, int(states[LOW].sum()), draw)
    points = []
    for name, chosen in states.items():
        pairs = [(bits, WHOLE) for bits in descending]
        if name != ALL:
            pairs += zip(descending[1:], descending, strict=False)
        for bits, others in pairs:
            stored = torch.where(chosen, bits, others)
            with compressed(asked.model, stored):
                losses = asked.row_losses()
            size = stored_bytes(asked.model.config, stored)
            share = float(chosen.double().mean())
            points.append(Point(CACHES, name, (bits, others), share, size, losses))
    return points


def low_precision(asked: Asked, before: Asked, share: float) -> Tensor:
    """[N, T, L]: where the precision is below the quantile `share` of its layer's on training text.

    A threshold, so that a state is known to be low when it is stored; the share of `asked` is near
    to `share`.
    """
    precision, known = (
        each.model.signals(each.tokens, each.mode, each.conditions)["precision"]
        for each in (asked, before)
    )
    return precision < known.flatten(0, 1).quantile(share, dim=0)
