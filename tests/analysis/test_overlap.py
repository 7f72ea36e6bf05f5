"""What of the scored text stood in the training part: against looking it up token by token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncn.analysis import overlap
from ncn.analysis.overlap import seen_in_training
from ncn.corpus.rows import Rows


def rows_of(stream: np.ndarray, context: int) -> Rows:
    """Rows as the corpus has them: the last token of each is the first of the next."""
    n = (len(stream) - 1) // context
    return np.stack([stream[i * context : (i + 1) * context + 1] for i in range(n)])


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 4))
def test_a_target_was_seen_where_its_run_of_tokens_stands_in_the_training_stream(
    draw: int, n: int, chunk: int
) -> None:
    chance = np.random.default_rng(draw)
    stream = chance.integers(0, 3, 61).astype(np.uint16)
    scored = chance.integers(0, 3, (4, 9)).astype(np.uint16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "CHUNK", chunk)
        seen = seen_in_training(scored, rows_of(stream, 10), n)
    there = {tuple(stream[i : i + n]) for i in range(len(stream) - n + 1)}
    for row, marks in zip(scored, seen, strict=True):
        for target, mark in enumerate(marks, 1):
            run = tuple(row[target - n + 1 : target + 1]) if target >= n - 1 else None
            assert np.isnan(mark) if run is None else mark == (run in there)
