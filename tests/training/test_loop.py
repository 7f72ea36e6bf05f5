"""Training: the same rows for every arm, the published schedule, a loss that falls."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncn.common.errors import InputError
from ncn.corpus.rows import Rows
from ncn.model import build_model
from ncn.settings import Params
from ncn.training.loop import count_steps, train_model
from ncn.training.optimizer import learning_rate
from tests.conftest import VOCABULARY


def rows(n: int = 64, length: int = 17) -> Rows:
    """A language in which each token is its predecessor plus 3: learnable by counting pairs."""
    starts = np.random.default_rng(0).integers(VOCABULARY, size=(n, 1))
    return ((starts + 3 * np.arange(length)) % VOCABULARY).astype(np.uint16)


def quick(params: Params, **changes: object) -> Params:
    settings = {"warmup_steps": 5, "micro_batch_size": 8, "epochs": 10, "log_every": 10, "lr": 1e-2}
    return params.model_copy(update={"train": params.train.model_copy(update=settings | changes)})


def test_one_epoch_has_the_published_number_of_steps(published: Params) -> None:
    train = published.train.model_copy(
        update={"micro_batch_size": 16, "grad_accum_steps": 4, "epochs": 1.0}
    )
    assert count_steps(1_016_288, train) == 15_879


def test_the_learning_rate_is_that_of_the_published_log(published: Params) -> None:
    train = published.train.model_copy(
        update={"lr": 6e-4, "warmup_steps": 100, "schedule": "cosine"}
    )
    logged = {20: 1.20e-4, 100: 6.00e-4, 400: 5.99e-4, 15_820: 2.07e-8, 15_860: 2.15e-9}
    for step, value in logged.items():
        assert learning_rate(step, 15_879, train) == pytest.approx(value, rel=0.003)


@given(st.sampled_from(["cosine", "linear", "constant"]), st.integers(0, 50), st.integers(1, 200))
def test_the_learning_rate_rises_then_never_does(schedule: str, warmup: int, steps: int) -> None:
    train = Params.model_fields["train"].annotation
    assert train is not None
    settings = train.model_construct(lr=1.0, warmup_steps=warmup, schedule=schedule)
    rates = [learning_rate(step, steps, settings) for step in range(1, steps + 1)]
    top = max(1, min(warmup, steps))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top - 1 :] == sorted(rates[top - 1 :], reverse=True)
    assert all(0 <= rate <= 1 for rate in rates)


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_training_lowers_the_loss_of_every_arm(tiny: Params, arm: str) -> None:
    params = quick(tiny)
    log = train_model(build_model(params, arm, VOCABULARY, 1), rows(), params.train, 1, arm)
    assert [row.step for row in log] == list(range(10, 81, 10))
    assert log[-1].tokens == 80 * 8 * 16
    assert log[-1].loss < 0.5 < log[0].loss
    assert all((row.penalty > 0) == (arm != "baseline") for row in log)


def test_two_seeded_runs_are_equal_to_the_bit(tiny: Params) -> None:
    shape = tiny.model.model_copy(update={"dropout": 0.1})
    params = quick(tiny.model_copy(update={"model": shape}), epochs=2)
    models = [build_model(params, "ncn_causal", VOCABULARY, 1) for _ in range(2)]
    logs = [train_model(model, rows(), params.train, 1, "run") for model in models]
    assert logs[0] == logs[1]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_accumulation_does_not_change_the_step(tiny: Params) -> None:
    losses = []
    for micro, accumulated in ((8, 1), (2, 4)):
        params = quick(tiny, micro_batch_size=micro, grad_accum_steps=accumulated, epochs=2)
        model = build_model(params, "ncn", VOCABULARY, 1).double()
        log = train_model(model, rows(), params.train, 1, "run")
        losses.append([row.loss for row in log])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_a_frozen_control_network_never_moves(tiny: Params) -> None:
    frozen = {"init": "zero", "frozen": True}
    params = quick(tiny.model_copy(update={"arms": {"run_1": frozen}}), epochs=2)
    model = build_model(params, "run_1", VOCABULARY, 1)
    assert model.control is not None
    before = {name: tensor.clone() for name, tensor in model.control.state_dict().items()}
    log = train_model(model, rows(), params.train, 1, "run_1")
    for name, tensor in model.control.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert [row.penalty for row in log] == pytest.approx(len(log) * [0.00338], abs=5e-5)


def test_a_loss_that_is_not_finite_names_the_run_and_the_step(tiny: Params) -> None:
    params = quick(tiny)
    model = build_model(params, "ncn", VOCABULARY, 1)
    with torch.no_grad():
        model.norm.weight[0] = torch.inf
    with pytest.raises(InputError, match=r"ncn-1, step 1: loss .* must be finite; try a smaller"):
        train_model(model, rows(), params.train, 1, "ncn-1")


def test_fewer_rows_than_a_batch_are_refused(tiny: Params) -> None:
    with pytest.raises(InputError, match="3 training sequences do not fill one batch of"):
        count_steps(3, quick(tiny, epochs=1).train)


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_one_step_at_published_size(published: Params, arm: str) -> None:
    params = quick(published, micro_batch_size=1, grad_accum_steps=1, epochs=1)
    model = build_model(params, arm, 50_257, 1)
    text = np.random.default_rng(0).integers(50_257, size=(1, 513)).astype(np.uint16)
    (row,) = train_model(model, text, params.train, 1, arm)
    assert (row.step, row.tokens) == (1, 512)
    assert row.loss == pytest.approx(np.log(50_257), abs=0.2)
    assert row.grad_norm > 0


GOLDEN = {"baseline": 3.36493, "ncn": 3.37350, "ncn_causal": 3.37315}


@pytest.mark.parametrize("arm", GOLDEN)
def test_a_seeded_run_keeps_its_loss(tiny: Params, arm: str) -> None:
    params = quick(tiny, epochs=2)
    log = train_model(build_model(params, arm, VOCABULARY, 1), rows(), params.train, 1, arm)
    assert log[-1].loss == pytest.approx(GOLDEN[arm], rel=1e-3)
