"""The training loop: every arm through the same rows in the same order."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ncn.config import Train
from ncn.corpus import Rows
from ncn.engine import Engine, NonFiniteError, StepResult
from ncn.errors import InputError
from ncn.model import LanguageModel
from ncn.optimizer import learning_rate


class LogRow(NamedTuple):
    """One logged point: means over the optimiser steps since the one before."""

    step: int  # optimiser steps done
    tokens: int  # targets seen so far
    loss: float  # cross-entropy, nats a token
    penalty: float  # homeostatic, lambda included
    lr: float  # of the last step
    grad_norm: float  # before clipping


def count_steps(n_rows: int, train: Train) -> int:
    """Optimiser steps of `train.epochs` over n_rows, whole batches only.

    1,016,288 rows in 16 x 4 make 15,879 steps, as published.

    Raises:
        InputError: the rows do not fill one batch.
    """
    batch = train.micro_batch_size * train.grad_accum_steps
    steps = int(train.epochs * n_rows / batch)
    if steps < 1:
        raise InputError(
            f"train.epochs {train.epochs}: {n_rows} training sequences do not fill one batch of"
            f" train.micro_batch_size {train.micro_batch_size} x train.grad_accum_steps"
            f" {train.grad_accum_steps}"
        )
    return steps


def row_order(n_rows: int, seed: int) -> Iterator[int]:
    """Endless row numbers, each epoch a permutation of its own; the same for every arm."""
    stream = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n_rows, generator=stream).tolist()


def train_model(
    model: LanguageModel, rows: Rows, train: Train, seed: int, name: str
) -> list[LogRow]:
    """Train `model` in place on rows [N, T + 1]; returns the log.

    Args:
        model: initialised, on its device.
        rows: of the training part.
        train: the optimiser's settings.
        seed: of the row order and the dropout.
        name: of the run, for the progress bar and errors.

    Raises:
        InputError: the rows do not fill a batch, or loss or gradient stop being finite.
    """
    max_steps = count_steps(len(rows), train)
    engine = Engine(model, train, seed)
    order = row_order(len(rows), seed)
    batch = train.micro_batch_size * train.grad_accum_steps
    log: list[LogRow] = []
    window: list[StepResult] = []
    progress = tqdm(range(1, max_steps + 1), desc=name, unit="step", disable=None)
    for step in progress:
        lr = learning_rate(step, max_steps, train)
        try:
            window.append(engine.step(rows[list(islice(order, batch))], lr))
        except NonFiniteError as error:
            raise InputError(f"{name}, {error}") from None
        if step % train.log_every == 0 or step == max_steps:
            loss, penalty, grad_norm, *_ = np.mean(window, axis=0).tolist()
            tokens = step * batch * (rows.shape[1] - 1)
            log.append(LogRow(step, tokens, loss, penalty, lr, grad_norm))
            window.clear()
            progress.set_postfix(loss=f"{loss:.4f}", penalty=f"{penalty:.4f}")
    return log
