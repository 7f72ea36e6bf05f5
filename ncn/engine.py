"""One optimiser step: everything between a batch of rows and the updated weights.

    loss = (1 / B) sum over the batch's B rows of (cross-entropy + homeostatic penalty)

is what a step descends, however the batch is cut into micro-batches. The engine knows nothing of
disks, logs or schedules: those are `ncn.training`'s.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ncn.config import Train
from ncn.device import mixed_precision
from ncn.errors import InputError
from ncn.model import LanguageModel
from ncn.optimizer import make_optimizer
from ncn.rows import AnyRows, split_rows


class StepResult(NamedTuple):
    """What one step saw, over its whole batch."""

    loss: float  # cross-entropy, nats a token
    penalty: float  # homeostatic, lambda included
    grad_norm: float  # before clipping
    loss_scale: float  # of fp16; 1 elsewhere
    skipped: bool  # fp16: the scaled gradient overflowed, so the weights stayed


class NonFiniteError(InputError):
    """A loss, penalty or gradient norm that is not a number: nothing was learned from the step."""


class Engine:
    """Trains `model` in place, one batch at a time.

    Args:
        model: initialised, on its device.
        train: the optimiser's settings.
        seed: of the dropout.

    Raises:
        InputError: this machine lacks the kernels that `train` asks for.
    """

    def __init__(self, model: LanguageModel, train: Train, seed: int) -> None:
        model.use_kernels(train.kernels)
        self.model = model.train()
        self.steps = 0  # taken so far
        self._train = train
        self._seed = seed
        self._device = next(model.parameters()).device
        self._optimizer = make_optimizer(model, train)

    def step(self, rows: AnyRows, lr: float) -> StepResult:
        """One update from a batch: rows [micro_batch_size * grad_accum_steps, T + 1].

        Raises:
            NonFiniteError: the weights are then those before this step.
        """
        self._optimizer.zero_grad()
        losses = []
        for start in range(0, len(rows), self._train.micro_batch_size):
            micro = rows[start : start + self._train.micro_batch_size]
            self._seed_dropout(start)
            losses.append(self._backward(micro, len(micro) / len(rows)))
        loss, penalty = torch.stack(losses).sum(0).tolist()  # the one wait for the device
        grad_norm = clip_grad_norm_(self.model.parameters(), self._train.grad_clip).item()
        if not math.isfinite(loss + penalty + grad_norm):
            raise NonFiniteError(
                f"step {self.steps + 1}: loss {loss}, penalty {penalty}, gradient norm {grad_norm}"
                " must be finite; try a smaller train.lr, more train.warmup_steps or fp32"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self.steps += 1
        return StepResult(loss, penalty, grad_norm, loss_scale=1.0, skipped=False)

    def _backward(self, rows: AnyRows, share: float) -> Tensor:
        """Add the gradient of `share` of a micro-batch's loss; returns that share, [2]."""
        tokens, targets, conditions = split_rows(rows, self._device)
        with mixed_precision(self._device, self._train.precision):
            cross_entropy, penalty = self.model.loss(tokens, targets, conditions)
        ((cross_entropy + penalty) * share).backward()
        return torch.stack([cross_entropy.detach(), penalty.detach()]).double() * share

    def _seed_dropout(self, start: int) -> None:
        """Give the micro-batch at row `start` of the next step a stream of its own.

        Named, not continued: a resumed run needs no state of it.
        """
        digest = hashlib.sha256(f"{self._seed}/{self.steps}/{start}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:6]))

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain numbers, `weights_only` loads it."""
        return {
            "steps": self.steps,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, in an engine made alike."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
