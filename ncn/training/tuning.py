"""An arm's learning rate, found by trials: the same grid, seeds and steps for every arm.

A trial is a training run of its own, shorter than the real one and over its whole schedule, scored
on the tuning part. Where the best value lies at an end of the grid, the grid goes on beyond it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json
from ncn.common.nested import is_number
from ncn.common.paths import CHOSEN, tuning_directory
from ncn.settings import Tune

Trial = Callable[[float, int], float]  # of a learning rate and a seed: its loss, nats a token


class Row(NamedTuple):
    """One trial; `loss` is infinite where training diverged."""

    arm: str
    lr: float
    seed: int
    loss: float


class Point(NamedTuple):
    """A learning rate: mean and sd (None with one seed) of its trials' losses, nats a token."""

    lr: float
    loss: float
    sd: float | None


def tune(arm: str, settings: Tune, trial: Trial) -> tuple[dict[str, Any], list[Row]]:
    """Try every learning rate of the grid with every seed, and choose the best.

    Args:
        arm: its name.
        settings: the grid, at least two values.
        trial: trains and scores.

    Returns:
        What chosen.json says, see `as_chosen`, and the trials by learning rate.

    Raises:
        InputError: every trial diverged, or the best is still at an end of the grid after
            `settings.extensions` values were added beyond it.
    """
    found: dict[float, list[Row]] = {}
    waiting = list(settings.lr)
    extensions = 0
    while True:
        for lr in waiting:
            found[lr] = [Row(arm, lr, seed, trial(lr, seed)) for seed in settings.seeds]
        points = [_point(rows) for _, rows in sorted(found.items())]
        best = min(points, key=lambda point: point.loss)
        if not math.isfinite(best.loss):
            raise InputError(f"{arm}: training diverged at every tune.lr of {_named(points)}")
        beyond = _beyond(points, best)
        if beyond is None:
            break
        if extensions == settings.extensions:
            raise InputError(
                f"{arm}: of tune.lr {_named(points)} the best, {best.lr:g}, is still at the end:"
                f" {beyond:g} should be among them, or tune.extensions be larger"
            )
        waiting, extensions = [beyond], extensions + 1
    return as_chosen(arm, best.lr, points), [row for lr in sorted(found) for row in found[lr]]


def as_chosen(arm: str, lr: float, points: Sequence[Point] = ()) -> dict[str, Any]:
    """What chosen.json says.

    arm, lr; tuned: whether it was chosen among several. If so also grid, each point with lr, loss
    and sd (over seeds; null with one), and flatness: by how much the two beside it in the grid are
    worse, nats a token, the better of them first (null where training diverged).
    """
    chosen: dict[str, Any] = {"arm": arm, "lr": lr, "tuned": bool(points)}
    if points:
        place = [point.lr for point in points].index(lr)
        beside = sorted(points[place + step].loss - points[place].loss for step in (-1, 1))
        chosen["grid"] = [point._asdict() | {"loss": _finite(point.loss)} for point in points]
        chosen["flatness"] = [_finite(loss) for loss in beside]
    return chosen


def chosen_rate(arm: str) -> float:
    """The learning rate that the stage tune wrote down for an arm.

    Raises:
        InputError: its file is missing, or not what that stage writes.
    """
    path = tuning_directory(arm) / CHOSEN
    with as_written(path):
        lr = read_json(path)["lr"]
        if not (is_number(lr) and lr > 0):
            raise ValueError(f"lr is {lr}")
        return float(lr)


def in_words(chosen: dict[str, Any]) -> str:
    """One line for people."""
    text = f"{chosen['arm']}: trains at {chosen['lr']:g}"
    if not chosen["tuned"]:
        return f"{text}, untuned"
    tried = ", ".join(f"{point['lr']:g}" for point in chosen["grid"])
    near, far = ("diverged" if x is None else f"+{x:.4f}" for x in chosen["flatness"])
    return f"{text}, the best of {tried} (nats beside it: {near}, {far})"


def _point(rows: Sequence[Row]) -> Point:
    losses = np.array([row.loss for row in rows])
    several = len(losses) > 1 and bool(np.isfinite(losses).all())
    return Point(rows[0].lr, float(losses.mean()), float(losses.std(ddof=1)) if several else None)


def _beyond(points: Sequence[Point], best: Point) -> float | None:
    """The next value outwards, at the grid's own ratio, where the best is at an end of it."""
    if best is points[-1]:
        return _six_digits(points[-1].lr ** 2 / points[-2].lr)
    if best is points[0]:
        return _six_digits(points[0].lr ** 2 / points[1].lr)
    return None


def _six_digits(lr: float) -> float:
    return float(f"{lr:.6g}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _named(points: Sequence[Point]) -> str:
    return ", ".join(f"{point.lr:g}" for point in points)
