"""How much of what is scored stood in the training part already, word for word."""

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ncn.corpus.rows import Rows, TokenRows

CHUNK = 4096  # training rows hashed at once: about 5 MB a 128 tokens
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no token's part is lost


def seen_in_training(scored: Rows, training: TokenRows, n: int) -> NDArray[np.float64]:
    """Of each target, whether it and the n - 1 tokens before it stand in the training part.

    Memory grows with what is scored, not with the training part, which is read once, as one stream:
    its rows follow each other (`ncn.corpus.encode`), or, under `split.unit: sequence`, do not, and
    then what lies across two of them is no text but will hardly be met either.

    Args:
        scored: [N, T + 1].
        training: [M, T + 1].
        n: tokens, at least 2 and at most T + 1.

    Returns:
        [N, T], 1 where it does, 0 where not, NaN where the row has fewer tokens before the target.
    """
    wanted, place = np.unique(_hashes(scored, n), return_inverse=True)
    found = np.zeros(len(wanted), bool)
    starts = range(0, len(training), CHUNK)
    for start in tqdm(starts, desc="overlap", unit="chunk", disable=None):
        chunk = training[start : start + CHUNK]
        following = training[start + CHUNK : start + CHUNK + 1][:, : n - 1].ravel()
        behind = following if len(following) else chunk[-1:, -1]
        stream = np.concatenate([chunk[:, :-1].ravel(), behind])
        if len(stream) >= n:
            hashes = np.unique(_hashes(stream[None], n))
            at = np.searchsorted(wanted, hashes).clip(max=len(wanted) - 1)
            found[at[wanted[at] == hashes]] = True
    seen = np.full((len(scored), scored.shape[1] - 1), np.nan)
    seen[:, n - 2 :] = found[place].reshape(len(scored), -1)
    return seen


def _hashes(rows: Rows, n: int) -> NDArray[np.uint64]:
    """Of each n tokens in a row [N, L]: [N, L - n + 1], mod 2^64; of two texts that differ equal
    once in 10^19."""
    length = rows.shape[1] - n + 1
    hashes = np.zeros((len(rows), length), np.uint64)
    for place in range(n):
        hashes = hashes * FACTOR + rows[:, place : place + length] + np.uint64(1)
        hashes ^= hashes >> np.uint64(29)  # or sums of small ids would stay near each other
    return hashes
