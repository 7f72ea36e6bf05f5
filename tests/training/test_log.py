"""The training log: means of the steps between two rows, and the losses that stand out."""

import numpy as np
import pytest

from ncn.training.log import TrainingLog
from ncn.training.spikes import is_spike
from ncn.training.step import StepResult


def step(loss: float, **changes: object) -> StepResult:
    result = StepResult(loss=loss, penalty=0.1, grad_norm=2.0, loss_scale=1.0, skipped=False)
    return result._replace(**changes)


def test_a_loss_spikes_when_it_stands_out_from_those_before_it() -> None:
    noise = np.random.default_rng(0).normal(3.0, 0.1, size=1000)
    assert sum(is_spike(loss, noise[i : i + 100]) for i, loss in enumerate(noise[100:])) == 0
    assert is_spike(3.8, noise[:100])
    assert not is_spike(3.5, noise[:100])
    assert not is_spike(2.0, noise[:100])
    assert not is_spike(100.0, noise[:19])


def test_outliers_before_it_do_not_hide_a_spike() -> None:
    noise = np.random.default_rng(0).normal(3.0, 0.1, size=100)
    noise[::10] = 50.0
    assert is_spike(5.0, noise)


def test_a_row_holds_the_means_since_the_one_before() -> None:
    log = TrainingLog()
    for loss in (4.0, 2.0):
        log.add(step(loss))
    log.close_row(2, 20, 0.5)
    log.add(step(1.0))
    log.add(step(1.0, skipped=True, grad_norm=float("inf"), loss_scale=8.0))
    row = log.close_row(4, 40, 0.25, {"gain": 0.9}, 1.5, 0.8)
    assert [each.loss for each in log.rows] == [3.0, 1.0]
    assert (row.grad_norm, row.loss_scale, row.skipped) == (2.0, 8.0, 1)
    means = {"gain_mean": 0.9, "precision_mean": None, "ffn_gate_mean": None}
    last = means | {"pooling_entropy": 0.8, "val_loss": 1.5}
    assert list(row.columns().items())[-5:] == list(last.items())
    log.add(step(1.0, skipped=True, grad_norm=float("inf")))
    assert log.close_row(5, 50, 0.1).grad_norm is None


@pytest.mark.parametrize("cut", [0, 7, 25, 49])
def test_a_log_goes_on_from_its_state(cut: int) -> None:
    losses = np.random.default_rng(1).normal(3.0, 0.1, size=50)
    losses[40] = 9.0

    def run(log: TrainingLog, first: int, last: int) -> None:
        for number in range(first, last):
            log.add(step(float(losses[number])))
            if number % 4 == 3:
                log.close_row(number + 1, number, 0.1)

    whole, before, after = TrainingLog(), TrainingLog(), TrainingLog()
    run(whole, 0, 50)
    run(before, 0, cut)
    after.load_state_dict(before.state_dict())
    run(after, cut, 50)
    assert after.state_dict() == whole.state_dict()
    assert sum(row.spikes for row in whole.rows) == 1
