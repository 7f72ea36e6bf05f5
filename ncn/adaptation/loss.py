"""The loss of a model as the language model that it is, however it was trained."""

import numpy as np

from ncn.model import LanguageModel
from ncn.model.inputs import AnyRows
from ncn.scoring.losses import mode_of, score_tokens


def loss_on(model: LanguageModel, rows: AnyRows, batch_size: int, description: str) -> float:
    """The mean cross-entropy of rows [N, T + 1] in nats a token; where salience was trained with
    the whole window in view, it is pooled over the history, as `evaluate` scores it.
    """
    losses = score_tokens(model, rows, batch_size, mode_of(model), description)
    return float(losses.mean(dtype=np.float64))
