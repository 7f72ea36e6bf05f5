"""What the signals of a trained model are as numbers: how many directions, of what, how often."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncn.signals import SIGNALS
from ncn.statistics.interval import Floats

NEAR = 0.05  # of neutral: a signal as close to it leaves the branch as it is


def signal_shape(signals: Mapping[str, Floats], tokens: NDArray[np.int64]) -> dict[str, Any]:
    """All that can be said of signals [N, T, columns] on tokens [N, T]; see each function.

    Returns:
        directions: {participation_ratio, columns}. identity_share, row_share, range, near_neutral:
        by signal. near_neutral_of_all: of all signals together.
    """
    flat = {name: values.reshape(tokens.size, -1) for name, values in signals.items()}
    rows = np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)
    near = {name: np.abs(values - SIGNALS[name].neutral) <= NEAR for name, values in flat.items()}
    together = np.concatenate(list(flat.values()), axis=1)
    return {
        "directions": {
            "participation_ratio": participation_ratio(together),
            "columns": together.shape[1],
        },
        "identity_share": {name: share_of(each, tokens.ravel()) for name, each in flat.items()},
        "row_share": {name: share_of(each, rows.ravel()) for name, each in flat.items()},
        "range": {name: [float(each.min()), float(each.max())] for name, each in flat.items()},
        "near_neutral": {name: float(each.mean()) for name, each in near.items()},
        "near_neutral_of_all": float(np.mean(np.concatenate(list(near.values()), axis=1))),
    }


def participation_ratio(values: Floats) -> float | None:
    """Over how many directions the variance of values [n, C] spreads: (tr S)^2 / tr S^2.

    S is their covariance. C where all directions vary alike, 1 where all lie on a line; None where
    nothing varies, as with static control.
    """
    if not np.ptp(values, axis=0).any():
        return None
    centred = values - values.mean(axis=0)
    covariance = centred.T @ centred
    return float(np.trace(covariance) ** 2 / np.square(covariance).sum())


def share_of(values: Floats, groups: NDArray[np.int64]) -> float | None:
    """The share of the variance of values [n, C] that their group [n] explains.

    1 - (mean square within groups) / (variance of all), both without bias, summed over columns, so
    that the many groups of one value count as no explanation: 0 for groups drawn at random (chance
    may take it slightly below), 1 where a group decides the value. None where nothing varies or no
    group has two.
    """
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    freedom = len(groups) - len(counts)
    if not freedom or not np.ptp(values, axis=0).any():
        return None
    centred = (values - values.mean(axis=0))[order]
    means = np.add.reduceat(centred, starts, axis=0) / counts[:, None]
    within = np.square(centred).sum() - (counts[:, None] * np.square(means)).sum()
    return float(1 - within / freedom / (np.square(centred).sum() / (len(groups) - 1)))


def shared_by(gain: Floats, gate: Floats, n_layers: int) -> dict[str, float]:
    """r^2 of ln g and ln gamma over tokens, by layer from 1: what of one the other tells.

    Args:
        gain, gate: [N, T, columns]; of columns within a layer, the mean.
        n_layers: L.

    Layers in which one of the two does not vary are left out.
    """
    series = [
        np.log(np.maximum(each.reshape(-1, n_layers, each.shape[2] // n_layers).mean(2), 1e-12))
        for each in (gain, gate)
    ]
    shared: dict[str, float] = {}
    for layer in range(n_layers):
        both = [each[:, layer] for each in series]
        if all(np.ptp(each) > 0 for each in both):
            shared[str(layer + 1)] = float(np.corrcoef(*both)[0, 1] ** 2)
    return shared
