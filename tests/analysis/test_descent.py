"""How high a training loss is at first, and how much it jumps later."""

import numpy as np
import pytest

from ncn.analysis.descent import descent


def log(losses: list[float], rates: list[float] | None = None) -> list[dict[str, str]]:
    """A log with a row every 50 steps."""
    rates = rates or [1.0] * len(losses)
    return [
        {"step": str(50 * (place + 1)), "loss": str(loss), "lr": str(rate)}
        for place, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]


def test_the_first_loss_is_the_mean_of_the_first_200_steps() -> None:
    assert descent(log([6, 5, 4, 3, 1, 1]))["first_loss"] == 4.5


def test_the_roughness_is_the_variance_that_was_planted_and_leaves_warm_up_out() -> None:
    draw = np.random.default_rng(1)
    slope = np.linspace(4, 2, 4000)
    losses = [9.0, 5.0, *(slope + draw.normal(0, 0.1, 4000))]
    rates = [0.1, 0.5, *np.linspace(1, 0, 4000)]
    found = descent(log(losses, rates))["roughness"]
    assert found == pytest.approx(2 * 0.1**2, rel=0.1)  # of the difference of two such losses
    assert descent(log(list(slope)))["roughness"] == pytest.approx(0, abs=1e-12)


def test_what_a_log_does_not_say_is_null() -> None:
    assert descent([{"step": "900", "loss": "nan"}]) == {"first_loss": None, "roughness": None}
    without_rates = [{"step": "1", "loss": str(loss)} for loss in (3.0, 2.0, 1.0)]
    assert descent(without_rates) == {"first_loss": 2.0, "roughness": None}
    assert descent([{}])["first_loss"] is None
