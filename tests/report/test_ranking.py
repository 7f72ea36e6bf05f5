"""The order of the arms: as much of it as the intervals leave, and no more."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ncn.report.ranking import apart, in_words, ranking, step_times

ARMS = {
    "baseline": {"controller": "none"},
    "static": {"controller": "static"},
    "ncn_causal": {"salience": "causal"},
    "transponder": {"controller": "none", "modulator": "transponder"},
    "experts": {"controller": "none", "experts": 4},
}
SETTINGS = {"arms": ARMS, "ncn": {"controller": "network"}, "model": {}}


def difference(value: float, half: float, p: float) -> dict[str, Any]:
    ends = [value, value - half, value + half]
    return {"delta_loss": ends, "delta_ppl": ends, "p": p, "p_holm": p}


def compared(
    values: dict[str, float], half: float = 0.01, p: float = 0.01
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and comparison of arms whose losses are so far from the baseline's."""
    differences = {arm: difference(value, half, p) for arm, value in values.items()}
    for arm, value in values.items():
        if arm != "static" and "static" in values:
            differences[arm]["to_reference"] = difference(value - values["static"], half, p)
    names = ["baseline", *values]
    return {arm: {"future_leak": 0.0} for arm in names}, {
        "seeds": [1, 2, 3],
        "clusters": 400,
        "reference": "static",
        "arms": {arm: {"parameters": 9, "flops_per_token": 7, "scores": {}} for arm in names},
        "differences": differences,
    }


def test_arms_stand_by_their_loss_and_overlapping_ones_share_their_places() -> None:
    values = {"static": 0.0, "ncn_causal": -0.05, "transponder": -0.06, "experts": 0.08}
    summary, comparison = compared(values)
    benchmark = {"mechanisms": {"arms": {"experts": {"ratio": 1.25}}}}
    rows = ranking(summary, comparison, benchmark)
    assert {row.arm: row.places for row in rows} == {
        "transponder": (1, 2),
        "ncn_causal": (1, 2),
        "baseline": (3, 4),
        "static": (3, 4),
        "experts": (5, 5),
    }
    assert [row.arm for row in rows][-1] == "experts"
    assert (rows[-1].parameters, rows[-1].flops, rows[-1].step_time) == (9, 7, 1.25)
    assert rows[0].step_time is None
    assert rows[0].to_reference is not None
    first = in_words(SETTINGS, comparison, rows)[0]
    assert first.startswith("Of 10 pairs of arms, 8 have intervals that lie apart")


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(1e-6, 0.5))
def test_places_hold_each_order_that_the_intervals_allow(values: list[float], half: float) -> None:
    summary, comparison = compared({f"arm_{n}": each for n, each in enumerate(values)}, half)
    rows = ranking(summary, comparison, {})
    assert [row.loss.value for row in rows] == sorted(row.loss.value for row in rows)
    for place, row in enumerate(rows, 1):
        lowest, highest = row.places
        assert lowest <= place <= highest
        open_with = [other for other in rows if not apart(row.loss, other.loss)]
        assert highest - lowest + 1 <= len(open_with)


def test_an_arm_that_reads_the_future_has_no_place() -> None:
    summary, comparison = compared({"static": 0.0, "ncn": -0.5})
    summary["ncn"]["future_leak"] = 3.0
    assert [row.arm for row in ranking(summary, comparison, {})] == ["baseline", "static"]


def said(values: dict[str, float], p: float = 0.01) -> str:
    summary, comparison = compared(values, p=p)
    return in_words(SETTINGS, comparison, ranking(summary, comparison, {}))[-1]


def test_a_control_network_helps_only_where_it_is_below_every_rival_too() -> None:
    clear = {"static": -0.01, "ncn_causal": -0.09, "transponder": -0.05, "experts": -0.2}
    assert said(clear).startswith("ncn_causal is lower than baseline and static")
    nobody = "No arm with a control network is lower"
    assert said(clear | {"transponder": -0.08}).startswith(nobody)  # the intervals overlap
    assert said(clear | {"static": -0.09}).startswith(nobody)
    assert said(clear, p=0.2).startswith(nobody)
    assert said({"static": 0.0, "ncn_causal": -0.09}).startswith("Of 3 pairs")  # no rival


def test_step_times_are_those_at_the_runs_own_size_where_there_are_such() -> None:
    found = step_times(
        {
            "training_step": {"arms": {"ncn": {"ratio": 1.01}, "other": {"ratio": 1.5}}},
            "mechanisms": {"arms": {"ncn": {"ratio": 1.05}}},
        }
    )
    assert found == {"ncn": 1.05, "other": 1.5}
    assert step_times({}) == {}
