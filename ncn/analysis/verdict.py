"""Who beats the baseline, and who reads the future: decided here; everything else words it.

A verdict is not stored: it follows from metrics/summary.json and metrics/compare.json, and whoever
tells it (comparison, README, terminal, page, model card, claims) makes it by `verdict_of`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ncn.common.nested import is_number
from ncn.statistics.interval import LEVEL, Interval

Side = Literal["better", "worse", "open"]


def reads_the_future(entry: Mapping[str, Any]) -> bool | None:
    """Whether a later token moves an earlier logit: then a perplexity is no language model's.

    Args:
        entry: with future_leak, the largest such change: an arm's in metrics/summary.json, or a
            run's metrics/evaluate/RUN.json.

    Returns:
        None where the leak was not measured.
    """
    leak = entry.get("future_leak")
    return leak > 0 if is_number(leak) else None


@dataclass(frozen=True)
class Verdict:
    """What a comparison says of an arm beside the baseline.

    difference: of the perplexities, arm - baseline, with its 95 % interval: below 0 it is better.
    p: of no difference, after Holm over the arms; None where the interval speaks alone.
    equivalent: the losses differ by less than the margin, by two one-sided tests after Holm.
    n_seeds: on which all that rests.
    reads_the_future: of the score that was compared; see the function.
    """

    difference: Interval
    p: float | None
    equivalent: bool
    n_seeds: int
    reads_the_future: bool | None

    @property
    def by_interval(self) -> Side:
        """The side of the baseline on which the whole interval lies; open where it covers 0."""
        _, low, high = self.difference
        return "better" if high < 0 else "worse" if low > 0 else "open"

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval is clear and Holm still takes it for chance among several arms."""
        return self.by_interval != "open" and self.p is not None and self.p >= LEVEL

    @property
    def side(self) -> Side:
        """On which side of the baseline the arm is, by its interval and by Holm."""
        return "open" if self.may_be_chance else self.by_interval

    @property
    def of_the_method(self) -> bool:
        """Whether it speaks of the method; with one seed it speaks of two checkpoints."""
        return self.n_seeds > 1


def verdict_of(
    arm: str,
    summary: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any],
    reactive: bool = False,
) -> Verdict | None:
    """The verdict on an arm.

    Args:
        arm: its name.
        summary: metrics/summary.json.
        comparison: metrics/compare.json.
        reactive: scored as it would generate, which reads no later token; of that score there is
            an interval, and no test.

    Returns:
        None where the files hold no difference of it: it is the baseline, or was not compared.
    """
    found = comparison.get("differences", {}).get(arm, {})
    ends = found.get("reactive" if reactive else "delta_ppl")
    if not (isinstance(ends, list) and len(ends) == 3 and all(map(is_number, ends))):
        return None
    p = found.get("p_holm")
    return Verdict(
        Interval(*ends),
        p if is_number(p) and not reactive else None,
        found.get("equivalent") is True and not reactive,
        len(comparison.get("seeds", ())),
        False if reactive else reads_the_future(summary.get(arm, {})),
    )
