"""The loss of each validation sequence and story, the same ones for every arm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ncn.corpus.conditions import Conditions
from ncn.corpus.rows import TokenRows
from ncn.model import LanguageModel
from ncn.model.inputs import AnyRows, split_rows
from ncn.settings import Salience
from ncn.statistics.mean import mean_loss_over
from ncn.statistics.scores import language_model

COUNTED_ROWS = 1 << 14  # at once


class Scored(Protocol):
    """What is scored: a model of ours, or another that tells the loss of each token."""

    def eval(self) -> Any:
        """Put it into evaluation mode."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """They lie where its tokens have to be."""

    def token_losses(
        self, tokens: Tensor, targets: Tensor, salience: Salience | None, conditions: Conditions
    ) -> Tensor:
        """Cross-entropy of each target in nats, [B, T], from tokens and targets [B, T]."""


def forms_of(model: LanguageModel) -> dict[str, Salience | None]:
    """The forms in which a model is scored (`ncn.statistics.scores`), and how each pools."""
    forms: dict[str, Salience | None] = {"as_trained": None}
    control = model.config.control
    if control is None or model.control is None or model.control.pooling is None:
        return forms
    if control.salience == "global":
        forms["causal"] = "causal"
    if control.salience != "reactive":
        forms["reactive"] = "reactive"
    return forms


def mode_of(model: LanguageModel) -> Salience | None:
    """How the salience of a model is pooled where it is scored as a language model; None: as it was
    trained.
    """
    forms = forms_of(model)
    return forms[language_model(forms)]


@torch.inference_mode()
def score_tokens(
    model: Scored,
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


def clusters_of(
    rows: TokenRows, chosen: NDArray[np.int64], split_unit: str, end_of_text: int
) -> NDArray[np.int64]:
    """What each target of the `chosen` of the validation rows [N, T + 1] belongs to: [n, T].

    Losses within a story are related, so an interval must resample stories, not tokens or rows.
    Under `story` and `tail` the rows are one stream, in order: a target's story is the number of
    ends of text before it, and a story goes on from row to row. Under `sequence` the rows were
    drawn from all over the corpus, which of them were neighbours is not known, and each row is
    taken for itself.
    """
    if split_unit == "sequence":
        return np.broadcast_to(chosen[:, None], (len(chosen), rows.shape[1] - 1))
    of_row = [  # how many stories end in it
        (rows[start : start + COUNTED_ROWS][:, 1:] == end_of_text).sum(axis=1)
        for start in range(0, len(rows), COUNTED_ROWS)
    ]
    before = np.cumsum([0, *np.concatenate(of_row)])[chosen]
    ends = np.asarray(rows[chosen][:, 1:] == end_of_text)
    return (before[:, None] + ends.cumsum(axis=1) - ends).astype(np.int64)


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


def mean_over(by_cluster: Sequence[Mapping[str, Any]], column: str) -> float:
    """The mean of a loss a token, from what `mean_by` makes: as the comparison computes it."""
    tokens = np.array([row["tokens"] for row in by_cluster], np.float64)
    means = np.array([row[column] for row in by_cluster])
    return float(mean_loss_over(means * tokens, tokens))
