"""The log of the published run: how its steps are counted, and the penalty that it shows."""

from pathlib import Path
from typing import Any

import numpy as np

from ncn.common.files import as_written
from ncn.common.tsv import read_tsv
from ncn.published.text import PUBLISHED_CONTEXT_LENGTH

PUBLISHED_WARMUP_STEPS = 100
PUBLISHED_SEQUENCES = 64  # a step: micro_batch_size x grad_accum_steps, 16 x 4
PUBLISHED_TOKENS_PER_STEP = PUBLISHED_SEQUENCES * PUBLISHED_CONTEXT_LENGTH
# Of a control network whose outputs are all 0: 0.01 ((ln 2 + 0.01 - 1)^2 + (0.5 - 1)^2).
PENALTY_AT_ZERO = 0.01 * ((np.log(2) - 0.99) ** 2 + 0.25)
# Of untrained networks of the published form, over random starts.
UNTRAINED_PENALTIES = (0.0032, 0.0036)
PENALTY_DIGIT = 1e-4  # the last that the published log shows


def published_penalty(path: Path) -> dict[str, Any]:
    """The logged homeostatic penalty (column reg) beside those of untrained control networks.

    Returns:
        points, low, high: of the log. at_zero: of a network at z = 0. untrained: the range over
        random starts. points_outside: lines outside that range by more than half the last digit.

    Raises:
        InputError: the file is missing, or a penalty in it is missing or no number.
    """
    rows = read_tsv(path)
    with as_written(path):
        penalty = np.array([float(row["reg"]) for row in rows])
    low, high = UNTRAINED_PENALTIES
    outside = (penalty < low - PENALTY_DIGIT / 2) | (penalty > high + PENALTY_DIGIT / 2)
    return {
        "points": len(penalty),
        "low": float(penalty.min()),
        "high": float(penalty.max()),
        "at_zero": float(PENALTY_AT_ZERO),
        "untrained": [low, high],
        "points_outside": int(outside.sum()),
    }
