"""The training loop: every arm through the same rows in the same order."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from ncn.config import Train
from ncn.corpus import Rows
from ncn.device import mixed_precision
from ncn.errors import InputError
from ncn.model import LanguageModel
from ncn.optimizer import learning_rate, make_optimizer


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


def split_rows(rows: NDArray[np.uint16], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows [B, T + 1] -> tokens [B, T] and targets [B, T], int64 on `device`."""
    both = torch.from_numpy(rows.astype(np.int64)).to(device)
    return both[:, :-1], both[:, 1:]


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
    device = next(model.parameters()).device
    max_steps = count_steps(len(rows), train)
    optimizer = make_optimizer(model, train)
    order = row_order(len(rows), seed)
    torch.manual_seed(seed)  # dropout
    model.train()
    log: list[LogRow] = []
    window: list[tuple[float, float, float]] = []
    per_step = train.micro_batch_size * train.grad_accum_steps * (rows.shape[1] - 1)
    progress = tqdm(range(1, max_steps + 1), desc=name, unit="step", disable=None)
    for step in progress:
        lr = learning_rate(step, max_steps, train)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = penalty = 0.0
        for _ in range(train.grad_accum_steps):
            chosen = [next(order) for _ in range(train.micro_batch_size)]
            tokens, targets = split_rows(rows[chosen], device)
            with mixed_precision(device, train.precision):
                cross_entropy, homeostatic = model.loss(tokens, targets)
            ((cross_entropy + homeostatic) / train.grad_accum_steps).backward()
            loss += cross_entropy.item() / train.grad_accum_steps
            penalty += homeostatic.item() / train.grad_accum_steps
        grad_norm = clip_grad_norm_(model.parameters(), train.grad_clip).item()
        if not math.isfinite(loss + penalty + grad_norm):
            raise InputError(
                f"{name}, step {step}: loss {loss}, penalty {penalty}, gradient norm {grad_norm}"
                " must be finite; try a smaller train.lr, more train.warmup_steps or fp32"
            )
        optimizer.step()
        optimizer.zero_grad()
        window.append((loss, penalty, grad_norm))
        if step % train.log_every == 0 or step == max_steps:
            mean_loss, mean_penalty, mean_norm = np.mean(window, axis=0).tolist()
            log.append(LogRow(step, step * per_step, mean_loss, mean_penalty, lr, mean_norm))
            window.clear()
            progress.set_postfix(loss=f"{mean_loss:.4f}", penalty=f"{mean_penalty:.4f}")
    return log
