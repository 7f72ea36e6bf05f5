"""Rules about training: how steadily and how fast it goes, and whether the published one did."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import betaincinv  # scipy.stats is slow to import

from ncn.analysis.comparison import BASELINE
from ncn.claims.rule import (
    CURVES,
    NEGLIGIBLE,
    NO,
    UNDECIDED,
    YES,
    Finding,
    Judgement,
    Metrics,
    claim,
    counted,
    look,
    over_seeds,
)
from ncn.common.paths import CONVERGENCE
from ncn.statistics.interval import LEVEL

SPIKES = 1e-3  # a step: as rare they count as none
COLLAPSES = 0.05  # of the runs: likewise
THROUGHOUT = 0.9  # of training: what lasts as long has lasted through it
EARLIER = 0.05  # of the baseline's step: less is no lead worth the name


@claim("stable", "Training is stable: no loss spikes, no collapse of the loss scale", "5", CURVES)
def stable(metrics: Metrics, arm: str) -> Finding:
    """Every step after the warm-up counts, of all runs together. Supported if at most 1 in 1,000 is
    a loss spike (a step's loss more than 6 robust standard deviations above the median of the up
    to 100 losses before it, of at least 20), and no more than 1 run in 20 has a loss that is not
    finite or a loss scale below 1; not supported if more spikes, or if surely more than 1 run in 20
    breaks so (97.5 % bound of the binomial share); else undecided.
    """
    logs = [
        look(metrics.convergence, CONVERGENCE, "runs", run, "stability")
        for run in metrics.runs(arm)
    ]
    spikes = sum(look(log, CONVERGENCE, "spikes") for log in logs)
    steps = sum(look(log, CONVERGENCE, "steps") for log in logs)
    broken = [look(log, CONVERGENCE, "not_finite") > 0 for log in logs]
    scales = [log.get("loss_scale_min") for log in logs]
    used = [look({"scale": scale}, CONVERGENCE, "scale") for scale in scales if scale is not None]
    collapsed = [scale is not None and scale < 1 for scale in scales]
    skipped = sum(log.get("skipped") or 0 for log in logs)
    failing = sum(map(max, broken, collapsed))
    verdict: Judgement = YES
    if failing > COLLAPSES * len(logs):
        verdict = NO if surely_above(failing, len(logs)) > COLLAPSES else UNDECIDED
    if spikes > SPIKES * steps:
        verdict = NO
    scaler = (
        f"lowest loss scale {min(used):g}, {skipped} steps skipped"
        if used
        else "no loss scaler was in use"
    )
    return Finding(
        verdict,
        f"{spikes} spikes in {steps:,.0f} steps after the warm-up, a loss that is not finite in"
        f" {sum(broken)} of {counted(logs, 'run')}; {scaler}.",
        1000 * spikes / steps,
        unit="spikes in 1,000 steps",
    )


def surely_above(found: int, runs: int) -> float:
    """The least share that shows `found` in so many runs once in 40 times (Clopper-Pearson)."""
    return float(betaincinv(found, runs - found + 1, LEVEL / 2)) if found else 0.0


def phase_steps(entry: Mapping[str, Any], phase: str) -> list[int | None]:
    """Where a phase of one run ends: with the published smoothing, with half and with twice it."""
    found = look(entry, CONVERGENCE, phase)
    return [found.get("step"), *look(found, CONVERGENCE, "step_by_smoothing_span").values()]


@claim("grammar", "Syntax converges early (95 %)", "5.2", CURVES)
def grammar(metrics: Metrics, arm: str) -> Finding:
    """Early is before the baseline. Of each seed, the step at which the phase ends, mean over the
    published smoothing, half and twice it, over the baseline's. Supported if over at least two
    seeds the ratio lies below 1 (95 % interval); real but negligible if by less than 0.05; not
    supported if it does not; undecided if it covers 1, with one seed, or if a phase has not ended.
    """
    curves = look(metrics.convergence, CONVERGENCE, "runs")
    ends = {
        each: [
            phase_steps(look(curves, CONVERGENCE, run), "grammar_95") for run in metrics.runs(each)
        ]
        for each in (arm, BASELINE)
    }
    lasting = sum(step is None for runs in ends.values() for steps in runs for step in steps)
    published = metrics.convergence.get("published run 1", {}).get("grammar_95", {}).get("step")
    said = f"the published series' phase ends at step {published}"
    if lasting:
        return Finding(
            UNDECIDED,
            f"In {lasting} runs and windows of {arm} or the baseline the phase has not ended;"
            f" {said}.",
        )
    mean = {
        each: [sum(step or 0 for step in steps) / len(steps) for steps in runs]
        for each, runs in ends.items()
    }
    ratio = over_seeds([m / b for m, b in zip(mean[arm], mean[BASELINE], strict=True)])
    if len(metrics.params.seeds) < 2 or ratio.low <= 1 <= ratio.high:
        verdict = UNDECIDED
    elif ratio.low > 1:
        verdict = NO
    else:
        verdict = YES if ratio.value <= 1 - EARLIER else NEGLIGIBLE
    return Finding(
        verdict,
        f"The phase ends at step {over_seeds(mean[arm]).value:,.0f}, the baseline's at"
        f" {over_seeds(mean[BASELINE]).value:,.0f}, means over"
        f" {counted(mean[arm], 'seed')} and three windows; {said}.",
        ratio.value,
        [*ratio[1:]],
        "step, baseline = 1",
    )


SUSTAINED = "The 99 % phase (meaning) is sustained through the epoch"


@claim("meaning", SUSTAINED, "5.2", CURVES)
def meaning(metrics: Metrics, arm: str) -> Finding:
    """The share of training at which the phase ends, 1 where it has not; mean over the published
    smoothing, half and twice it. Supported if over the seeds (95 % interval; of one seed, over the
    three windows) it lies above 0.9; not supported if below; else undecided.
    """
    return sustained([look(metrics.convergence, CONVERGENCE, "runs", r) for r in metrics.runs(arm)])


@claim("meaning_published", SUSTAINED + ", in run 1", "5.2", CURVES, needs=None)
def meaning_published(metrics: Metrics) -> Finding:
    """As for an arm: supported if the share of the published series at which the phase ends lies
    above 0.9 with the published smoothing, half and twice it; not supported if below; else
    undecided.
    """
    return sustained([look(metrics.convergence, CONVERGENCE, "published run 1")])


def sustained(entries: Sequence[Mapping[str, Any]]) -> Finding:
    """Whether the 99 % phase lasts through training, in runs of one form."""
    ends = [phase_steps(entry, "intellectual_99") for entry in entries]
    last = [look(entry, CONVERGENCE, "last_step") for entry in entries]
    shares = [
        [1.0 if step is None else step / whole for step in steps]
        for steps, whole in zip(ends, last, strict=True)
    ]
    means = [sum(each) / len(each) for each in shares]
    share = over_seeds(means, (means[0], min(shares[0]), max(shares[0])))
    lasting = sum(step is None for steps in ends for step in steps)
    steps = [step for each in ends for step in each if step is not None]
    return Finding(
        YES if share.low > THROUGHOUT else NO if share.high < THROUGHOUT else UNDECIDED,
        f"The phase ends {at_steps(steps)} of {max(last):,} and lasts to the end in {lasting} of"
        f" {3 * len(entries)} runs and windows.",
        share.value,
        [*share[1:]],
        "share of training",
    )


@claim(
    "trained",
    "The control network of the published run was trained",
    "4.1",
    CURVES,
    needs=None,
)
def published_control_was_trained(metrics: Metrics) -> Finding:
    """Supported if the logged penalty of run 1 leaves the range of untrained networks (0.0032 to
    0.0036 over random starts) by more than half the log's last digit; not supported if it stays in
    it throughout.
    """
    penalty = look(metrics.convergence, CONVERGENCE, "published run 1", "penalty")
    low, high, outside = (
        look(penalty, CONVERGENCE, key) for key in ("low", "high", "points_outside")
    )
    points = look(penalty, CONVERGENCE, "points")
    untrained = look(penalty, CONVERGENCE, "untrained")
    return Finding(
        YES if outside else NO,
        f"The logged penalty lies in {low:.4f} to {high:.4f} on {points} lines, of which {outside}"
        f" leave the {untrained[0]:.4f} to {untrained[1]:.4f} of untrained networks.",
        outside,
        unit="lines",
    )


def at_steps(steps: Sequence[int]) -> str:
    """`nowhere`, or where the first and the last of several phases end."""
    if not steps:
        return "nowhere"
    return (
        f"at step {steps[0]}" if len(set(steps)) == 1 else f"at step {min(steps)} to {max(steps)}"
    )
