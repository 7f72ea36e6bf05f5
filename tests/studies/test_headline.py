"""What the README says of studies: only what is frozen, and which sizes are not."""

import json
from pathlib import Path
from typing import Any

from ncn.analysis.scaling import in_words, scaling
from ncn.common.paths import COMPARISON, SCALING, STUDIES
from ncn.studies.headline import NOTHING, headline
from tests.analysis.test_scaling import planted


def files(sizes: list[dict[str, Any]]) -> dict[Path, str]:
    """A study of which these sizes are frozen, and one, xl, that is only planned."""
    found = scaling(sizes, 1)
    made = {SCALING: json.dumps({"trial": found | {"in_words": in_words(found)}})}
    each = {"delta_loss": [-0.0321, -0.0456, -0.0186], "p_holm": 0.0123}
    comparison = {"primary": "ncn", "differences": {"other": each, "ncn": each}}
    for size in sizes:
        made[STUDIES / "trial" / size["size"] / COMPARISON] = json.dumps(comparison)
    made[STUDIES / "trial" / "profile.yaml"] = "sizes: {s: {}, m: {}, l: {}, xxl: {}}"
    return made


def test_each_frozen_size_has_a_line_for_what_was_declared() -> None:
    text = headline(files(planted(-0.05, -0.02)[:3]).get)
    lines = [line for line in text.splitlines() if line.startswith("| `trial`")]
    assert lines[0] == (
        "| `trial` | s | 300,000 | 10,000,000 | `ncn` | -0.0321 [-0.0456, -0.0186] | 0.012 |"
    )
    assert len(lines) == 3
    assert "`trial`, by size: ncn: the difference to the baseline widens" in text
    assert "`trial`: not run yet: xxl." in text
    assert "Every arm, and what is said of each size: [trial](studies/trial/result.md)." in text


def test_one_size_says_nothing_of_size_and_no_study_nothing_at_all() -> None:
    assert "by size" not in headline(files(planted(-0.05)[:1]).get)
    assert headline({}.get) == NOTHING
    assert headline({SCALING: "{}"}.get) == NOTHING
