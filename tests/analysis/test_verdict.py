"""The verdict: one rule for who beats the baseline and who reads the future."""

import ast
import math
from pathlib import Path
from typing import Any

import pytest

from ncn.analysis.verdict import reads_the_future, verdict_of
from ncn.common.files import read_json
from ncn.common.paths import COMPARISON, SUMMARY
from tests.conftest import ROOT

CLEAR, COVERS_0, TOUCHES_0 = [-0.2, -0.3, -0.1], [-0.1, -0.3, 0.1], [-0.1, -0.2, 0.0]


def files(**difference: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """summary.json and compare.json of one arm that leaks nothing, over three seeds."""
    usual = {"delta_ppl": CLEAR, "p_holm": 0.01, "equivalent": False, "reactive": [1.0, 0.9, 1.1]}
    comparison = {"seeds": [1, 2, 3], "differences": {"ncn": usual | difference}}
    return {"ncn": {"future_leak": 0.0}}, comparison


@pytest.mark.parametrize(
    ("difference", "by_interval", "side", "chance"),
    [
        ({}, "better", "better", False),
        ({"delta_ppl": [0.2, 0.1, 0.3]}, "worse", "worse", False),
        ({"delta_ppl": COVERS_0, "p_holm": 0.9}, "open", "open", False),
        ({"delta_ppl": TOUCHES_0}, "open", "open", False),
        ({"p_holm": 0.06}, "better", "open", True),
        ({"p_holm": 0.05}, "better", "open", True),
        ({"p_holm": None}, "better", "better", False),
    ],
)
def test_a_side_takes_a_clear_interval_that_holm_does_not_call_chance(
    difference: dict[str, Any], by_interval: str, side: str, chance: bool
) -> None:
    found = verdict_of("ncn", *files(**difference))
    assert found is not None
    assert (found.by_interval, found.side, found.may_be_chance) == (by_interval, side, chance)
    assert found.of_the_method


def test_the_reactive_score_has_an_interval_and_no_test() -> None:
    found = verdict_of("ncn", *files(p_holm=0.9, equivalent=True), reactive=True)
    assert found is not None
    assert (found.side, found.p, found.equivalent, found.reads_the_future) == (
        "worse", None, False, False,
    )  # fmt: skip


@pytest.mark.parametrize("ends", [None, [1.0, 2.0], [1.0, math.nan, 2.0], "text"])
def test_no_interval_gives_no_verdict(ends: object) -> None:
    assert verdict_of("ncn", *files(delta_ppl=ends)) is None
    assert verdict_of("baseline", *files()) is None
    assert verdict_of("ncn", {}, {}) is None


def test_a_leak_that_was_not_measured_is_neither() -> None:
    found = [reads_the_future({"future_leak": leak}) for leak in (0.0, 1e-9, math.nan, None)]
    assert found == [False, True, None, None]
    assert reads_the_future({}) is None


def test_the_committed_words_are_those_of_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever run lies here: each arm's words begin with the verdict that its figures give."""
    monkeypatch.chdir(ROOT)
    if not (SUMMARY.is_file() and COMPARISON.is_file()):
        pytest.skip("skipped: no run was compared here")
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    said = {"better": "lower than", "worse": "higher than", "open": "not distinguishable from"}
    for arm in summary:
        words, found = comparison["in_words"][arm], verdict_of(arm, summary, comparison)
        assert found is None or f", {said[found.by_interval]} the baseline's" in words
        assert bool(reads_the_future(summary[arm])) == ("It reads the future" in words)


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
