"""The training logs of the runs, each measured, and an arm over its seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncn.analysis.convergence import (
    Classification,
    PowerLaw,
    SampleEfficiency,
    checked_series,
    classify,
    ewma,
    power_law,
    sample_efficiency,
    tokens_to_reach,
)
from ncn.analysis.descent import descent
from ncn.common.errors import InputError
from ncn.common.files import as_written
from ncn.common.tsv import read_tsv
from ncn.settings import Convergence
from ncn.statistics.interval import Floats, Interval
from ncn.statistics.rounding import rounded
from ncn.training.spikes import count_spikes


@dataclass(frozen=True)
class Curve:
    """A training log: steps, target tokens seen so far, mean loss (nats per token); [points]."""

    steps: Floats
    tokens: Floats
    losses: Floats

    @property
    def tokens_per_step(self) -> float:
        """Target tokens per optimiser step, from the last row."""
        return float(self.tokens[-1] / self.steps[-1])


def read_curve(path: str | Path, tokens_per_step: int | None = None) -> Curve:
    """Read a training log (TSV with columns step, loss, and tokens unless tokens_per_step given).

    Raises:
        InputError: a missing file or column, no rows, or values that no analysis can use.
    """
    rows = [row for row in read_tsv(path) if row.get("loss") != ""]  # empty: not measured
    names = ["step", "loss"] if tokens_per_step else ["step", "loss", "tokens"]
    if not rows:
        raise InputError(f"{path} has no rows: a training log has one for each logged step")
    if missing := [name for name in names if name not in rows[0]]:
        raise InputError(f"{path} has no column {missing[0]!r}; it has {list(rows[0])}")
    try:
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
        steps, losses = checked_series(columns["step"], columns["loss"], "steps", positive=True)
        tokens = steps * tokens_per_step if tokens_per_step else columns["tokens"]
        tokens, _ = checked_series(tokens, losses, "tokens", positive=True)
    except ValueError as error:  # InputError is one
        raise InputError(f"{path}: {error}") from None
    return Curve(steps, tokens, losses)


def stability(rows: Sequence[Mapping[str, str]], warmup_steps: int = 0) -> dict[str, float | None]:
    """Whether a training log shows loss spikes or a collapse of the loss scale after the warm-up.

    Args:
        rows: of the log, in order.
        warmup_steps: rows that start before so many steps are left out, where the rest has any.

    Returns:
        steps: how many the rows left cover. spikes: of these, those whose loss stands out, see
        `ncn.training.spikes`; null of a log that does not count them step by step. logged_spikes:
        of the logged losses, likewise. largest_rise: of a logged loss above the moving average
        (span 5) before it, in nats. not_finite: losses that are no finite number. loss_scale_min:
        the lowest loss scale; null where no scaler was in use. skipped: steps, likewise.
    """
    start = 0
    for number, row in enumerate(rows[:-1], 1):
        if row.get("step") and float(row["step"]) <= warmup_steps:
            start = number
    ends = [float(row["step"]) for row in rows if row.get("step")]
    after = float(rows[start - 1]["step"]) if start else 0.0
    rows = rows[start:]
    losses = np.array([float(row["loss"]) for row in rows])
    finite = losses[np.isfinite(losses)]
    rises = finite[1:] - ewma(finite, 5)[:-1] if len(finite) > 1 else np.zeros(1)
    counted = [row["spikes"] for row in rows if row.get("spikes")]
    scales = [float(row["loss_scale"]) for row in rows if row.get("loss_scale")]
    skipped = [float(row["skipped"]) for row in rows if row.get("skipped")]
    # fp32 and bf16 log the scale 1 throughout; a scaler starts at 2^16 and skips before it is at 1.
    scaled = any(scale != 1 for scale in scales) or any(skipped)
    return {
        "steps": ends[-1] - after if ends else None,
        "spikes": sum(map(int, counted)) if counted else None,
        "logged_spikes": count_spikes(finite.tolist()),
        "largest_rise": float(rises.max()),
        "not_finite": len(losses) - len(finite),
        "loss_scale_min": min(scales) if scaled else None,
        "skipped": int(sum(skipped)) if scaled and skipped else None,
    }


def analyse(curve: Curve, settings: Convergence) -> tuple[Classification, dict[str, Any]]:
    """All measures of one run: the classification, and a summary that JSON can hold.

    Numbers of the summary have 6 significant digits: the optimiser's last ones depend on the
    machine.
    """
    steps, losses = curve.steps, curve.losses
    end = classify(
        steps,
        losses,
        short_span=settings.short_span,
        long_span=settings.long_span,
        slope_share=settings.slope_share,
    )
    targets = tokens_to_reach(
        curve.tokens, losses, settings.loss_targets, short_span=settings.short_span
    )
    elsewhere = {"status", "short", "long"}
    summary = {
        "points": len(losses),
        "last_step": int(steps[-1]),
        **{name: value for name, value in asdict(end).items() if name not in elsewhere},
        "ending": end.ending,
        "by_the_published_rule": end.status,  # which takes the slope without its interval
        "last_loss": float(losses[-1]),
        "grammar_95": _phase(curve, 0.05, settings.smoothing_span),
        "intellectual_99": _phase(curve, 0.01, settings.smoothing_span),
        "tokens_to_reach": {str(target): tokens for target, tokens in targets.items()},
        "power_law": _entry(power_law(curve.tokens, losses)),
    }
    return end, rounded(summary)


def long_form(arm: str, seed: str, curve: Curve, end: Classification) -> list[dict[str, Any]]:
    """One row for each logged point: the losses and both EWMAs, as charts and TSV take them."""
    columns = zip(curve.steps, curve.tokens, curve.losses, end.short, end.long, strict=True)
    return [
        {
            "arm": arm,
            "seed": seed,
            "step": int(step),
            "tokens": int(tokens),
            "loss": float(loss),
            "short": round(float(short), 6),
            "long": round(float(long), 6),
        }
        for step, tokens, loss, short, long in columns
    ]


@dataclass(frozen=True)
class Log:
    """What one training log says; where it cannot be used, `missing` says why and `end` is None.

    summary: for metrics/convergence.json. rows: for plots/curves.tsv.
    """

    arm: str
    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    end: Classification | None = None
    missing: str | None = None


def analyse_log(
    path: str | Path,
    arm: str,
    seed: str,
    settings: Convergence,
    tokens_per_step: int | None = None,
    warmup_steps: int = 0,
) -> Log:
    """Read and analyse one log. A log that is missing, empty or not finite is said to be so."""
    steady: dict[str, Any] = {}
    try:
        rows = read_tsv(path)
        with as_written(path), np.errstate(over="raise"):
            steady = {"stability": stability(rows, warmup_steps), "descent": descent(rows)}
            curve = read_curve(path, tokens_per_step)
            end, summary = analyse(curve, settings)
    except InputError as error:
        return Log(arm, steady | {"reason": str(error)}, [], missing=str(error))
    return Log(arm, summary | steady, long_form(arm, seed, curve, end), end)


def by_arm(logs: Sequence[Log]) -> dict[str, Any]:
    """One arm over its seeds: mean and sd (null with one) of each measure, and how many have it."""
    found = [log.summary for log in logs if log.end is not None]

    def spread(values: Sequence[float | None]) -> dict[str, float | None]:
        there = [value for value in values if value is not None]
        return {
            "n": len(there),
            "mean": float(np.mean(there)) if there else None,
            "sd": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        }

    targets = found[0]["tokens_to_reach"] if found else {}
    return {
        "seeds": len(logs),
        **{
            name: dict(Counter(summary[name] for summary in found))
            for name in ("ending", "by_the_published_rule")
        },
        "last_loss": spread([summary["last_loss"] for summary in found]),
        "slope_per_1k": spread([summary["slope_per_1k"] for summary in found]),
        "tokens_to_reach": {
            target: spread([summary["tokens_to_reach"][target] for summary in found])
            for target in targets
        },
        **{
            phase: {
                name: spread([summary[phase][name] for summary in found])
                for name in ("sei", "step")
            }
            for phase in ("grammar_95", "intellectual_99")
        },
        "power_law_c": spread(
            [law["c"] and law["c"]["value"] for law in (each["power_law"] for each in found)]
        ),
    }


def in_words(ends: Sequence[Classification | None]) -> str:
    """How the runs of one arm end, one a seed, with the slope in nats per 1,000 steps.

    One run: "converged, -0.0004 [-0.0011, 0.0003]" (95 %); several: "3/3 converged, mean -0.0004".
    None stands for a log that cannot be used.
    """
    there = [end for end in ends if end is not None]
    if not there:
        return "no log"
    slopes = [end.slope_per_1k for end in there if end.slope_per_1k is not None]
    if len(ends) == 1:
        words: str = there[0].ending
        if slopes:
            words += f", {slopes[0]:.2g} [{there[0].slope_low:.2g}, {there[0].slope_high:.2g}]"
        return words
    counts = Counter(end.ending for end in there)
    words = ", ".join(f"{count}/{len(ends)} {ending}" for ending, count in counts.items())
    return f"{words}, mean {np.mean(slopes):.2g}" if slopes else words


def _phase(curve: Curve, threshold: float, span: int) -> dict[str, Any]:
    """The index of one phase, and how it moves with half and twice the smoothing span."""

    def index(span: int) -> SampleEfficiency:
        return sample_efficiency(
            curve.steps, curve.losses, curve.tokens_per_step, threshold, smoothing_span=span
        )

    others = {str(other): index(other) for other in (max(2, span // 2), 2 * span)}
    return {
        **asdict(index(span)),
        "sei_by_smoothing_span": {span: other.sei for span, other in others.items()},
        "step_by_smoothing_span": {span: other.step for span, other in others.items()},
    }


def _entry(law: PowerLaw) -> dict[str, Any]:
    """A power law as JSON has it."""
    return {
        name: value._asdict() if isinstance(value, Interval) else value
        for name, value in vars(law).items()
    }
