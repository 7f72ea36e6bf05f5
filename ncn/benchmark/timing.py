"""Timing on a machine whose speed drifts: what is compared runs in turn, round after round."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from tqdm import tqdm


def in_turn(timed: dict[str, Callable[[], Any]], rounds: int, what: str) -> dict[str, list[float]]:
    """Seconds of each function in each round, after one uncounted round."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in tqdm(range(rounds + 1), desc=what, unit="round", disable=None):
        names = list(timed)
        # Each round begins elsewhere: what runs after whom must not be part of the figure.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = timed[name]
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compared(seconds: dict[str, list[float]], beside: str) -> dict[str, dict[str, float]]:
    """Median seconds, and the median over rounds of the ratio to `beside`."""
    return {
        name: {
            "seconds": median(mine),
            "ratio": median(a / b for a, b in zip(mine, seconds[beside], strict=True)),
        }
        for name, mine in seconds.items()
    }
