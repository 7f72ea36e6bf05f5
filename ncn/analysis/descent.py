"""How a training loss comes down: how high it is at first, and how much it jumps later."""

from collections.abc import Mapping, Sequence

import numpy as np

from ncn.statistics.rounding import rounded

FIRST_STEPS = 200


def descent(rows: Sequence[Mapping[str, str]]) -> dict[str, float | None]:
    """Two measures of a training log's losses, nats a token.

    Returns:
        first_loss: mean of the logged losses up to step FIRST_STEPS.
        roughness: variance of the change from one logged loss to the next, after warm-up, nats^2;
            warm-up ends at the first row with the highest learning rate. Each null where the log
            has too few finite losses, the last also where it has no learning rate.
    """
    losses = np.array([float(row.get("loss") or "nan") for row in rows])
    steps = np.array([float(row.get("step") or "nan") for row in rows])
    first = losses[(steps <= FIRST_STEPS) & np.isfinite(losses)]
    found: dict[str, float | None] = {"first_loss": float(first.mean()) if len(first) else None}
    rates = np.array([float(row.get("lr") or "nan") for row in rows])
    found["roughness"] = None
    if np.isfinite(rates).any():
        later = losses[int(np.nanargmax(rates)) :]
        later = later[np.isfinite(later)]
        if len(later) > 2:
            found["roughness"] = float(np.var(np.diff(later), ddof=1))
    checked: dict[str, float | None] = rounded(found)
    return checked
