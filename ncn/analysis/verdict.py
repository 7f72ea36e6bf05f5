"""Who beats the baseline, and who reads the future: decided here; everything else words it.

A verdict is not stored: it follows from metrics/summary.json and metrics/compare.json, and whoever
tells it (comparison, README, terminal, page, figure, model card, claims) makes it by `verdict_of`.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ncn.common.nested import is_number
from ncn.statistics.interval import LEVEL, LOWEST_P, Interval
from ncn.statistics.scores import language_model

Side = Literal["better", "worse", "open"]
# What is known of an arm. `two checkpoints`: one seed, so nothing of the method; `reads the future`
# and `leak unknown`: the score is no language model's, or may not be one; `negligible`: clearly on
# one side, and equivalent all the same; `equivalent`: on no side, and equivalent; `open`: neither.
Kind = Literal[
    "better", "worse", "negligible", "equivalent", "open",
    "two checkpoints", "reads the future", "leak unknown",
]  # fmt: skip

# With 20 clusters whose differences have an exponential's skew a 95 % interval covers 0.92, with
# this many 0.93 (tests/statistics); with a heavier tail, less.
FEWEST_CLUSTERS = 50


def reads_the_future(entry: Mapping[str, Any]) -> bool | None:
    """Whether a later token moves an earlier logit of a model in the form it was trained in.

    Args:
        entry: with future_leak, the largest such change: an arm's in metrics/summary.json, or a
            run's metrics/evaluate/RUN.json.

    Returns:
        None where the leak was not measured.
    """
    leak = entry.get("future_leak")
    return leak > 0 if is_number(leak) else None


def score_reads_the_future(entry: Mapping[str, Any], forms: Container[str]) -> bool | None:
    """Whether what counts as the score was helped by later tokens: then it is no language model's.

    Args:
        entry: as for `reads_the_future`.
        forms: in which the model was scored; scored causally, it reads no later token.
    """
    return reads_the_future(entry) if language_model(forms) == "as_trained" else False


@dataclass(frozen=True)
class Verdict:
    """What a comparison says of an arm beside the baseline, or beside the reference arm.

    loss: the difference of the losses, arm - other, in nats a token, with its 95 % interval: below
        0 the arm is better. The side is taken by it; that of the perplexities tells it once more.
    difference: of the perplexities, with its interval.
    p: of no difference, after Holm over all comparisons; None where there is no test.
    p_at_floor: before Holm it is the least that is computed, so `p` is an upper bound.
    equivalent: the losses differ by less than the margin, by two one-sided tests after Holm.
    n_seeds, n_clusters: on which all that rests.
    primary: it is the endpoint that params.yaml declared; None where none was declared.
    reads_the_future: of the score that was compared; see `score_reads_the_future`.
    """

    loss: Interval
    difference: Interval
    p: float | None
    p_at_floor: bool
    equivalent: bool
    n_seeds: int
    n_clusters: int
    primary: bool | None
    reads_the_future: bool | None

    @property
    def by_interval(self) -> Side:
        """The side of the other on which the whole interval lies; open where it covers 0."""
        _, low, high = self.loss
        return "better" if high < 0 else "worse" if low > 0 else "open"

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval is clear and Holm still takes it for chance among several."""
        return self.by_interval != "open" and self.p is not None and self.p >= LEVEL

    @property
    def side(self) -> Side:
        """The side of the other on which it is: by its interval, unless that may be chance."""
        return "open" if self.may_be_chance else self.by_interval

    @property
    def kind(self) -> Kind:
        """What is known, in one word for others to put into theirs."""
        if self.reads_the_future is not False:
            return "reads the future" if self.reads_the_future else "leak unknown"
        if self.n_seeds < 2:
            return "two checkpoints"
        if self.equivalent:
            return "equivalent" if self.side == "open" else "negligible"
        return self.side

    @property
    def few_clusters(self) -> bool:
        """Whether the interval rests on too few clusters to cover what it says."""
        return self.n_clusters < FEWEST_CLUSTERS


def verdict_of(
    arm: str,
    summary: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any],
    to_reference: bool = False,
) -> Verdict | None:
    """The verdict on an arm's score as a language model.

    Args:
        arm: its name.
        summary: metrics/summary.json.
        comparison: metrics/compare.json.
        to_reference: beside the reference arm, not the baseline.

    Returns:
        None where the files hold no difference of it: it is the other one, or was not compared.
    """
    found = comparison.get("differences", {}).get(arm, {})
    if to_reference:
        found = found.get("to_reference") or {}
    ends = [found.get(name) for name in ("delta_loss", "delta_ppl")]
    if not all(isinstance(e, list) and len(e) == 3 and all(map(is_number, e)) for e in ends):
        return None
    loss, difference = (Interval(*each) for each in ends)
    primary, p = comparison.get("primary"), found.get("p_holm")
    forms = comparison.get("arms", {}).get(arm, {}).get("scores", ())
    return Verdict(
        loss,
        difference,
        p if is_number(p) else None,
        is_number(found.get("p")) and found["p"] <= LOWEST_P,
        found.get("equivalent") is True,
        len(comparison.get("seeds", ())),
        comparison.get("clusters", 0),
        None if primary is None else arm == primary and not to_reference,
        score_reads_the_future(summary.get(arm, {}), forms),
    )
