"""Differences counted otherwise, of planted losses."""

from typing import Any

import numpy as np
import pytest

from ncn.analysis.comparison import Scores
from ncn.analysis.robustness import (
    BYTE,
    NEW,
    STORY,
    TOKEN,
    beside_scored,
    in_words,
    over_fitting,
    robustness,
)
from ncn.statistics.interval import Floats

TOKENS = np.array([10.0] * 40 + [1000.0] * 20)
SEEN = np.array([0.0] * 40 + [0.9] * 20)


def arm(by_cluster: Floats, by_seed: tuple[float, ...] = (0.0, 0.01, -0.01)) -> Scores:
    sums = (2.0 + by_cluster + np.array(by_seed)[:, None]) * TOKENS
    names = [f"story {i}" for i in range(len(TOKENS))]
    return Scores({"as_trained": sums}, TOKENS, names, 60, 0.0, {})


def found(
    by_cluster: Floats, by_seed: tuple[float, ...] = (0.0, 0.01, -0.01), seen: Floats = SEEN
) -> dict[str, Any]:
    nothing = np.zeros(len(TOKENS))
    base = arm(nothing, tuple(0.0 for _ in by_seed))
    scores = {"baseline": base, "ncn": arm(by_cluster, by_seed)}
    fitted = {"baseline": {"rise": 0.0, "training_loss": 1.9}, "ncn": None}
    return robustness(scores, seen, 0.5, 16, 4.0, fitted, 0.01, 200, 1)


def test_each_view_weighs_as_it_says() -> None:
    gain = np.where(SEEN > 0.5, -0.1, 0.05)  # better on what it has seen, and worse elsewhere
    everything = found(gain)
    views = {view: ends[0] for view, ends in everything["arms"]["ncn"]["views"].items()}
    by_token = (gain * TOKENS).sum() / TOKENS.sum()
    assert views[TOKEN] == pytest.approx(by_token)
    assert views[STORY] == pytest.approx(gain.mean())
    assert views[BYTE] == pytest.approx(by_token / np.log(2) / 4)
    assert views[NEW] == pytest.approx(0.05)
    assert everything["overlap"]["near_duplicates"] == 20
    assert everything["overlap"]["tokens"] == pytest.approx(20_000 / 20_400)
    assert "Its side depends on the view" in everything["in_words"][1]


def test_a_seed_that_decides_the_side_is_found() -> None:
    steady = found(np.full(60, -0.05))["arms"]["ncn"]
    assert steady["without_one_seed"] == pytest.approx([-0.055, -0.045])
    decided = found(np.zeros(60), (0.01, 0.01, -0.09))
    low, high = decided["arms"]["ncn"]["without_one_seed"]
    assert low < 0 < high
    assert "Its side depends on the view" in decided["in_words"][1]
    assert f"sd over seeds {np.std([0.01, 0.01, -0.09], ddof=1):.4f}" in decided["in_words"][1]
    assert found(np.zeros(60), (0.01,))["arms"]["ncn"]["seed_sd"] is None


def test_where_all_is_copied_or_nothing_known_there_is_no_figure() -> None:
    copied = found(np.full(60, -0.05), seen=np.ones(60))
    assert copied["arms"]["ncn"]["views"][NEW] is None
    assert NEW not in copied["in_words"][1]
    assert "bits a byte" in copied["in_words"][1]
    unknown = found(np.full(60, -0.05), seen=np.full(60, np.nan))
    assert unknown["overlap"] == {
        "clusters": 60, "near_duplicates": 0, "tokens": 0.0, "tenths": None,
    }  # fmt: skip


def log(losses: list[float], validated: list[float | None]) -> list[dict[str, str]]:
    return [
        {"loss": str(loss), "val_loss": "" if each is None else str(each)}
        for loss, each in zip(losses, validated, strict=True)
    ]


def test_a_validation_loss_that_rises_at_the_end_is_called_over_fitting() -> None:
    steady = log([3.0, 2.5, 2.0, 1.9], [None, 2.6, None, 2.1])
    risen = log([3.0, 2.0, 1.0, 0.5], [None, 2.2, None, 2.5])
    of_steady, of_risen = over_fitting([steady, steady]), over_fitting([risen, steady])
    assert of_steady == pytest.approx({"rise": 0.0, "training_loss": 1.9})
    assert of_risen == pytest.approx({"rise": 0.15, "training_loss": (0.5 + 1.9) / 2})
    assert over_fitting([log([3.0], [None])]) is None
    fitted = {"baseline": beside_scored(of_steady, 2.1), "ncn": beside_scored(of_risen, 2.0)}
    base = found(np.zeros(60)) | {"over_fitting": fitted}
    assert in_words(base, 0.01)[-1].startswith("Over-fitting: at the end")
    assert "(nats) ncn 0.1500;" in in_words(base, 0.01)[-1]
    assert "ends more than 0.2 nats above" in in_words(base, 0.2)[-1]
    assert "at the end by baseline +0.2000, ncn +0.8000;" in in_words(base, 0.2)[-1]
    assert "the training losses less the baseline's: ncn -0.7000." in in_words(base, 0.2)[-1]


def test_the_gap_is_to_all_that_was_scored_in_the_form_that_was_trained() -> None:
    everything = found(np.full(60, -0.05))
    assert everything["over_fitting"]["baseline"]["gap"] == pytest.approx(0.1)  # 2.0 - 1.9
    assert everything["over_fitting"]["ncn"] is None
    leaking = arm(np.zeros(60))
    causal = leaking._replace(sums=leaking.sums | {"causal": leaking.sums["as_trained"] + 1000.0})
    fitted = {"baseline": {"rise": 0.0, "training_loss": 1.9}}
    gap = robustness({"baseline": causal}, SEEN, 0.5, 16, 4.0, fitted, 0.01, 20, 1)["over_fitting"]
    assert gap["baseline"]["gap"] == pytest.approx(0.1)
