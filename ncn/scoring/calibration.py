"""Whether a model is as sure as it is right."""

import numpy as np
import torch
from numpy.typing import NDArray

from ncn.scoring.asked import Asked
from ncn.statistics.interval import Floats

BINS = 15  # of equal width
TOKENS = 2048  # whose logits are held at once


def calibration_error(confidence: Floats, correct: NDArray[np.bool_]) -> float:
    """Expected calibration error: sum over bins b of n_b / n |accuracy_b - confidence_b|.

    Bins are of the confidence, BINS of equal width. 0 where of the predictions made with
    probability p a share p is right; at most 1. It has a small positive bias, alike for models
    scored on the same tokens. Source: Guo et al., ICML 2017.

    Args:
        confidence: the probability of the most probable token, [n].
        correct: whether it came, [n].
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


@torch.inference_mode()
def calibration(asked: Asked) -> dict[str, float]:
    """Of the next-token probabilities: error (see `calibration_error`), confidence, accuracy."""
    confidence, correct = [], []
    size = max(1, TOKENS // asked.tokens.shape[1])
    for start in range(0, len(asked.tokens), size):
        piece = slice(start, start + size)
        given = asked.conditions.take(piece)
        logits = asked.model(asked.tokens[piece], asked.mode, conditions=given)
        highest, guess = logits.float().max(-1)
        log_p = highest - logits.float().logsumexp(-1)
        confidence.append(log_p.exp().flatten().double().cpu().numpy())
        correct.append((guess == asked.targets[piece]).flatten().cpu().numpy())
    sure, right = np.concatenate(confidence), np.concatenate(correct)
    return {
        "error": calibration_error(sure, right),
        "confidence": float(sure.mean()),
        "accuracy": float(right.mean()),
    }
