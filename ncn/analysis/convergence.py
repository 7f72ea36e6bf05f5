"""How fast a training run learns, and whether it still does (preprint 4.1.2 and 5.2).

Two published measures, computed as published, and beside each what keeps a reader from being
fooled by it: the slope has an interval, the index is repeated with other windows, and two robust
measures (tokens to reach a loss, a power law with offset) stand next to it.

Losses are mean nats per token, which is the log-perplexity: ln(PPL) = loss.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter
from scipy.optimize import OptimizeWarning, curve_fit

from ncn.common.errors import InputError
from ncn.statistics.interval import Floats, Interval
from ncn.statistics.sample import student

Status = Literal["diverging", "converged", "still improving", "undecided"]
Ending = Literal["diverging", "converged", "still improving", "cannot be told", "undecided"]
FLAT = -0.001  # nats per 1,000 steps: a slope above it counts as none
FEWEST_POINTS = 5  # below, a slope or a phase says nothing
FEWEST_TO_FIT = 10  # three parameters and an interval for each
MAX_EXPONENT = 3.0  # of the power law; language models lie between 0.05 and 1


@dataclass(frozen=True)
class Classification:
    """How a run ends. `short`, `long`: EWMAs of the loss, [points].

    `status` is the published rule's word, `ending` what can be said: the one that files and pages
    have.

    `slope_per_1k` is in nats per 1,000 steps, `slope_low` and `slope_high` its 95 % interval;
    None where the status is "undecided": fewer than 5 points.
    """

    status: Status
    slope_per_1k: float | None
    slope_low: float | None
    slope_high: float | None
    short: Floats
    long: Floats
    short_span: int
    long_span: int

    @property
    def ending(self) -> Ending:
        """The status that the slope's interval as a whole bears out, or that it cannot be told.

        Diverging above 0; still improving below -0.001; converged above -0.001, where the interval
        covers 0 or lies below it.
        """
        if self.slope_low is None or self.slope_high is None:
            return "undecided"
        if self.slope_low > 0:
            return "diverging"
        if self.slope_high < FLAT:
            return "still improving"
        return "converged" if self.slope_low > FLAT else "cannot be told"


@dataclass(frozen=True)
class SampleEfficiency:
    """The index and the step at which the phase ended; None, with a reason, if it has not."""

    sei: float | None
    step: int | None
    converged: bool
    reason: str | None = None


@dataclass(frozen=True)
class PowerLaw:
    """L = a + b N^-c: a in nats, N in tokens; all None, with a reason, if it cannot be fitted."""

    a: Interval | None = None
    b: Interval | None = None
    c: Interval | None = None
    reason: str | None = None


def ewma(values: Floats, span: int) -> Floats:
    """Recursive moving average y_t = y_(t-1) + 2/(span+1) (x_t - y_(t-1)), y_0 = x_0; [points]."""
    alpha = 2 / (span + 1)
    return np.array(list(accumulate(values.tolist(), lambda y, x: y + alpha * (x - y))))


def velocity(losses: Floats, span: int) -> Floats:
    """How the smoothed loss moves, nats a logged point, smoothed once more; [points]."""
    return _centred_mean(np.gradient(ewma(losses, span)), span)


def classify(
    steps: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    short_span: float = 0.02,
    long_span: float = 0.15,
    slope_share: float = 0.15,
) -> Classification:
    """Whether a run has converged, by the least-squares slope of its last losses.

    slope > 0: diverging; > -0.001 nats per 1,000 steps: converged; else still improving.
    The rule looks at the estimate alone; `Classification.ending` looks at its interval.

    Args:
        steps: optimiser steps of the logged points, increasing.
        losses: nats per token, [points].
        short_span: of the short EWMA, as a share of the points; at least 5 points.
        long_span: likewise of the long one; at least 20.
        slope_share: the share of the points, at the end, on which the slope is fitted.

    Raises:
        InputError: unequal lengths, no points, steps that do not increase, a loss not finite.

    Source: preprint 4.1.2.
    """
    x, y = checked_series(steps, losses, "steps")
    spans = max(5, int(short_span * len(y))), max(20, int(long_span * len(y)))
    status: Status = "undecided"
    slope, half_width = None, 0.0
    if len(y) >= FEWEST_POINTS:
        last = max(3, int(slope_share * len(y)))
        slope, half_width = _slope(x[-last:] / 1000, y[-last:])
        status = "diverging" if slope > 0 else "converged" if slope > FLAT else "still improving"
    return Classification(
        status=status,
        slope_per_1k=slope,
        slope_low=None if slope is None else slope - half_width,
        slope_high=None if slope is None else slope + half_width,
        short=ewma(y, spans[0]),
        long=ewma(y, spans[1]),
        short_span=spans[0],
        long_span=spans[1],
    )


def sample_efficiency(
    steps: npt.ArrayLike,
    losses: npt.ArrayLike,
    tokens_per_step: float,
    threshold: float,
    *,
    smoothing_span: int = 50,
    skip: float = 0.05,
) -> SampleEfficiency:
    """The Sample Efficiency Index: how steeply ln(loss) falls on ln(tokens) while a phase lasts.

    The loss is smoothed (EWMA), its velocity (central difference per logged point) once more (a
    centred mean that shrinks at the ends). The phase ends at the first point after the fastest
    velocity v at which the velocity is above threshold * v. The index is the absolute
    least-squares slope of ln(raw loss) on ln(tokens) up to and including that point. It depends
    much on the smoothing: compare only runs that were logged and smoothed alike.

    Args:
        steps: optimiser steps of the logged points, positive, increasing.
        losses: nats per token, positive, [points].
        tokens_per_step: target tokens per step, positive; a factor, it leaves the index as it is.
        threshold: in (0, 1); published 0.05 ("95 %, grammar") and 0.01 ("99 %, intellectual").
        smoothing_span: points, of the EWMA and of the centred mean.
        skip: share of the phase's points dropped at its start.

    Raises:
        InputError: as `classify`, and for values outside the ranges above.

    Source: preprint 5.2.
    """
    x, y = checked_series(steps, losses, "steps", positive=True)
    if not 0 < threshold < 1:
        raise InputError(f"threshold is {threshold}; it must lie between 0 and 1")
    if not 0 < tokens_per_step < np.inf:
        raise InputError(f"tokens_per_step is {tokens_per_step}; it must be positive")
    if len(y) < FEWEST_POINTS:
        return SampleEfficiency(None, None, False, _too_few(len(y), FEWEST_POINTS))
    speed = velocity(y, smoothing_span)
    fastest = int(speed.argmin())
    if speed[fastest] >= 0:
        return SampleEfficiency(None, None, False, "the loss never falls")
    slower = np.flatnonzero(speed[fastest:] > threshold * speed[fastest])
    if not len(slower):
        return SampleEfficiency(None, None, False, "the phase has not ended")
    end = fastest + int(slower[0])
    phase = slice(int(skip * (end + 1)), end + 1)
    slope, _ = _slope(np.log(x[phase] * tokens_per_step), np.log(y[phase]))
    return SampleEfficiency(abs(slope), int(x[end]), True)


def tokens_to_reach(
    tokens: npt.ArrayLike,
    losses: npt.ArrayLike,
    targets: Sequence[float],
    *,
    short_span: float = 0.02,
) -> dict[float, int | None]:
    """For each target loss, the tokens at the first logged point whose running median is <= target.

    None if that never happens. The median is over the points around each one (centred, reflected
    at the ends), as many as the short EWMA of `classify` spans, made odd: no lucky window counts,
    and a falling curve is left as it is, where an EWMA would trail it by several windows.

    Raises:
        InputError: as `classify`.
    """
    x, y = checked_series(tokens, losses, "tokens")
    half = max(5, int(short_span * len(y))) // 2
    smoothed = median_filter(y, size=2 * half + 1, mode="reflect")
    reached = {target: np.flatnonzero(smoothed <= target) for target in targets}
    return {target: int(x[i[0]]) if len(i) else None for target, i in reached.items()}


def power_law(tokens: npt.ArrayLike, losses: npt.ArrayLike, *, skip: float = 0.05) -> PowerLaw:
    """Fit L = a + b N^-c by least squares, with 95 % intervals for a, b and c.

    a >= 0 is the loss that more tokens of this kind would not go below, c how fast it is
    approached. One run under a falling learning rate ends lower than a power law says, so this
    describes a curve and does not extrapolate it.

    Args:
        tokens: target tokens seen so far, N > 0, increasing, [points].
        losses: nats per token, positive, [points].
        skip: share of the points dropped at the start: warm-up follows no power law.

    Raises:
        InputError: as `classify`, and for tokens or losses that are not positive.
    """
    x, y = checked_series(tokens, losses, "tokens", positive=True)
    x, y = x[int(skip * len(x)) :], y[int(skip * len(y)) :]
    if len(y) < FEWEST_TO_FIT:
        return PowerLaw(reason=_too_few(len(y), FEWEST_TO_FIT))
    # Around the mean of ln N, ln b is nearly uncorrelated with c; at N = 1 it is a far
    # extrapolation on which the optimiser stalls.
    centre = np.log(x).mean()
    log_n = np.log(x) - centre
    low, high = np.array([0, -30, 0]), np.array([y.max(), 10, MAX_EXPONENT])
    floor = 0.9 * y.min()
    start = [floor, np.clip(np.log(y.mean() - floor), -29, 9), 0.5]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            best, covariance = curve_fit(_offset_power, log_n, y, start, bounds=(low, high))
    except (RuntimeError, OptimizeWarning):
        return PowerLaw(reason="the fit did not converge")
    if np.any(best - low < 1e-6) or np.any(high - best < 1e-6):
        return PowerLaw(reason="the curve determines no power law: the fit ends at a bound")
    wide = student(len(y) - 3) * _autocorrelation_factor(y - _offset_power(log_n, *best))
    error = wide * np.sqrt(np.diag(covariance))
    if error[2] >= best[2]:
        return PowerLaw(reason="the curve determines no power law: the interval of c covers 0")
    log_b = best[1] + best[2] * centre
    log_b_error = wide * np.sqrt(np.array([1, centre]) @ covariance[1:, 1:] @ [1, centre])
    return PowerLaw(
        a=Interval(float(best[0]), float(best[0] - error[0]), float(best[0] + error[0])),
        b=Interval(*(float(np.exp(log_b + sign * log_b_error)) for sign in (0, -1, 1))),
        c=Interval(float(best[2]), float(best[2] - error[2]), float(best[2] + error[2])),
    )


def checked_series(
    x: npt.ArrayLike, losses: npt.ArrayLike, name: str, positive: bool = False
) -> tuple[Floats, Floats]:
    """Both series as float64 [points]; InputError names the first point that cannot be used."""
    try:
        steps, values = np.asarray(x, np.float64), np.asarray(losses, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} and losses must be lists of numbers") from None
    if steps.ndim != 1 or steps.shape != values.shape or not len(steps):
        raise InputError(
            f"{name} and losses must be two lists of one length, at least one point;"
            f" they have the shapes {list(steps.shape)} and {list(values.shape)}"
        )
    for label, series in ((name, steps), ("losses", values)):
        usable = np.isfinite(series) & ((series > 0) | (not positive))
        if not usable.all():
            i = int(usable.argmin())
            kind = "a positive number" if positive else "a finite number"
            raise InputError(f"{label}: point {i + 1} is {series[i]:g}; it must be {kind}")
    if np.any(np.diff(steps) <= 0):
        i = int((np.diff(steps) <= 0).argmax())
        raise InputError(f"{name} must increase; {steps[i]:g} is followed by {steps[i + 1]:g}")
    return steps, values


def _slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Least-squares slope of y on x, and the half-width of its 95 % interval."""
    resolution = np.finfo(np.float64).eps * np.abs(y).max()
    x, y = x - x.mean(), y - y[0]
    slope = float(x @ y / (x @ x))
    if abs(slope) * np.ptp(x) <= resolution:  # a flat tail has slope 0, not its rounding's sign
        slope = 0.0
    freedom = len(x) - 2
    if freedom < 1:
        return slope, 0.0
    residual = y - y.mean() - slope * x
    error = np.sqrt(residual @ residual / freedom / (x @ x))
    return slope, student(freedom) * float(error)


def _centred_mean(values: Floats, width: int) -> Floats:
    """Mean of the `width` points around each one, of those that exist at the ends; [points].

    An even width takes one more point before than after (points i-25 ... i+24 for 50).
    """
    box = np.ones(width)
    centred = slice((width - 1) // 2, (width - 1) // 2 + len(values))
    counts = np.convolve(np.ones_like(values), box)[centred]
    mean: Floats = np.convolve(values, box)[centred] / counts
    return mean


def _offset_power(log_n: Floats, a: float, log_b: float, c: float) -> Floats:
    """a + b N^-c with N given as ln N and b as ln b."""
    loss: Floats = a + np.exp(log_b - c * log_n)
    return loss


def _autocorrelation_factor(residual: Floats) -> float:
    """sqrt((1 + r) / (1 - r)), r the lag-1 autocorrelation: neighbours that err alike count less.

    Least squares takes residuals for independent, and its intervals come out too narrow.
    """
    energy = residual @ residual
    r = float(residual[1:] @ residual[:-1] / energy) if energy > 0 else 0.0
    r = min(max(r, 0.0), 0.99)
    return float(np.sqrt((1 + r) / (1 - r)))


def _too_few(points: int, needed: int) -> str:
    return f"{points} usable points; at least {needed} are needed"
