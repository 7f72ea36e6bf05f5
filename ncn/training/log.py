"""What training leaves to look at: one row every few steps, and the losses that stood out."""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from ncn.signals import SIGNALS
from ncn.training import spikes
from ncn.training.step import StepResult


class LogRow(NamedTuple):
    """One logged point: means over the optimiser steps since the one before. None: not measured."""

    step: int  # optimiser steps done
    tokens: int  # targets seen so far
    loss: float  # cross-entropy, nats a token
    penalty: float  # homeostatic, lambda included
    lr: float  # of the last step
    grad_norm: float | None  # before clipping; None where every step was skipped
    loss_scale: float  # of fp16, at the last step; 1 elsewhere
    skipped: int  # steps whose scaled gradient overflowed, so that the weights stayed
    spikes: int  # steps whose loss stood out, see `ncn.training.spikes`
    signals: dict[str, float]  # the mean of each that the arm has, on rows of the last step
    pooling_entropy: float | None  # of the salience, 1: a plain mean; None where nothing is pooled
    val_loss: float | None  # on the fixed validation subset, nats a token

    def columns(self) -> dict[str, float | None]:
        """The row as a table has it: one column NAME_mean for each signal of table 1, and for
        each further one that the arm has.
        """
        row = self._asdict()
        signals = row.pop("signals")
        after = {name: row.pop(name) for name in ("pooling_entropy", "val_loss")}
        means = {
            f"{name}_mean": signals.get(name)
            for name, declared in SIGNALS.items()
            if name in signals or not declared.further
        }
        return row | means | after


# What is read back of a state: of these types, or refused.
ROWS, RESULTS = TypeAdapter(list[LogRow]), TypeAdapter(list[StepResult])
COUNT, LOSSES = TypeAdapter(int), TypeAdapter(list[float])


class TrainingLog:
    """The rows so far, and the steps since the last of them."""

    def __init__(self) -> None:
        self.rows: list[LogRow] = []
        self._window: list[StepResult] = []
        self._spikes = 0  # in the window
        self._losses: deque[float] = deque(maxlen=spikes.STEPS)

    def add(self, result: StepResult) -> bool:
        """Take in a step; returns whether its loss is a spike."""
        spike = spikes.is_spike(result.loss, self._losses)
        self._spikes += spike
        self._losses.append(result.loss)
        self._window.append(result)
        return spike

    def close_row(
        self,
        step: int,
        tokens: int,
        lr: float,
        signals: Mapping[str, float] = MappingProxyType({}),
        val_loss: float | None = None,
        pooling_entropy: float | None = None,
    ) -> LogRow:
        """Make a row of the steps since the last one.

        A skipped step has no gradient norm: its gradient overflowed.
        """
        norms = [result.grad_norm for result in self._window if not result.skipped]
        row = LogRow(
            step=step,
            tokens=tokens,
            loss=float(np.mean([result.loss for result in self._window])),
            penalty=float(np.mean([result.penalty for result in self._window])),
            lr=lr,
            grad_norm=float(np.mean(norms)) if norms else None,
            loss_scale=self._window[-1].loss_scale,
            skipped=sum(result.skipped for result in self._window),
            spikes=self._spikes,
            signals=dict(signals),
            pooling_entropy=pooling_entropy,
            val_loss=val_loss,
        )
        self.rows.append(row)
        self._window.clear()
        self._spikes = 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {
            "rows": [list(row) for row in self.rows],
            "window": [list(result) for result in self._window],
            "spikes": self._spikes,
            "losses": list(self._losses),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.rows = ROWS.validate_python(state["rows"])
        self._window = RESULTS.validate_python(state["window"])
        self._spikes = COUNT.validate_python(state["spikes"])
        self._losses.extend(LOSSES.validate_python(state["losses"]))
