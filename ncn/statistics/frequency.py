"""Which tokens are common."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COMMON_SHARE = 0.5  # of all tokens: what the common types make up


def common_types(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """The fewest types that make up COMMON_SHARE of all tokens, as a mask [V].

    Args:
        counts: [V], how often each type occurs; at least one occurs.
    """
    order = np.argsort(-counts, kind="stable")
    needed = int(np.searchsorted(np.cumsum(counts[order]), COMMON_SHARE * counts.sum())) + 1
    common = np.zeros(len(counts), np.bool_)
    common[order[:needed]] = True
    return common
