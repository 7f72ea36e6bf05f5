"""The curves: equal shares, differences to nothing left out, and words that say what was found."""

import numpy as np
import pytest

from ncn.conditional.curves import ALL, CHOICES, LOW, NOTHING, RANDOM, Run, summary, table
from ncn.conditional.points import arm_with_a_gate, low_precision, points_of
from ncn.figures.conditional import draw_conditional
from ncn.scoring.asked import Asked, asked_of
from ncn.settings import Params
from tests.conftest import VOCABULARY, with_arm
from tests.model.test_skipping import varied


@pytest.fixture(scope="module")
def texts(tiny: Params) -> list[tuple[Asked, Asked]]:
    """Two models, each with rows to score and rows to choose by."""
    rows = np.random.default_rng(3).integers(VOCABULARY, size=(12, 25), dtype=np.uint16)
    models = [varied(tiny, seed=seed, salience="causal") for seed in (1, 2)]
    return [(asked_of(each, rows[:6], 6), asked_of(each, rows[6:], 6)) for each in models]


@pytest.fixture(scope="module")
def runs(tiny: Params, texts: list[tuple[Asked, Asked]]) -> dict[int, Run]:
    pairs = enumerate(texts, start=1)
    return {seed: points_of(*pair, tiny.conditional, seed) for seed, pair in pairs}


def test_equal_seeds_give_equal_points(
    tiny: Params, texts: list[tuple[Asked, Asked]], runs: dict[int, Run]
) -> None:
    again = points_of(*texts[0], tiny.conditional, 1)
    for one, other in zip(again.points, runs[1].points, strict=True):
        assert one[:-1] == other[:-1]
        assert np.array_equal(one.losses, other.losses)


def test_the_three_choices_leave_out_and_cost_the_same(tiny: Params, runs: dict[int, Run]) -> None:
    skipped = [point for point in runs[1].points if point.what != "caches"]
    assert len(skipped) == 2 * len(tiny.conditional.skip_below) * len(CHOICES)
    for first in range(0, len(skipped), len(CHOICES)):
        three = skipped[first : first + len(CHOICES)]
        assert [point.choice for point in three] == list(CHOICES)
        assert len({(point.what, point.setting, point.share) for point in three}) == 1
        if three[0].what == "feed_forward":
            assert len({point.cost for point in three}) == 1
    caches = {(p.choice, p.setting): p for p in runs[1].points if p.what == "caches"}
    for (states, setting), point in caches.items():
        if states == LOW:
            other = caches[RANDOM, setting]
            assert (point.share, point.cost) == (other.share, other.cost)
            assert 0 < point.share < 1
        if states == ALL:
            assert point.share == 1


def test_low_precision_is_known_before_the_text(
    tiny: Params, texts: list[tuple[Asked, Asked]]
) -> None:
    asked, before = texts[0]
    low = low_precision(asked, before, 0.5)
    assert low_precision(before, before, 0.5).double().mean() == pytest.approx(0.5, abs=0.01)
    short = Asked(asked.model, asked.tokens[:, :9], asked.targets[:, :9], asked.conditions, None)
    assert np.array_equal(low_precision(short, before, 0.5), low[:, :9])


def test_a_summary_tells_the_differences_to_nothing_left_out(runs: dict[int, Run]) -> None:
    found = summary("ncn", runs, 24, 1000, 200, 1)
    own = np.mean([run.own for run in runs.values()])
    assert found["loss"] == pytest.approx(own)
    for form in found["skipping"]:
        for point in found["skipping"][form]:
            for choice in CHOICES:
                mine = [
                    each
                    for run in runs.values()
                    for each in run.points
                    if (each.what, each.choice, each.setting) == (form, choice, (point["below"],))
                ]
                value, low, high = point["loss"][choice]
                assert value == pytest.approx(np.mean([p.losses for p in mine]) - own)
                assert low <= value <= high
                assert point["by_seed"] == [each.share for each in mine]
    rows = table("ncn", runs)
    assert len(rows) == sum(len(run.points) for run in runs.values())
    assert {row["seed"] for row in rows} == {1, 2}
    text = "\n".join(found["in_words"])
    assert "its feed-forwards" in text
    assert "4 bits (others 8)" in text


def test_the_first_arm_with_a_gate_for_each_token_is_asked(tiny: Params) -> None:
    assert arm_with_a_gate(tiny) == "ncn"
    without = tiny.model_copy(update={"arms": {"baseline": {"controller": "none"}}})
    assert arm_with_a_gate(without) is None
    for changes in ({"controller": "static"}, {"signals": ["gain"]}, {"phasic": "layer"}):
        assert arm_with_a_gate(with_arm(without, **changes)) is None
    assert arm_with_a_gate(with_arm(without, signals=["depth_gate"])) == "special"


def test_without_such_an_arm_the_figure_says_so() -> None:
    texts = [text.get_text() for axes in draw_conditional(NOTHING).axes for text in axes.texts]
    assert [" ".join(text.split()) for text in texts] == ["nothing to show: no arm has a gate"] * 3
