"""The arms in the order of their loss, and how much of that order is known.

Not stored, like a verdict: it follows from metrics/compare.json. An arm's place is a range: surely
below it are those arms whose whole interval lies below its own, surely above it those whose
interval lies above; where intervals overlap the order is open. The intervals are those of the
differences to the baseline, which all share: so they overlap more often than the difference of two
arms covers 0.

Step time is not measured by a run, whose outputs have no time in them, but by `make bench`: all
arms in turn, and their ratios to the baseline within a round.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

from ncn.analysis.verdict import Verdict, verdict_of
from ncn.common.nested import is_number
from ncn.settings import BASELINE
from ncn.statistics.interval import Interval

FEW_ARMS = 4  # as many as params.yaml has by default: a table of differences is enough for them
# Of metrics/benchmark.json, the best first: each has the step time of arms by their names.
STEP_TIMES = ("mechanisms", "training_step")


class Ranked(NamedTuple):
    """An arm in its place.

    places: the lowest and the highest that its interval leaves it, from 1.
    to_baseline, to_reference: None where it is the other one, or was not compared with it.
    parameters: as many as it has; flops: of a token, forward; step_time: the baseline's is 1. None
        where that is not known.
    """

    arm: str
    places: tuple[int, int]
    to_baseline: Verdict | None
    to_reference: Verdict | None
    parameters: int | None
    flops: float | None
    step_time: float | None

    @property
    def loss(self) -> Interval:
        """Arm - baseline, nats a token; the baseline's own is 0."""
        return self.to_baseline.loss if self.to_baseline else Interval(0.0, 0.0, 0.0)


def ranking(
    summary: Mapping[str, Mapping[str, Any]],
    comparison: Mapping[str, Any],
    benchmark: Mapping[str, Any],
) -> list[Ranked]:
    """The arms whose score is a language model's, by their loss, the lowest first.

    Args:
        summary: metrics/summary.json.
        comparison: metrics/compare.json.
        benchmark: metrics/benchmark.json, or {}.
    """
    found = {arm: verdict_of(arm, summary, comparison) for arm in summary}
    verdicts = {
        arm: verdict
        for arm, verdict in found.items()
        if (verdict is not None and verdict.reads_the_future is False) or arm == BASELINE
    }
    times = step_times(benchmark)
    entries = comparison.get("arms", {})
    unplaced = [
        Ranked(
            arm,
            (1, 1),
            verdict,
            verdict_of(arm, summary, comparison, to_reference=True),
            _number(entries.get(arm, {}).get("parameters")),
            _number(entries.get(arm, {}).get("flops_per_token")),
            times.get(arm),
        )
        for arm, verdict in verdicts.items()
    ]
    rows = sorted(unplaced, key=lambda row: row.loss.value)
    return [row._replace(places=_places(row, rows)) for row in rows]


def step_times(benchmark: Mapping[str, Any]) -> dict[str, float]:
    """The time of a training step by arm, as a multiple of the baseline's."""
    times: dict[str, float] = {}
    for section in STEP_TIMES:
        for arm, entry in benchmark.get(section, {}).get("arms", {}).items():
            if is_number(ratio := entry.get("ratio")):
                times.setdefault(arm, ratio)
    return times


def apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals have nothing in common."""
    return one.high < other.low or other.high < one.low


def in_words(
    settings: Mapping[str, Any], comparison: Mapping[str, Any], rows: list[Ranked]
) -> list[str]:
    """How much of the order is known, and whether a control network is worth more than its rivals.

    The latter only where the run has what that takes: a static arm as the reference, and a rival.

    Args:
        settings: the content of params.yaml, which an older version of it may have written.
        comparison: metrics/compare.json.
        rows: see `ranking`.
    """
    pairs = [*combinations(rows, 2)]
    known = sum(apart(one.loss, other.loss) for one, other in pairs)
    said = [
        f"Of {len(pairs)} pairs of arms, {known} have intervals that lie apart; the order of the"
        " others is open."
    ]
    controllers = {row.arm: _setting(settings, row.arm, "ncn", "controller") for row in rows}
    networks = [row for row in rows if controllers[row.arm] in ("network", "recurrent")]
    rivals = [
        row
        for row in rows
        if controllers[row.arm] == "none"
        and _setting(settings, row.arm, "model", "modulator") not in (None, "none")
    ]
    reference = str(comparison.get("reference"))
    if not networks or not rivals or controllers.get(reference) != "static":
        return said
    better = [
        row.arm
        for row in networks
        if _is_better(row.to_baseline)
        and _is_better(row.to_reference)
        and all(row.loss.high < rival.loss.low for rival in rivals)
    ]
    verb = "is" if len(better) == 1 else "are"
    who = f"{', '.join(better)} {verb}" if better else "No arm with a control network is"
    said.append(
        f"{who} lower than {BASELINE} and {reference}, p after Holm below 0.05, with an interval"
        f" below that of every rival ({', '.join(row.arm for row in rivals)})."
    )
    return said


def _places(row: Ranked, rows: list[Ranked]) -> tuple[int, int]:
    below = sum(other.loss.high < row.loss.low for other in rows)
    above = sum(other.loss.low > row.loss.high for other in rows)
    return 1 + below, len(rows) - above


def _setting(settings: Mapping[str, Any], arm: str, section: str, key: str) -> Any:
    """A setting of an arm: its own, or that of the section."""
    mine: Mapping[str, Any] = settings["arms"].get(arm) or {}
    return mine.get(key, settings[section].get(key))


def _is_better(verdict: Verdict | None) -> bool:
    """Surely lower, by the interval and by p after Holm where there is a test."""
    return verdict is not None and verdict.p is not None and verdict.side == "better"


def _number(value: Any) -> Any:
    return value if is_number(value) else None
