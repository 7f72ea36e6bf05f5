"""The signals on given texts, trained beside untrained, by token and layer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncn.common.errors import InputError
from ncn.corpus.tokenizer import Tokenizer
from ncn.model import LanguageModel
from ncn.model.initialisation import initialise
from ncn.signals import SIGNALS


def layer_signals(signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each signal [B, T, L], in declared order; of one wider than a number a layer, the mean."""
    return {
        name: signals[name] if declared.width == "layer" else signals[name].mean(-1)
        for name, declared in SIGNALS.items()
        if name in signals
    }


class Scan(NamedTuple):
    """The signals of one model on one text: by name, each [T, L], see `layer_signals`."""

    tokens: list[str]
    signals: dict[str, NDArray[np.float32]]


def scan_text(model: LanguageModel, tokenizer: Tokenizer, text: str) -> Scan:
    """Read the signals of `model` on `text`.

    Raises:
        InputError: the text is longer than the model's context.
    """
    ids = tokenizer.encode(text)
    if len(ids) > model.config.context_length:
        raise InputError(
            f"brain_scan.texts: {text[:40]!r} has {len(ids)} tokens;"
            f" at most model.context_length {model.config.context_length}"
        )
    device = next(model.parameters()).device
    signals = layer_signals(model.signals(torch.tensor([ids], device=device)))
    return Scan(
        tokens=[tokenizer.decode([token]) for token in ids],
        signals={name: signal[0].cpu().numpy() for name, signal in signals.items()},
    )


def untrained(model: LanguageModel, seed: int) -> LanguageModel:
    """The control of a scan: the same network at its initialisation of `seed`."""
    fresh = LanguageModel(model.config)
    initialise(fresh, seed)
    return fresh.to(next(model.parameters()).device).eval()


def summarise_scan(scan: Scan) -> dict[str, Any]:
    """Per signal: mean, standard deviation, extremes, and the mean of each layer."""
    return {
        name: {
            "mean": float(values.mean(dtype=np.float64)),
            "sd": float(values.std(dtype=np.float64)),
            "min": float(values.min()),
            "max": float(values.max()),
            "layer_means": values.mean(axis=0, dtype=np.float64).tolist(),
        }
        for name, values in scan.signals.items()
    }


def scan_rows(scan: Scan, **labels: object) -> list[dict[str, object]]:
    """The scan in long form: one row a token, layer and signal."""
    return [
        labels
        | {
            "position": position,
            "token": printable(token),
            "layer": layer + 1,
            "signal": name,
            "value": float(values[position, layer]),
        }
        for name, values in scan.signals.items()
        for position, token in enumerate(scan.tokens)
        for layer in range(values.shape[1])
    ]


def scan_run(
    model: LanguageModel, seed: int, tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, object]]]:
    """The texts under `model` and under its untrained control: a summary of each, and long form."""
    summary: dict[str, list[dict[str, Any]]] = {}
    rows: list[dict[str, object]] = []
    for state, each in (("trained", model), ("untrained", untrained(model, seed))):
        scans = [scan_text(each, tokenizer, text) for text in texts]
        summary[state] = [
            {"text": text} | summarise_scan(scan) for text, scan in zip(texts, scans, strict=True)
        ]
        for number, scan in enumerate(scans):
            rows += scan_rows(scan, state=state, text=number)
    return summary, rows


def printable(token: str) -> str:
    """A token on one line, its blanks visible.

    DVC reads a table as text, which would make a \\n of each \\r.
    """
    return token.replace(" ", "·").replace("\n", "⏎").replace("\r", "↵").replace("\t", "⇥")


def word_ids(tokenizer: Tokenizer, word: str) -> list[int]:
    """The tokens that are `word`, whatever its case and the blanks around it."""
    return [
        token
        for token, piece in enumerate(tokenizer.token_bytes())
        if piece.decode("utf-8", errors="replace").strip().lower() == word.lower()
    ]
