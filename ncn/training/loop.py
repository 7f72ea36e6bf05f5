"""The training loop: every arm through the same rows in the same order."""

import signal
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import distributed

from ncn.common.errors import NO_ROOM, InputError, Interrupted
from ncn.common.progress import Progress
from ncn.common.stopping import StopSignals
from ncn.model import LanguageModel
from ncn.model.device import peak_memory
from ncn.model.inputs import AnyRows, split_rows
from ncn.settings import Train
from ncn.training.log import LogRow, TrainingLog
from ncn.training.optimizer import learning_rate
from ncn.training.processes import processes, rank
from ncn.training.row_order import row_order
from ncn.training.states import States
from ncn.training.step import Engine, NonFiniteError

LIVE_SECONDS = 10.0  # between two writings of the growing log
SAVE = 1  # a request of `_agreed`; above it, by SAVE, are the numbers of signals that stop


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


def evenly_spread(rows: AnyRows, wanted: int) -> AnyRows:
    """`wanted` of the rows [N, T + 1] at equal distances, or all where there are fewer."""
    places = np.linspace(0, len(rows) - 1, min(wanted, len(rows)))
    return rows[places.round().astype(int)]


@torch.inference_mode()
def validation_loss(model: LanguageModel, rows: AnyRows, batch_size: int) -> float:
    """Mean cross-entropy of rows [N, T + 1] in nats a token, in fp32 and without dropout."""
    device = next(model.parameters()).device
    model.eval()
    total = 0.0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        loss, _ = model.loss(*split_rows(batch, device))
        total += loss.item() * len(batch)
    return total / len(rows)


def signal_means(model: LanguageModel, rows: AnyRows) -> dict[str, float]:
    """The mean of each signal that the model has, over the tokens of rows [B, T + 1] and layers."""
    control = model.config.control
    if control is None:
        return {}
    tokens, _, conditions = split_rows(rows, next(model.parameters()).device)
    signals = model.signals(tokens, conditions=conditions)
    return {name: signals[name].mean().item() for name in signals if name in control.signals}


def pooling_entropy(model: LanguageModel, rows: AnyRows) -> float | None:
    """How widely the salience pools rows [B, T + 1], mean over them and its heads."""
    tokens, _, _ = split_rows(rows, next(model.parameters()).device)
    entropy = model.pooling_entropy(tokens)
    return None if entropy is None else entropy.mean().item()


def train_model(
    model: LanguageModel,
    rows: AnyRows,
    train: Train,
    seed: int,
    name: str,
    *,
    validation: AnyRows | None = None,
    sample: Callable[[LanguageModel], str] | None = None,
    live: Callable[[Sequence[LogRow]], None] | None = None,
    states: States | None = None,
    stop: StopSignals | None = None,
) -> list[LogRow]:
    """Train `model` in place on rows [N, T + 1]; returns the log.

    Args:
        model: initialised, on its device.
        rows: of the training part.
        train: the optimiser's settings.
        seed: of the row order and the dropout.
        name: of the run, for the progress line and errors.
        validation: rows, of which some are scored now and then, as `train.validation` says.
        sample: makes a text that is shown at each validation.
        live: is given the log now and then, so that it can be looked at while it grows.
        states: to go on from and to save into.
        stop: says when to end early.

    Raises:
        InputError: the rows do not fill a batch.
        NonFiniteError: loss or gradient stop being finite.
        Interrupted: `stop` received a signal. What was done is saved in `states`.
    """
    max_steps = count_steps(len(rows), train)
    batch = train.micro_batch_size * train.grad_accum_steps
    tokens_per_step = batch * (rows.shape[1] - 1)
    if validation is not None:
        validation = evenly_spread(validation, train.validation.sequences)
    engine, log = Engine(model, train, seed), TrainingLog()
    go_on(engine, log, states)
    order = row_order(len(rows), seed, start=engine.steps * batch)
    shown = time.monotonic()
    first = rank() == 0
    with Progress(
        name, engine.steps, max_steps, tokens_per_step, peak_memory, silent=not first
    ) as progress:
        if engine.steps:
            progress.say(f"going on after step {engine.steps:,} of {max_steps:,}")
        while True:
            _save_or_stop(engine, log, max_steps, name, states, stop)
            if engine.steps == max_steps:
                engine.whole_model()
                return log.rows
            step = engine.steps + 1
            lr = learning_rate(step, max_steps, train)
            batch_rows = rows[list(islice(order, batch))]
            try:
                result = engine.step(batch_rows, lr)
            except NonFiniteError as error:
                last_good = f"; the last good state: {states.last_good}" if states else ""
                raise NonFiniteError(f"{name}, {error}{last_good}") from None
            if log.add(result):
                progress.say(f"step {step:,}: the loss jumped to {result.loss:.4f}")
            progress.step(step, result.loss, result.penalty, lr)
            if step % train.log_every and step < max_steps:
                continue
            engine.whole_model()
            seen = batch_rows[: train.micro_batch_size]
            means, entropy = signal_means(model, seen), pooling_entropy(model, seen)
            val_loss = None
            look = step == max_steps or _passed(train.validation.every, log.rows, step)
            if look and validation is not None:
                val_loss = validation_loss(model, validation, train.micro_batch_size)
            row = log.close_row(step, step * tokens_per_step, lr, means, val_loss, entropy)
            if look:
                progress.say(_seen(row, max_steps, sample(model) if sample else ""))
                model.train()
            if live and first and (look or time.monotonic() - shown > LIVE_SECONDS):
                try:
                    live(log.rows)
                except OSError as error:
                    # A full disk; and DVC's queue deletes the folder of a dead job.
                    progress.say(f"the log so far cannot be written: {error.strerror}")
                shown = time.monotonic()


def _save_or_stop(
    engine: Engine,
    log: TrainingLog,
    max_steps: int,
    name: str,
    states: States | None,
    stop: StopSignals | None,
) -> None:
    """Between two steps: save where that is due, and raise Interrupted where it is asked for."""
    step = engine.steps
    received = stop.received if stop else 0
    request = SAVE + received if received else 0
    if not request and states and states.due(step, last=step == max_steps):
        request = SAVE
    request = _agreed(request, next(engine.model.parameters()).device)
    if not request:
        return
    state = {"engine": engine.state_dict(), "log": log.state_dict()}  # of all processes together
    if states and stop and request == SAVE and step == max_steps:
        _save_the_last(step, state, name, states, stop)
    elif states:
        states.save(step, state)
    if request > SAVE:
        number = request - SAVE
        saved = states.last_good if states else "the beginning"
        words = (
            f"{name}: stopped by {signal.Signals(number).name} after step {step:,} of"
            f" {max_steps:,}; the same command goes on from {saved}"
        )
        raise Interrupted(number, words if rank() == 0 else "")


def _save_the_last(
    step: int, state: dict[str, Any], name: str, states: States, stop: StopSignals
) -> None:
    """Save when all is done: on a full disk not before there is room, as no later save follows."""

    def save() -> None:
        problem = states.save(step, state)
        if problem is not None and problem.errno in NO_ROOM:
            raise problem

    how_to_go_on = f"; the same command goes on from {states.last_good}"
    stop.wait_for_room(name, how_to_go_on, save)


def _passed(every: int, rows: Sequence[LogRow], step: int) -> bool:
    """Whether a multiple of `every` lies after the last row's step, up to `step`."""
    return step // every > (rows[-1].step if rows else 0) // every


def _seen(row: LogRow, max_steps: int, sample: str) -> str:
    """A validation in words."""
    measured = "" if row.val_loss is None else f", validation loss {row.val_loss:.4f}"
    text = f": {' '.join(sample.split())}" if sample else ""
    return f"step {row.step:,} of {max_steps:,}: loss {row.loss:.4f}{measured}{text}"


def go_on(engine: Engine, log: TrainingLog, states: States | None) -> None:
    """Take up what the newest state holds, if there is one. To be called by every rank.

    Args:
        engine: new.
        log: new.
        states: of the first rank.

    Raises:
        InputError: it is none of this engine's.
    """
    state = _from_first(states.newest() if states else None)
    if state is None:
        return
    try:
        engine.load_state_dict(state["engine"])
        log.load_state_dict(state["log"])
        if engine.steps != state["step"]:
            raise ValueError(f"steps are {engine.steps}")
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{states.last_good if states else 'the state'}: it does not fit this run ({why}):"
            " delete it, and the same command goes on from the one before it"
        ) from None


def _from_first(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the first process has, in all of them: only it sees the disk with the states."""
    if processes() == 1:
        return state
    box = [state]
    distributed.broadcast_object_list(box)
    return box[0]


def _agreed(request: int, device: torch.device) -> int:
    """The largest request of any process: all of them save, or stop, after the same step."""
    if processes() == 1:
        return request
    largest = torch.tensor(request, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return int(largest)
