"""What favourable runs answer to the questions of the evaluate stage, and how they come down."""

from typing import Any

from ncn.common.paths import run_name

# Arms that some claims are about, beside those of the published experiment; none is of its form.
RIVALS: dict[str, dict[str, Any]] = {
    "static": {"controller": "static"},
    "zero_start": {"salience": "causal", "init": "zero"},
    "unclamped": {"salience": "causal", "precision_max": 32.0},
}
PLAIN = ("baseline", "static", "zero_start")  # what the others are to beat


def planted(arm: str) -> dict[str, Any]:
    """The answers of a run of an arm."""
    plain = arm in PLAIN
    loss = 1.7 if arm == "unclamped" else 1.6 if plain else 1.5
    early, late = (1.7, 1.5) if plain else (1.69, 1.3)
    signals = {
        "directions": {"participation_ratio": 9.0, "columns": 12},
        "identity_share": {"gain": 0.3, "precision": 0.2, "ffn_gate": None},
        "range": {"precision": [0.5, 9.5 if arm == "unclamped" else 3.0]},
        "near_neutral": {"gain": 0.9, "precision": 0.8, "ffn_gate": 0.7},
        "near_neutral_of_all": 0.8,
    }
    asked = {
        "tonic": [0.05, 0.04, 0.06],
        "refresh": {"8": [0.001, 0.0005, 0.002], "32": [0.002, 0.001, 0.003]},
        "word_order": {"swapped": 0.8, "replaced": 1.0, "ratio": [0.8, 0.7, 0.9]},
        "signals": signals,
        "shared_by_layer": {"1": 0.1, "2": 0.2, "4": 0.1},
        "traded": {"matched": [0.01, 0.005, 0.02], "alone": [0.02, 0.01, 0.03]},
        "sharpest": {"trained": 0.5, "at_clamp": 0.95},
    }
    return {
        "loss": loss,
        "loss_by_position": [early] * 4 + [late] * 4,
        "calibration": {"error": 0.05 if plain else 0.02, "confidence": 0.5, "accuracy": 0.5},
        **({} if arm == "baseline" else asked),
    }


def answered(evaluations: dict[str, Any]) -> dict[str, Any]:
    """Evaluations by run, with the answers."""
    for run, each in evaluations.items():
        each["questions"] = planted(run.rpartition("-")[0])
    return evaluations


def descended(curves: dict[str, Any]) -> dict[str, Any]:
    """Training curves by run, with how they come down."""
    for run, each in curves.items():
        plain = run.rpartition("-")[0] in PLAIN
        each["descent"] = {
            "first_loss": 5.5 if plain else 5.0,
            "roughness": 0.02 if plain else 0.01,
        }
        each["tokens_to_reach"] = {"4.0": 2000 if plain else 1000, "2.0": None}
    return curves


def runs_of(arm: str) -> list[str]:
    """The runs of an arm over two seeds."""
    return [run_name(arm, seed) for seed in (1, 2)]
