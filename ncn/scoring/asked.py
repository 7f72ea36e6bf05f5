"""A trained model with the few rows on which it is asked something, and how it is scored there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ncn.control.network import ControlNetwork
from ncn.control.salience import SaliencePooling
from ncn.corpus.conditions import Conditions
from ncn.model import LanguageModel
from ncn.model.inputs import AnyRows, split_rows
from ncn.scoring.losses import mode_of
from ncn.settings import Salience
from ncn.statistics.interval import Floats


@dataclass(frozen=True)
class Asked:
    """A model in evaluation mode, and rows of tokens and targets [N, T] for it.

    mode: of its salience as a language model (`ncn.statistics.scores`): what was trained with
    global pooling is asked with causal pooling, eq. 1 over the history. None: as it was trained.
    """

    model: LanguageModel
    tokens: Tensor
    targets: Tensor
    conditions: Conditions
    mode: Salience | None

    def few(self, n: int) -> "Asked":
        """The same of the first n rows."""
        first = slice(n)
        conditions = self.conditions.take(first)
        return Asked(self.model, self.tokens[first], self.targets[first], conditions, self.mode)

    @torch.inference_mode()
    def row_losses(self) -> Floats:
        """The mean loss of each row, nats a token, [N]."""
        losses = self.model.token_losses(self.tokens, self.targets, self.mode, self.conditions)
        return losses.double().mean(1).cpu().numpy()

    def signals(self, tokens: Tensor | None = None) -> dict[str, Floats]:
        """The signals that the arm has, on tokens [N, T] (its own if None): each [N, T, columns].

        Columns are the layers, and the width within a layer where a signal has one.
        """
        own = self.model.config.control
        if own is None or self.model.control is None:
            return {}
        asked = self.tokens if tokens is None else tokens
        made = self.model.signals(asked, self.mode, self.conditions)
        return {name: made[name].flatten(2).double().cpu().numpy() for name in own.signals}


def asked_of(model: LanguageModel, rows: AnyRows, most: int) -> Asked:
    """`model` with at most so many of the rows [N, T + 1], spread evenly over them.

    Evenly: neighbours may belong to one story, and intervals over rows take them as independent.
    """
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    tokens, targets, conditions = split_rows(rows[chosen], model.embedding.weight.device)
    return Asked(model, tokens, targets, conditions, mode_of(model))


def pooling_of(model: LanguageModel) -> SaliencePooling | None:
    """The salience pooling; None where nothing is pooled."""
    return model.control.pooling if isinstance(model.control, ControlNetwork) else None


@contextmanager
def context_changed(pooling: SaliencePooling, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While the block runs, the controller sees `change` of the pooled context c [N, T, D]."""

    def changed(_module: nn.Module, _inputs: object, pooled: Tensor) -> Tensor:
        return change(pooled)

    hook = pooling.register_forward_hook(changed)
    try:
        yield
    finally:
        hook.remove()
