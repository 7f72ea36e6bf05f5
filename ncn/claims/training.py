"""Rules about training: how steadily and how fast it goes, and whether the published one did."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ncn.analysis.comparison import BASELINE
from ncn.claims.rule import (
    CURVES,
    NO,
    UNDECIDED,
    YES,
    Finding,
    Metrics,
    claim,
    counted,
    look,
)
from ncn.common.paths import CONVERGENCE


@claim("stable", "Training is stable: no loss spikes, no collapse of the loss scale", "5", CURVES)
def stable(metrics: Metrics, arm: str) -> Finding:
    """Supported if no run has a loss spike (a step's loss more than 6 robust standard deviations
    above the median of the up to 100 losses before it, of at least 20), a loss that is not finite,
    or a loss scale below 1; not supported otherwise.
    """
    logs = [
        look(metrics.convergence, CONVERGENCE, "runs", run, "stability")
        for run in metrics.runs(arm)
    ]
    spikes = sum(look(log, CONVERGENCE, "spikes") for log in logs)
    broken = sum(look(log, CONVERGENCE, "not_finite") for log in logs)
    scales = [log["loss_scale_min"] for log in logs if used_scaler(log)]
    rise = max(look(log, CONVERGENCE, "largest_rise") for log in logs)
    collapsed = any(scale < 1 for scale in scales)
    scaler = f"lowest loss scale {min(scales):g}" if scales else "no loss scaler was in use"
    return Finding(
        NO if spikes or broken or collapsed else YES,
        f"{spikes} spikes and {broken} losses that are not finite in {counted(logs, 'run')},"
        f" largest rise above the moving average {rise:.2f} nats; {scaler}.",
        spikes,
        unit="spikes",
    )


def used_scaler(stability: Mapping[str, Any]) -> bool:
    """Whether a loss scaler was in use, by its log.

    A scaler starts at 2^16 and is halved with each step that it skips. Without one (fp32, bf16)
    every row of the log has the scale 1 and no step was skipped.
    """
    lowest = stability.get("loss_scale_min")
    return lowest is not None and (lowest != 1 or bool(stability.get("skipped")))


def phase_ends(metrics: Metrics, arm: str, phase: str) -> Finding:
    """Supported if in every run, with the published smoothing and with half and twice it, the phase
    ends and ends before the baseline's of that seed, over at least two seeds; not supported if
    every window ends it, some no earlier than the baseline's; else undecided.
    """

    def steps(run: str) -> list[int | None]:
        found = look(metrics.convergence, CONVERGENCE, "runs", run, phase)
        others = look(found, CONVERGENCE, "step_by_smoothing_span")
        return [found.get("step"), *others.values()]

    mine = [steps(run) for run in metrics.runs(arm)]
    theirs = [steps(run) for run in metrics.runs(BASELINE)]
    pairs = [
        (m, b) for ms, bs in zip(mine, theirs, strict=True) for m, b in zip(ms, bs, strict=True)
    ]
    published = metrics.convergence.get("published run 1", {}).get(phase, {}).get("step")
    ended = [m for m, _ in pairs if m is not None]
    baseline = [b for _, b in pairs if b is not None]
    if len(ended) < len(pairs) or any(b is None for _, b in pairs):
        verdict = UNDECIDED
    elif all(m < b for m, b in pairs if m is not None and b is not None):
        verdict = YES if len(metrics.params.seeds) > 1 else UNDECIDED
    else:
        verdict = NO
    return Finding(
        verdict,
        f"The phase ends {at_steps(ended)} in {len(ended)} of {len(pairs)} runs and windows, the"
        f" baseline's {at_steps(baseline)} in {len(baseline)}; the published series' at step"
        f" {published}.",
        mine[0][0],
        [min(ended), max(ended)] if ended else None,
        "step",
    )


grammar = claim("grammar", "Syntax converges early (95 %)", "5.2", CURVES)(
    partial(phase_ends, phase="grammar_95")
)
meaning = claim("meaning", "Meaning converges later (99 %), and early for its size", "5.2", CURVES)(
    partial(phase_ends, phase="intellectual_99")
)


@claim(
    "trained",
    "The control network of the published run was trained",
    "4.1",
    CURVES,
    needs=None,
)
def published_control_was_trained(metrics: Metrics) -> Finding:
    """Supported if the logged penalty of run 1 leaves the value that an untrained, zeroed control
    network has (0.00338) by more than the log's last digit; not supported if it never does.
    """
    penalty = look(metrics.convergence, CONVERGENCE, "published run 1", "penalty")
    low, high, zero, moved = (
        look(penalty, CONVERGENCE, key) for key in ("low", "high", "at_zero", "points_away")
    )
    points = look(penalty, CONVERGENCE, "points")
    return Finding(
        YES if moved else NO,
        f"The logged penalty lies in {low:.4f} to {high:.4f} on all {points} lines; z = 0 gives"
        f" {zero:.5f}, from which {moved} lines differ by more than the log's last digit.",
        moved,
        unit="lines",
    )


def at_steps(steps: Sequence[int]) -> str:
    """`nowhere`, or where the first and the last of several phases end."""
    if not steps:
        return "nowhere"
    return f"at step {steps[0]}" if len(set(steps)) == 1 else f"at {min(steps)} to {max(steps)}"
