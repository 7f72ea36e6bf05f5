"""What counting reaches: the losses without context, and with one token of it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ncn.common.files import as_written, read_json
from ncn.common.nested import is_number
from ncn.common.paths import YARDSTICKS
from ncn.corpus.rows import Rows, TokenRows

COUNT_ROWS = 1 << 14  # training rows counted at once
# Weight of the unigram prior in the bigram model, in counts: p(b|a) = (n_ab + k p_b) / (n_a + k).
PRIOR_COUNTS = 10.0


class Yardsticks(NamedTuple):
    """Cross-entropy of the scored rows under counts of the training part, nats a token."""

    uniform: float
    unigram: float
    bigram: float


def read_yardsticks() -> Yardsticks:
    """What the stage `yardsticks` found.

    Raises:
        InputError: its file is missing, or not what the stage writes.
    """
    with as_written(YARDSTICKS):
        found = Yardsticks(**read_json(YARDSTICKS))
        if not all(map(is_number, found)):
            raise ValueError(f"{found} are no losses")
        return found


def yardsticks(train: TokenRows, scored: Rows, vocab_size: int) -> Yardsticks:
    """What a model without context, and with one token of it, reaches on the scored rows.

    Unigrams are add-one smoothed; bigrams fall back on them with a weight of PRIOR_COUNTS.
    Only the pairs that occur in `scored` are counted, so memory does not grow with `train`.

    Args:
        train: rows [N, T + 1] to count.
        scored: rows [M, T + 1] to score.
        vocab_size: V.
    """

    def pairs(rows: Rows) -> NDArray[np.int64]:
        wide = rows.astype(np.int64)
        return (wide[:, :-1] * vocab_size + wide[:, 1:]).ravel()

    scored_pairs = pairs(scored)
    distinct, occurrences = np.unique(scored_pairs, return_counts=True)
    pair_counts = np.zeros(len(distinct))
    context_counts = np.zeros(vocab_size)
    target_counts = np.ones(vocab_size)
    for start in tqdm(range(0, len(train), COUNT_ROWS), desc="count", disable=None):
        seen = pairs(train[start : start + COUNT_ROWS])
        places = np.searchsorted(distinct, seen)
        places[places == len(distinct)] = 0
        hits = places[distinct[places] == seen]
        pair_counts += np.bincount(hits, minlength=len(distinct))
        context_counts += np.bincount(seen // vocab_size, minlength=vocab_size)
        target_counts += np.bincount(seen % vocab_size, minlength=vocab_size)
    context, target = np.divmod(distinct, vocab_size)
    unigram = target_counts[target] / target_counts.sum()
    bigram = (pair_counts + PRIOR_COUNTS * unigram) / (context_counts[context] + PRIOR_COUNTS)
    weights = occurrences / occurrences.sum()
    return Yardsticks(
        uniform=float(np.log(vocab_size)),
        unigram=float(-weights @ np.log(unigram)),
        bigram=float(-weights @ np.log(bigram)),
    )
