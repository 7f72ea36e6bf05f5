"""Scoring: the loss of each validation sequence, what simple counts reach, and the future leak."""

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
def score_sequences(
    model: LanguageModel,
    rows: AnyRows,
    batch_size: int,
    salience: Salience | None = None,
    description: str = "evaluate",
) -> NDArray[np.float64]:
    """Mean cross-entropy of each row [N, T + 1] in nats a token, in fp32: [N]."""
    device = next(model.parameters()).device
    model.eval()
    losses = []
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, desc=description, unit="batch", disable=None):
        tokens, targets, conditions = split_rows(rows[start : start + batch_size], device)
        token_losses = model.token_losses(tokens, targets, salience, conditions)
        losses.append(token_losses.double().mean(dim=1).cpu().numpy())
    return np.concatenate(losses)


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
