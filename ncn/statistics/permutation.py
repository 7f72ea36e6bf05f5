"""A value beside a null distribution."""

from collections.abc import Sequence

import numpy as np

from ncn.statistics.interval import Floats


def p_value(value: float, null: Sequence[float] | Floats) -> float:
    """The share of null values at least as large as `value`, itself counted among them."""
    return (1 + int(np.sum(np.asarray(null) >= value))) / (1 + len(null))


def against(value: float, null: Floats) -> dict[str, float | None]:
    """A value beside a null distribution: its mean and sd, z, and a two-sided p."""
    middle, sd = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else 0.0
    return {
        "null_mean": middle,
        "null_sd": sd,
        "z": (value - middle) / sd if sd > 0 else None,
        "p": p_value(abs(value - middle), np.abs(null - middle)),
    }
