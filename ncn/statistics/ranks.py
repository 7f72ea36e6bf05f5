"""Rank correlations of measurements on rows of tokens, with intervals over rows."""

import numpy as np
from numpy.typing import NDArray

from ncn.statistics.interval import LEVEL, Floats

RESAMPLES = 999


def centred_ranks(values: Floats) -> Floats:
    """Ranks of all values, ties shared, around 0; of the values' shape."""
    ranks = shared_ranks(values)
    return ranks - ranks.mean()


def shared_ranks(values: Floats) -> Floats:
    """Ranks from 1 of all values, of their shape; equal ones share the mean of theirs.

    As scipy.stats.rankdata, whose module takes a second to import.
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum()  # the rank of the last of each
    shared: Floats = (last - (count - 1) / 2)[place]
    return shared.reshape(values.shape)


def rank_correlation(x: Floats, y: Floats, seed: int, given: Floats | None = None) -> list[float]:
    """Spearman's rho of x and y [N, T], `given` controlled for if there is one: [value, low, high].

    The 95 % interval is a percentile bootstrap over the N rows, with ranks among all tokens. A
    partial correlation is that of the ranks, linear in the ranks of `given`.
    """
    series = [centred_ranks(each) for each in ((x, y) if given is None else (x, y, given))]
    size = len(series)
    products = np.array([[(a * b).sum(axis=1) for a in series] for b in series])  # [k, k, N]
    sums = np.array([a.sum(axis=1) for a in series])  # [k, N]
    weights = np.concatenate([np.ones((1, x.shape[0])), row_weights(x.shape[0], seed)])
    mean = (sums @ weights.T) / (x.shape[1] * weights.sum(axis=1))  # [k, R]
    second = (products @ weights.T) / (x.shape[1] * weights.sum(axis=1))  # [k, k, R]
    covariance = second - mean[:, None] * mean[None, :]
    scale = np.sqrt(np.maximum(covariance[range(size), range(size)], 1e-12))
    r = covariance / (scale[:, None] * scale[None, :])
    if given is None:
        rho = r[0, 1]
    else:
        left = np.maximum((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2), 1e-12)
        rho = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(left)
    return [float(rho[0]), *percentiles(rho[1:])]


def row_weights(n_rows: int, seed: int) -> NDArray[np.int64]:
    """How often each row is drawn in each resample, [RESAMPLES, N]."""
    share = np.full(n_rows, 1 / n_rows)
    return np.random.default_rng(seed).multinomial(n_rows, share, RESAMPLES)


def percentiles(drawn: Floats) -> list[float]:
    """The ends of the 95 % interval of resampled values."""
    return [float(each) for each in np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])]
