"""The published run as this project refers to it: its figures, and what they depend on."""

from collections.abc import Mapping, Sequence

import numpy as np

from ncn.settings import Params

# Run 1 of the preprint's repository: its figures, and the settings without which they are no
# reference for another run's.
PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
PUBLISHED_SETTINGS = {
    "data.source": "tinystories-v2",
    "tokenizer.vocabulary": "gpt2",
    "model.d_model": 256,
    "model.n_layers": 6,
    "model.n_heads": 8,
    "model.d_ff": 1024,
    "model.context_length": 512,
    "train.epochs": 1,
}
PUBLISHED_SIGNALS = ("gain", "precision", "ffn_gate")  # preprint table 1
GAIN_RANGE = (0.99, 1.05)  # in which all gains are said to stay
PRECISION_CLAMP = 4.0  # above which fp16 is said to fail
PLAIN_PLATEAU = (5.5, 6.0)  # perplexity at which plain transformers of the class are said to stop


def differences_to_published(params: Params) -> list[str]:
    """The settings that make this run another experiment than the published one, in words."""
    differences = []
    for key, theirs in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        if (ours := getattr(getattr(params, section), name)) != theirs:
            differences.append(f"{key} is {ours}, published {theirs}")
    return differences


# Of a control network whose outputs are all 0: 0.01 ((ln 2 + 0.01 - 1)^2 + (0.5 - 1)^2).
PENALTY_AT_ZERO = 0.01 * ((np.log(2) - 0.99) ** 2 + 0.25)
PENALTY_DIGIT = 1e-4  # the last that the published log shows


def published_penalty(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """The logged homeostatic penalty (column reg) beside that of a control network at z = 0."""
    penalty = np.array([float(row["reg"]) for row in rows])
    return {
        "points": len(penalty),
        "low": float(penalty.min()),
        "high": float(penalty.max()),
        "at_zero": float(PENALTY_AT_ZERO),
        "points_away": int((np.abs(penalty - PENALTY_AT_ZERO) > PENALTY_DIGIT).sum()),
    }
