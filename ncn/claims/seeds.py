"""What rules about the method share: an effect over seeds, its interval, and what follows from it.

An effect is counted so that above 0 is as claimed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr  # scipy.stats is slow to import

from ncn.claims.rule import (
    NEGLIGIBLE,
    NO,
    UNDECIDED,
    YES,
    Finding,
    Judgement,
    Metrics,
    MissingError,
    look,
    over_seeds,
)
from ncn.common.paths import CONVERGENCE, evaluation_metrics
from ncn.statistics.interval import Interval

WORTH = 0.01  # nats a token: an effect that is surely less is negligible


def answers(metrics: Metrics, arm: str, *keys: str) -> list[Any]:
    """What each run of an arm answered to a question of the evaluate stage, one a seed."""
    return [
        _finite(metrics.evaluations.get(run, {}), evaluation_metrics(run), "questions", *keys)
        for run in metrics.runs(arm)
    ]


def curves(metrics: Metrics, arm: str, *keys: str) -> list[Any]:
    """What the training log of each run of an arm shows, one a seed."""
    return [
        _finite(metrics.convergence, CONVERGENCE, "runs", run, *keys) for run in metrics.runs(arm)
    ]


def _finite(content: Any, where: Path, *keys: str) -> Any:
    """As `look`, at any depth of what is found; a null may stand for what does not apply."""

    def finite(value: Any) -> bool:
        if isinstance(value, Mapping):
            return all(map(finite, value.values()))
        if isinstance(value, list):
            return all(map(finite, value))
        return not isinstance(value, float) or math.isfinite(value)

    found = look(content, where, *keys)
    if not finite(found):
        raise MissingError(f"{where}: {'.'.join(keys)} holds a number that is not finite")
    return found


def of_the_method(effects: Sequence[float]) -> Interval | None:
    """`over_seeds` of effects of the method, which one seed cannot show: None with one."""
    return over_seeds(effects) if len(effects) > 1 else None


def p_of(effects: Sequence[float]) -> float:
    """Two-sided p of no effect of the method, by Student's t over two seeds or more."""
    mean, error = float(np.mean(effects)), float(np.std(effects, ddof=1)) / math.sqrt(len(effects))
    if error == 0:
        return float(mean == 0)
    return 2 * float(stdtr(len(effects) - 1, -abs(mean) / error))


def over_seeds_or_rows(effects: Sequence[Sequence[float]]) -> Interval:
    """`over_seeds` of effects that each have an interval over rows, [value, low, high]: with one
    seed that interval, which speaks of this model alone.
    """
    return over_seeds([each[0] for each in effects], effects[0])


def settled(effect: Interval | None, worth: float = WORTH) -> Judgement:
    """Supported if surely above 0, real but negligible if it is that and surely below `worth`; not
    supported if surely below `worth` and not surely above 0; else undecided.
    """
    if effect is None:
        return UNDECIDED
    above = effect.low > 0
    if effect.high < worth:
        return NEGLIGIBLE if above else NO
    return YES if above else UNDECIDED


def reaches(value: Interval, threshold: float) -> Judgement:
    """Supported if surely at least `threshold`, not supported if surely below, else undecided."""
    return YES if value.low >= threshold else NO if value.high < threshold else UNDECIDED


def finding(
    effect: Interval | None,
    by_seed: Sequence[float],
    words: str,
    unit: str,
    worth: float = WORTH,
) -> Finding:
    """The finding of `settled`.

    Args:
        effect: see there; None with one seed.
        by_seed: the effect under each seed.
        words: a sentence without its stop; `{}` stands for the effect.
        unit: of the effect.
        worth: see `settled`.
    """
    number = "seed" if len(by_seed) == 1 else "seeds"
    value = float(np.mean(by_seed))
    shown = f"{value:+.4f}"
    if effect is not None:
        shown += f" [{effect.low:+.4f}, {effect.high:+.4f}]"
    text = words.format(f"{shown} over {len(by_seed)} {number}")
    interval = None if effect is None else [effect.low, effect.high]
    return Finding(settled(effect, worth), f"{text}.", value, interval, unit)


def by_name(entries: Sequence[Mapping[str, float | None]]) -> dict[str, list[float]]:
    """The numbers of several runs by name; those that are null are left out."""
    names = dict.fromkeys(name for entry in entries for name in entry)
    numbers = {name: [entry[name] for entry in entries if name in entry] for name in names}
    return {name: [v for v in values if v is not None] for name, values in numbers.items()}
