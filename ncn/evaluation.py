"""Scoring: the loss of each validation sequence, what simple counts reach, and the future leak."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ncn.config import Salience
from ncn.corpus import Rows
from ncn.model import LanguageModel
from ncn.rows import AnyRows, split_rows

COUNT_ROWS = 1 << 14  # training rows counted at once
# Weight of the unigram prior in the bigram model, in counts: p(b|a) = (n_ab + k p_b) / (n_a + k).
PRIOR_COUNTS = 10.0


def choose_sequences(n_rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """The row numbers to score, ascending: `wanted` drawn by seed, or all there are."""
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
    return np.sort(order[:wanted].numpy())


@torch.inference_mode()
def score_tokens(
    model: LanguageModel,
    rows: AnyRows,
    batch_size: int,
    salience: Salience | None = None,
    description: str = "evaluate",
) -> NDArray[np.float32]:
    """The cross-entropy of each target of rows [N, T + 1] in nats, in fp32: [N, T]."""
    device = next(model.parameters()).device
    model.eval()
    losses = np.empty((len(rows), rows.shape[1] - 1), np.float32)
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, desc=description, unit="batch", disable=None):
        tokens, targets, conditions = split_rows(rows[start : start + batch_size], device)
        token_losses = model.token_losses(tokens, targets, salience, conditions)
        losses[start : start + batch_size] = token_losses.cpu().numpy()
    return losses


def clusters_of(rows: Rows, split_unit: str, end_of_text: int) -> NDArray[np.int64]:
    """What each target of the validation rows [N, T + 1] belongs to: [N, T], the same = related.

    Losses within a story are related, so an interval must resample stories, not tokens or rows.
    Under `story` and `tail` the rows are one stream, in order: a target's story is the number of
    ends of text before it, and a story goes on from row to row. Under `sequence` the rows were
    drawn from all over the corpus, which of them were neighbours is not known, and each row is
    taken for itself.
    """
    if split_unit == "sequence":
        return np.broadcast_to(np.arange(len(rows))[:, None], (len(rows), rows.shape[1] - 1))
    ends = np.asarray(rows[:, 1:] == end_of_text)
    return (ends.cumsum().reshape(ends.shape) - ends).astype(np.int64)


def mean_by(
    kind: str, groups: NDArray[np.int64], losses: Mapping[str, NDArray[np.float32]]
) -> list[dict[str, object]]:
    """One row a group of targets: its number (column `kind`), tokens, and the mean of each loss.

    Args:
        kind: what a group is.
        groups: [N, T], of each target.
        losses: by column, each [N, T].
    """
    numbers, place, tokens = np.unique(groups, return_inverse=True, return_counts=True)
    columns: dict[str, list[object]] = {kind: numbers.tolist(), "tokens": tokens.tolist()}
    for name, values in losses.items():
        sums = np.bincount(place.ravel(), values.ravel().astype(np.float64))
        columns[name] = (sums / tokens).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Yardsticks(NamedTuple):
    """Cross-entropy of the scored rows under counts of the training part, nats a token."""

    uniform: float
    unigram: float
    bigram: float


def yardsticks(train: Rows, scored: Rows, vocab_size: int) -> Yardsticks:
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


@torch.inference_mode()
def future_leak(model: LanguageModel, rows: AnyRows, seed: int) -> float:
    """Largest change of any logit before position t when the tokens from t on are replaced.

    Replaced by random tokens and by another row's, at a quarter, a half, three quarters and the
    last position. 0 for a language model; a model that sees the future has no perplexity.

    Args:
        model: in evaluation mode.
        rows: [N, T + 1], at least two.
        seed: of the random tokens.
    """
    device = next(model.parameters()).device
    tokens, _, conditions = split_rows(rows, device)
    length = tokens.shape[1]
    random = torch.randint(
        model.config.vocab_size, tokens.shape, generator=torch.Generator().manual_seed(seed)
    ).to(device)
    before = model(tokens, conditions=conditions)
    leak = 0.0
    for cut in (length // 4, length // 2, 3 * length // 4, length - 1):
        for other in (random, tokens.roll(1, dims=0)):
            changed = torch.cat([tokens[:, :cut], other[:, cut:]], dim=1)
            after = model(changed, conditions=conditions)
            leak = max(leak, (after - before)[:, :cut].abs().max().item())
    return leak
