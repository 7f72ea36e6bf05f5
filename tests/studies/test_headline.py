"""What the README says of studies: only what is frozen, and which sizes are not."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncn.analysis.adaptation import adaptation
from ncn.analysis.scaling import in_words, scaling
from ncn.common.paths import ADAPTATION, COMPARISON, SCALING, STUDIES, SUMMARY
from ncn.studies.headline import NOTHING, headline
from ncn.studies.plan import WHOLE
from tests.analysis.test_adaptation import run
from tests.analysis.test_scaling import planted


def files(sizes: list[dict[str, Any]], seeds: Sequence[int] = (1, 2)) -> dict[Path, str]:
    """A study of which these sizes are frozen, and one, xxl, that is only planned."""
    found = scaling(sizes, 1)
    made = {SCALING: json.dumps({"trial": found | {"in_words": in_words(found)}})}
    lower = {"delta_loss": [-0.0321, -0.0456, -0.0186], "delta_ppl": [-0.3, -0.4, -0.2]}
    higher = {key: [-value, -high, -low] for key, (value, low, high) in lower.items()}
    open_ = {"delta_loss": [0.01, -0.02, 0.03], "delta_ppl": [0.1, -0.2, 0.3]}
    for size, other in zip(sizes, itertools.cycle([open_, higher, open_]), strict=False):
        each = lower | {"p_holm": 0.0123, "to_reference": other | {"p_holm": 0.02}}
        comparison = {
            "primary": "ncn", "reference": "static", "seeds": seeds,
            "differences": {"other": each, "ncn": each},
            "arms": {"ncn": {"scores": {"causal": {}}}},
        }  # fmt: skip
        folder = STUDIES / "trial" / size["size"]
        made[folder / COMPARISON] = json.dumps(comparison)
        made[folder / SUMMARY] = json.dumps({"ncn": {"future_leak": 0.0}})
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
    assert "`trial`, by size: 18 M parameters are 6.0 times the largest size here" in text
    assert "baseline: its loss" not in text
    assert "`trial`: not run yet: xxl." in text
    assert "Every arm, and what is said of each size: [trial](studies/trial/result.md)." in text


def test_one_size_says_nothing_of_size_and_no_study_nothing_at_all() -> None:
    assert "by size" not in headline(files(planted(-0.05)[:1]).get)
    assert headline({}.get) == NOTHING
    assert headline({SCALING: "{}"}.get) == NOTHING


def test_it_begins_with_what_was_found_beside_the_baseline_and_beside_the_reference() -> None:
    sizes = planted(-0.05)[:3]
    first, *_ = headline(files(sizes).get).splitlines()
    assert first == (
        "- `trial`, loss of `ncn`: beside `baseline` lower at s, m and l; beside `static` higher at"
        " m, not distinguishable at s and l."
    )
    first, *_ = headline(files(sizes, seeds=(1,)).get).splitlines()
    assert first == (
        "- `trial`, loss of `ncn`: beside `baseline` not distinguishable at s, m and l; beside"
        " `static` not distinguishable at s, m and l."
    )


def test_a_second_training_is_told_and_a_study_without_sizes_names_none() -> None:
    [size] = planted(-0.05)[:1]
    made = files([size | {"size": WHOLE}])
    runs = [run("baseline", "full", seed, 0.5, 1.5) for seed in (1, 2, 3)]
    runs += [run("ncn", "full", seed, 0.4 + 0.01 * seed, 1.5) for seed in (1, 2, 3)]
    made[STUDIES / "trial" / WHOLE / ADAPTATION] = json.dumps(adaptation(runs))
    first, second, *_ = headline(made.get).splitlines()
    assert first == (
        "- `trial`, loss of `ncn`: beside `baseline` lower; beside `static` not distinguishable."
    )
    assert second == (
        "- `trial`, what `ncn` forgets of its text under a second training, beside `baseline`:"
        " lower (-0.0800 nats a token, 95 % interval -0.1048 to -0.0552)."
    )
    one_seed = adaptation([each for each in runs if each["seed"] == 1])
    made[STUDIES / "trial" / WHOLE / ADAPTATION] = json.dumps(one_seed)
    assert "second training" not in headline(made.get)
