"""Rows on their way to the model: tokens, targets, and what the model is told of each.

A row's task is the text file that it begins in, known before its first token. Its sliders are
measured on its own text, targets included: they are told in training, so that the network learns
what they mean, and asked for when text is generated; scored is the neutral 0, the training mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ncn.common.errors import InputError
from ncn.control.network import ControlNetwork
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import Index, Rows, TokenRows, open_rows, open_tasks
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer
from ncn.model import LanguageModel
from ncn.settings import Slider

MEASURED_ROWS = 1 << 14  # at once
QUOTATION_MARKS = tuple(mark.encode() for mark in ('"', "\u201c", "\u201d"))  # straight and curly


@dataclass(frozen=True, eq=False)
class ConditionedRows:
    """Rows [N, T + 1], and what is known of each."""

    tokens: TokenRows
    conditions: Conditions = NO_CONDITIONS

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, chosen: Index) -> "ConditionedRows":
        return ConditionedRows(self.tokens[chosen], self.conditions.take(chosen))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tokens: (N, T + 1)."""
        return self.tokens.shape


AnyRows = Rows | ConditionedRows


def split_rows(rows: AnyRows, device: torch.device) -> tuple[Tensor, Tensor, Conditions]:
    """Rows [B, T + 1] -> tokens [B, T] and targets [B, T], int64 on `device`, and conditions."""
    told = rows if isinstance(rows, ConditionedRows) else ConditionedRows(rows)
    both = torch.from_numpy(told.tokens[:].astype(np.int64)).to(device)
    return both[:, :-1], both[:, 1:], told.conditions.to(device)


def training_rows(directory: str | Path, model: LanguageModel) -> ConditionedRows:
    """The rows to train `model` on. It keeps the mean and spread of its sliders.

    Raises:
        InputError: the tokens are damaged, there are more text files than `ncn.tasks`, or a slider
            measures the same in every row.
    """
    rows, sliders = open_rows(directory, "train"), None
    network, settings = model.control, model.config.control
    if isinstance(network, ControlNetwork) and settings and (names := settings.sliders):
        values = measured(rows, names, load_tokenizer(Path(directory) / "tokenizer"))
        mean, sd = values.mean(0), values.std(0)
        for name, spread, value in zip(names, sd, mean, strict=True):
            if spread == 0:
                raise InputError(f"ncn.sliders: {name} is {value:.4g} in every training row")
        network.slider_mean.copy_(torch.from_numpy(mean))
        network.slider_sd.copy_(torch.from_numpy(sd))
        sliders = torch.from_numpy((values - mean) / sd).float()
    return ConditionedRows(rows, Conditions(_tasks(directory, "train", model), sliders))


def validation_rows(
    directory: str | Path, model: LanguageModel, part: str = "val"
) -> ConditionedRows:
    """The rows of `part` to score `model` on, the sliders neutral.

    Raises:
        InputError: the tokens are damaged, or there are more text files than `ncn.tasks`.
    """
    return ConditionedRows(open_rows(directory, part), Conditions(_tasks(directory, part, model)))


def measured(
    rows: TokenRows, sliders: Sequence[Slider], tokenizer: Tokenizer
) -> NDArray[np.float64]:
    """What each slider measures of each row, [N, n].

    dialogue: the share of tokens with a quotation mark in them.
    token_bytes: the mean number of bytes a token, higher where words are common.
    """
    pieces = tokenizer.token_bytes()
    of_token = {
        "dialogue": [any(mark in piece for mark in QUOTATION_MARKS) for piece in pieces],
        "token_bytes": [len(piece) for piece in pieces],
    }
    table = np.array([of_token[name] for name in sliders], dtype=np.float64)  # [n, V]
    values = np.empty((len(rows), len(sliders)))
    starts = range(0, len(rows), MEASURED_ROWS)
    for start in tqdm(starts, desc="measure sliders", disable=None):
        piece = slice(start, start + MEASURED_ROWS)
        values[piece] = np.stack([of[rows[piece]].mean(1) for of in table], axis=1)
    return values


def _tasks(directory: str | Path, part: str, model: LanguageModel) -> Tensor | None:
    """The task of each row, where the model is told."""
    if not (allowed := model.config.tasks):
        return None
    if (found := read_meta(directory).tasks) > allowed:
        raise InputError(
            f"{'model.task_tokens' if model.config.task_tokens else 'ncn.tasks'} {allowed}:"
            f" {directory} was made of {found} text files, one task each;"
            f" allowed are {found} and more, or 0 for no task embedding"
        )
    return torch.from_numpy(open_tasks(directory, part)[:].astype(np.int64))
