"""The verdict: one rule for who beats the baseline and who reads the future."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest

from ncn.analysis.comparison import in_words
from ncn.analysis.verdict import FEWEST_CLUSTERS, Verdict, reads_the_future, verdict_of
from ncn.common.files import read_json
from ncn.common.paths import COMPARISON, SUMMARY
from ncn.statistics.interval import LOWEST_P
from tests.conftest import ROOT

CLEAR, COVERS_0, TOUCHES_0 = [-0.2, -0.3, -0.1], [-0.1, -0.3, 0.1], [-0.1, -0.2, 0.0]
WORSE = [0.2, 0.1, 0.3]


def files(leak: float = 0.0, **difference: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """summary.json and compare.json of one arm, over three seeds."""
    usual: dict[str, Any] = {
        "delta_loss": CLEAR,
        "delta_ppl": WORSE,
        "p": 0.01,
        "p_holm": 0.01,
        "equivalent": False,
    }
    comparison = {
        "seeds": [1, 2, 3],
        "clusters": 400,
        "primary": "ncn",
        "arms": {"ncn": {"scores": {"as_trained": {}}}},
        "differences": {"ncn": usual | difference},
    }
    return {"ncn": {"future_leak": leak}}, comparison


def found_of(*content: Any, **more: Any) -> Verdict:
    found = verdict_of("ncn", *content, **more)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("difference", "by_interval", "kind", "chance"),
    [
        ({}, "better", "better", False),
        ({"delta_loss": WORSE}, "worse", "worse", False),
        ({"delta_loss": COVERS_0, "p_holm": 0.9}, "open", "open", False),
        ({"delta_loss": TOUCHES_0}, "open", "open", False),
        ({"p_holm": 0.06}, "better", "open", True),
        ({"p_holm": 0.05}, "better", "open", True),
        ({"p_holm": None}, "better", "better", False),
        ({"equivalent": True}, "better", "negligible", False),
        ({"equivalent": True, "delta_loss": WORSE}, "worse", "negligible", False),
        ({"equivalent": True, "delta_loss": COVERS_0}, "open", "equivalent", False),
        ({"equivalent": True, "p_holm": 0.06}, "better", "equivalent", True),
    ],
)
def test_a_side_takes_a_clear_interval_that_holm_does_not_call_chance(
    difference: dict[str, Any], by_interval: str, kind: str, chance: bool
) -> None:
    found = found_of(*files(**difference))
    assert (found.by_interval, found.kind, found.may_be_chance) == (by_interval, kind, chance)


@pytest.mark.parametrize("ends", [CLEAR, WORSE, COVERS_0])
@pytest.mark.parametrize("equivalent", [None, True])
def test_one_seed_takes_no_side_whatever_its_interval(ends: list[float], equivalent: Any) -> None:
    summary, comparison = files(delta_loss=ends, p=None, p_holm=None, equivalent=equivalent)
    assert found_of(summary, comparison | {"seeds": [1]}).kind == "two checkpoints"


def test_a_score_that_sees_the_future_takes_no_side_and_a_causal_one_does() -> None:
    summary, comparison = files(leak=4.2)
    assert found_of(summary, comparison).kind == "reads the future"
    assert found_of(summary, comparison | {"seeds": [1]}).kind == "reads the future"
    assert found_of({"ncn": {}}, comparison).kind == "leak unknown"
    comparison["arms"]["ncn"]["scores"]["causal"] = {}
    assert found_of(summary, comparison).kind == "better"
    assert reads_the_future(summary["ncn"])


def test_one_endpoint_is_primary_and_beside_the_reference_none_is() -> None:
    summary, comparison = files()
    assert found_of(summary, comparison).primary is True
    assert found_of(summary, comparison | {"primary": "other"}).primary is False
    assert found_of(summary, comparison | {"primary": None}).primary is None
    assert verdict_of("ncn", summary, comparison, to_reference=True) is None
    mine = comparison["differences"]["ncn"]
    mine["to_reference"] = {
        "delta_loss": WORSE,
        "delta_ppl": CLEAR,
        "p_holm": 0.01,
        "equivalent": False,
    }
    beside = found_of(summary, comparison, to_reference=True)
    assert (beside.kind, beside.primary) == ("worse", False)


def test_few_clusters_and_a_p_at_its_floor_are_noticed() -> None:
    summary, comparison = files()
    assert not found_of(summary, comparison).few_clusters
    assert found_of(summary, comparison | {"clusters": FEWEST_CLUSTERS - 1}).few_clusters
    assert not found_of(summary, comparison | {"clusters": FEWEST_CLUSTERS}).few_clusters
    assert not found_of(summary, comparison).p_at_floor
    assert found_of(*files(p=LOWEST_P, p_holm=2 * LOWEST_P)).p_at_floor


@pytest.mark.parametrize("ends", [None, [1.0, 2.0], [1.0, math.nan, 2.0], "text"])
def test_no_interval_gives_no_verdict(ends: object) -> None:
    assert verdict_of("ncn", *files(delta_ppl=ends)) is None
    assert verdict_of("ncn", *files(delta_loss=ends)) is None
    assert verdict_of("baseline", *files()) is None
    assert verdict_of("ncn", {}, {}) is None


def test_a_leak_that_was_not_measured_is_neither() -> None:
    found = [reads_the_future({"future_leak": leak}) for leak in (0.0, 1e-9, math.nan, None)]
    assert found == [False, True, None, None]
    assert reads_the_future({}) is None


def test_the_committed_words_are_those_of_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever run lies here: each arm's words are those that its figures give."""
    monkeypatch.chdir(ROOT)
    if not (SUMMARY.is_file() and COMPARISON.is_file()):
        pytest.skip("skipped: no run was compared here")
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    for arm in summary:
        assert comparison["in_words"][arm] == in_words(arm, summary, comparison)


def test_nobody_else_compares_a_leak_or_a_difference_with_a_number() -> None:
    """Words are made elsewhere; the only rule is in ncn/analysis/verdict.py."""
    quoted = ("future_leak", "delta_ppl")
    for file in [*(ROOT / "ncn").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        if file == ROOT / "ncn/analysis/verdict.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.In | ast.NotIn):
                compared = ast.unparse(node)
                assert not any(name in compared for name in quoted), f"{file}: {compared}"
    for template in [Path("ncn/report/page.html.j2"), Path("ncn/publish/model_card.md.j2")]:
        text = (ROOT / template).read_text(encoding="utf-8")
        assert "future_leak >" not in text
