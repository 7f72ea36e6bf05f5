"""What a loss spike is: the one definition, for steps as they are trained and for logged series."""

from collections.abc import Sequence

import numpy as np

STEPS = 100  # a loss is compared with those of so many steps before it,
MINIMUM = 20  # of so many at least,
DEVIATIONS = 6.0  # and is a spike above their median by so many robust standard deviations


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Whether a step's loss stands out from those of the steps before it.

    loss > median + 6 * 1.4826 * median |loss_i - median|; the second factor makes the last one the
    standard deviation where the losses are normally distributed.
    """
    if len(before) < MINIMUM:
        return False
    median = np.median(before)
    deviation = 1.4826 * np.median(np.abs(np.asarray(before) - median))
    return bool(loss > median + DEVIATIONS * deviation)


def count_spikes(losses: Sequence[float]) -> int:
    """How many of a series of losses are spikes."""
    return sum(is_spike(loss, losses[max(0, n - STEPS) : n]) for n, loss in enumerate(losses))
