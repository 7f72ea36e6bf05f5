"""The rows of plots/curves.tsv as curves: a run each, and an arm's mean over its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.settings import PUBLISHED_SERIES, Params
from ncn.statistics.interval import Floats

FEW_RUNS = 12  # each drawn by itself; of more, only the arms' means


class Series(NamedTuple):
    """A run's logged points: steps, loss (nats a token) and its moving averages; each [points]."""

    arm: str
    seed: str
    steps: Floats
    loss: Floats
    short: Floats
    long: Floats


class Curves(NamedTuple):
    """The runs of each arm, in the order of the arms, and the published series."""

    arms: dict[str, list[Series]]
    published: Series | None

    @property
    def few(self) -> bool:
        """Whether there are so few runs that each can be seen."""
        return sum(map(len, self.arms.values())) <= FEW_RUNS


def read_series(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """Rows with arm, seed, step, loss, short and long, numbers or text; an empty cell is NaN."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["arm"], str(row["seed"])), []).append(row)
    arms: dict[str, list[Series]] = {}
    published = None
    for (arm, seed), mine in grouped.items():
        steps, *values = (
            np.array([np.nan if row[name] == "" else float(row[name]) for row in mine])
            for name in ("step", "loss", "short", "long")
        )
        series = Series(arm, seed, steps, *values)
        if arm == PUBLISHED_SERIES:
            published = series
        else:
            arms.setdefault(arm, []).append(series)
    return Curves(arms, published)


def over_seeds(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The mean of some curves (steps, values) at the steps that all of them have."""
    steps = curves[0][0]
    for other, _ in curves[1:]:
        steps = np.intersect1d(steps, other)
    values = [value[np.isin(mine, steps)] for mine, value in curves]
    return steps, np.mean(values, axis=0)


def mean_of(runs: Sequence[Series], name: str) -> tuple[Floats, Floats]:
    """Steps and the mean over seeds of one of the curves: loss, short or long."""
    return over_seeds([(run.steps, getattr(run, name)) for run in runs])


def future_arms(params: Params) -> frozenset[str]:
    """The arms whose network pools over the whole window: they train with the future."""
    controls = {arm: params.control_network(arm) for arm in params.arms}
    return frozenset(arm for arm, c in controls.items() if c.reads and c.salience == "global")
