"""Second phases of training side by side: what was forgotten and learned, paired by seed."""

from typing import Any

import pytest

from ncn.analysis.adaptation import adaptation


def run(arm: str, method: str, seed: int, forgot: float, learned: float) -> dict[str, Any]:
    """A run from a loss of 1 on the first text and 3 on the second."""
    return {
        "arm": arm,
        "method": method,
        "seed": seed,
        "trained_parameters": 4606,
        "loss": {
            "first": {"before": 1.0, "start": 1.0, "after": 1.0 + forgot},
            "second": {"before": 3.0, "start": 3.0, "after": 3.0 - learned},
        },
    }


def test_without_runs_there_is_nothing_to_say() -> None:
    assert adaptation([]) == {}


def test_one_seed_has_a_value_and_no_interval() -> None:
    found = adaptation([run("baseline", "full", 1, 0.5, 1.5)])
    assert found["arms"]["baseline-full"]["forgotten"] == [0.5, None, None]
    assert found["in_words"] == [
        "baseline-full: 4,606 parameters trained, forgot +0.5000, learned +1.5000 nats a token"
    ]


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by 1, the pairs by 0.01: the interval is that of the pairs."""
    runs = [run("baseline", "full", seed, seed, 1.0) for seed in (1, 2, 3)]
    runs += [run("ncn", "full", seed, seed - 0.2 + 0.01 * (seed - 2), 1.1) for seed in (3, 2, 1)]
    runs += [run("ncn", "lora", seed, seed - 0.7, 0.5) for seed in (1, 2, 3)]
    found = adaptation(runs)["arms"]
    value, low, high = found["ncn-full"]["to_baseline"]["forgotten"]
    assert value == pytest.approx(-0.2)
    assert (value - low, high - value) == pytest.approx((0.0248, 0.0248), abs=1e-4)  # t(2) = 4.303
    assert found["ncn-full"]["to_baseline"]["learned"] == pytest.approx([0.1] * 3)
    assert found["ncn-lora"]["to_full"]["learned"] == pytest.approx([-0.6] * 3)
    assert found["ncn-full"]["seeds"] == [1, 2, 3]
    assert "to_baseline" not in found["ncn-lora"]
    assert not {"to_baseline", "to_full"} & set(found["baseline-full"])
