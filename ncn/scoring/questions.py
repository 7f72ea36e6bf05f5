"""The preprint's further claims about a trained model, each asked as one measurement.

scores.json has them under `questions`; what a model cannot be asked is absent. Losses are in nats a
token, and those of a model trained with global pooling are of its causal pooling, so that none sees
the future; intervals [value, low, high] are 95 % over ROWS rows.

    loss               mean over all scored rows
    loss_by_position   the same over each eighth of the row, [8]
    calibration        see `ncn.scoring.calibration`
    tonic, refresh, word_order, sharpest, traded   see `ncn.scoring.interventions`
    signals            see `ncn.scoring.signal_shape`
    shared_by_layer    r^2 of ln gain and ln gate, by layer from 1
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncn.model import LanguageModel
from ncn.model.inputs import AnyRows
from ncn.scoring.asked import asked_of
from ncn.scoring.calibration import calibration
from ncn.scoring.interventions import refresh, sharpest, tonic, traded, word_order
from ncn.scoring.signal_shape import shared_by, signal_shape
from ncn.statistics.scores import COLUMNS, language_model

ROWS = 32
FEW = 8  # rows on which the attention weights are read: [N, H, T, T] a layer
PARTS = 8  # of a row


def questions(
    model: LanguageModel, rows: AnyRows, losses: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """All that this model can be asked.

    Args:
        model: in evaluation mode.
        rows: [N, T + 1], at least two.
        losses: of all targets [N, T] by column, see `ncn.statistics.scores`.
    """
    asked = asked_of(model, rows, ROWS)
    forms = [form for form, column in COLUMNS.items() if column in losses]
    scored = losses[COLUMNS[language_model(forms)]]
    own = asked.row_losses()
    found: dict[str, Any] = {
        "loss": float(scored.mean(dtype=np.float64)),
        "loss_by_position": loss_by_position(scored),
        "calibration": calibration(asked),
        "tonic": tonic(asked, own),
        "refresh": refresh(asked, own),
    }
    if signals := asked.signals():
        found["signals"] = signal_shape(signals, asked.tokens.cpu().numpy())
        found["word_order"] = word_order(asked)
        settings = model.config.control
        settable = settings is not None and not settings.by_layer
        if settable and "precision" in signals:
            found["sharpest"] = sharpest(asked.few(FEW))
        if both := {"gain", "ffn_gate"} <= set(signals):
            shared = shared_by(signals["gain"], signals["ffn_gate"], model.config.n_layers)
            found["shared_by_layer"] = shared
        if settable and both:
            found["traded"] = traded(asked, own)
    return {name: each for name, each in found.items() if each is not None}


def loss_by_position(losses: NDArray[np.float32]) -> list[float]:
    """The mean loss over each eighth of the row, from losses [N, T]: nats a token, [8]."""
    by_position = losses.mean(axis=0, dtype=np.float64)
    return [
        float(part.mean()) for part in np.array_split(by_position, min(PARTS, len(by_position)))
    ]
