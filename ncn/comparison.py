"""The arms side by side: what metrics/summary.json says, and the same in words."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncn.artifacts import evaluation_metrics, run_name, sequence_losses, training_metrics
from ncn.errors import InputError
from ncn.files import read_json, read_tsv
from ncn.statistics import Losses, perplexity_difference

BASELINE = "baseline"


def read_losses(arm: str, seeds: Sequence[int], column: str = "loss") -> tuple[Losses, list[str]]:
    """The stored losses of an arm [S, N] and the sequences they belong to."""
    losses, sequences = [], None
    for seed in seeds:
        path = sequence_losses(run_name(arm, seed))
        rows = read_tsv(path)
        mine = [row["sequence"] for row in rows]
        if sequences not in (None, mine):
            raise InputError(f"{path} scores other sequences than seed {seeds[0]}: run `dvc repro`")
        sequences = mine
        losses.append([float(row[column]) for row in rows])
    return np.array(losses), sequences or []


def summarise(
    arms: Sequence[str], seeds: Sequence[int], resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """One entry an arm; differences to the arm named `baseline`, where there is one.

    Several seeds are averaged in the loss; val_ppl is the exponential of that average.

    Raises:
        InputError: an arm was scored on other sequences than the baseline.
    """
    baseline = read_losses(BASELINE, seeds) if BASELINE in arms else None
    summary = {}
    for arm in arms:
        losses, sequences = read_losses(arm, seeds)
        details = [read_json(evaluation_metrics(run_name(arm, each))) for each in seeds]
        trained = read_json(training_metrics(run_name(arm, seeds[0])))
        loss = float(losses.mean())
        entry: dict[str, Any] = {
            "val_loss": loss,
            "val_ppl": math.exp(loss),
            "val_bpb": float(np.mean([detail["val_bpb"] for detail in details])),
            "parameters": trained["parameters"],
            "flops_per_token": trained["flops_per_token"],
            "future_leak": max(detail["future_leak"] for detail in details),
        }
        if all("val_ppl_reactive" in detail for detail in details):
            reactive, _ = read_losses(arm, seeds, "reactive_loss")
            entry["val_ppl_reactive"] = math.exp(reactive.mean())
        if baseline is not None and arm != BASELINE:
            if sequences != baseline[1]:
                raise InputError(f"arm {arm} and the baseline score other sequences: `dvc repro`")
            difference = perplexity_difference(losses, baseline[0], resamples, seed)
            entry |= {
                "delta_ppl": difference.delta,
                "delta_ppl_low": difference.low,
                "delta_ppl_high": difference.high,
            }
        summary[arm] = entry
    return summary


def in_words(arm: str, entry: dict[str, float], n_sequences: int, n_seeds: int) -> str:
    """What an entry of the summary says, and what it does not say."""
    if "delta_ppl" not in entry:
        text = f"{arm}: perplexity {entry['val_ppl']:.4f}."
    else:
        low, high = entry["delta_ppl_low"], entry["delta_ppl_high"]
        verdict = (
            "lower than" if high < 0 else "higher than" if low > 0 else "not distinguishable from"
        )
        text = (
            f"{arm}: perplexity {entry['val_ppl']:.4f}, {verdict} the baseline's"
            f" ({entry['delta_ppl']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} over"
            f" {n_sequences:,} sequences)."
        )
        if n_seeds == 1:
            text += " One seed: this speaks of these two checkpoints, not of the method."
    if entry["future_leak"] > 0:
        text += (
            f" It reads the future: a later token moves earlier logits by up to"
            f" {entry['future_leak']:.3g}, so this is not a language model's perplexity."
        )
        if "val_ppl_reactive" in entry:
            text += f" Scored as it would generate: {entry['val_ppl_reactive']:.4f}."
    return text
