"""Rules about the method against another: static control, the other start, the plain baseline."""

import math

from ncn.analysis.comparison import BASELINE
from ncn.analysis.verdict import reads_the_future
from ncn.claims.rule import (
    CURVES,
    EVALUATE,
    NEGLIGIBLE,
    UNDECIDED,
    YES,
    ElsewhereError,
    Finding,
    Metrics,
    MissingError,
    claim,
    look,
)
from ncn.claims.seeds import answers, curves, finding, of_the_method, p_of
from ncn.common.paths import CONVERGENCE, SUMMARY
from ncn.statistics.interval import LEVEL

ONE_IN_TWENTY = math.log(1.05)  # 5 % of tokens, or of a variance: less is negligible
ERROR_WORTH = 0.01  # of probability


@claim("dynamic", "Dynamic control beats static control", "", EVALUATE)
def dynamic_beats_static(metrics: Metrics, arm: str) -> Finding:
    """The static arm learns one number a layer and signal, whatever the text. Supported if the
    arm's loss is lower by the 95 % interval over at least two seeds, real but negligible if by
    surely less than 0.01 nats, and either only if p is below 0.05 after Bonferroni over all that
    is compared with the baseline and with static control; not supported if surely by less than that
    and not surely lower; else undecided; not testable without such an arm.
    """
    params = metrics.params
    static = [each for each in params.arms if params.control_network(each).controller == "static"]
    if not static:
        raise ElsewhereError("no arm has static control")
    mine, theirs = (answers(metrics, each, "loss") for each in (arm, static[0]))
    gains = [still - moving for moving, still in zip(mine, theirs, strict=True)]
    arms = metrics.comparison.get("arms", {})
    sizes = [arms.get(each, {}).get("parameters") for each in (arm, static[0])]
    having = f" ({sizes[0]:,} and {sizes[1]:,} parameters)" if all(sizes) else ""
    found = finding(
        of_the_method(gains),
        gains,
        f"The gain over {static[0]} is {{}}{having}",
        "nats a token",
    )
    if found.verdict not in (YES, NEGLIGIBLE):
        return found
    control = [params.control_network(each).controller for each in params.arms]
    beside = len(control) - control.count("static") - control.count("none")
    tests = metrics.comparison.get("comparisons", 0) + beside
    p = min(1.0, tests * p_of(gains))
    told = f"{found.evidence} p = {p:.2g} after Bonferroni over {tests} comparisons."
    return found._replace(evidence=told, verdict=found.verdict if p < LEVEL else UNDECIDED)


@claim(
    "shock",
    "A zeroed start shocks and throttles; the identity start avoids it",
    "4.1.4",
    CURVES,
    needs=None,
)
def zero_start_shocks(metrics: Metrics) -> Finding:
    """Of two arms that differ in `ncn.init` alone, the mean training loss of the first 200 steps.
    Supported if the zeroed start's is higher by the 95 % interval over at least two seeds, real
    but negligible if by surely less than 0.01 nats; not supported if surely by less than that and
    not surely higher; else undecided; not testable without such arms.
    """
    params = metrics.params
    networks = {arm: params.control_network(arm) for arm in params.arms}
    pairs = [
        (zero, other)
        for zero, control in networks.items()
        for other, theirs in networks.items()
        if control.controller != "none"
        and control.init == "zero"
        and not control.frozen
        and control.model_copy(update={"init": "identity"}) == theirs
    ]
    if not pairs:
        raise ElsewhereError("no two arms differ in ncn.init alone")
    zero, identity = pairs[0]
    losses = (curves(metrics, arm, "descent", "first_loss") for arm in (zero, identity))
    costs = [shocked - calm for shocked, calm in zip(*losses, strict=True)]
    return finding(
        of_the_method(costs),
        costs,
        f"Over the first 200 steps the loss of {zero} minus that of {identity} is {{}}",
        "nats a token",
    )


@claim("smooth", "A smoother descent of the loss", "", CURVES)
def smoother_descent(metrics: Metrics, arm: str) -> Finding:
    """The variance of the change from one logged loss to the next, after warm-up. Supported if it
    is lower than the baseline's by the 95 % interval of the log ratio over at least two seeds, real
    but negligible if by surely less than 5 %; not supported if surely by less than that and not
    surely lower; else undecided.
    """
    mine, theirs = (curves(metrics, each, "descent", "roughness") for each in (arm, BASELINE))
    gains = [math.log(plain / own) for own, plain in zip(mine, theirs, strict=True)]
    return finding(
        of_the_method(gains),
        gains,
        "ln(baseline's variance of the loss's change / the arm's) is {}",
        "log ratio of variances",
        ONE_IN_TWENTY,
    )


@claim("efficiency", "Fewer tokens to the same loss", "5.2", CURVES)
def sample_efficiency(metrics: Metrics, arm: str) -> Finding:
    """Tokens until the smoothed training loss reaches each target of `convergence.loss_targets`
    that every run of the arm and the baseline reaches. Supported if the arm needs fewer by the
    95 % interval of the mean log ratio over at least two seeds, real but negligible if surely less
    than 5 % fewer; not supported if surely less than that and not surely fewer; else undecided, as
    where the training loss reads the future.
    """
    look(metrics.summary, SUMMARY, arm, "future_leak")
    if reads_the_future(metrics.summary[arm]):
        raise MissingError(f"a training loss of {arm} that does not read the future")
    mine, theirs = (curves(metrics, each, "tokens_to_reach") for each in (arm, BASELINE))
    targets = [name for name in mine[0] if all(each.get(name) for each in [*mine, *theirs])]
    if not targets:
        raise MissingError(f"{CONVERGENCE} has no target loss that all runs reach")
    gains = [
        sum(math.log(plain[name] / own[name]) for name in targets) / len(targets)
        for own, plain in zip(mine, theirs, strict=True)
    ]
    return finding(
        of_the_method(gains),
        gains,
        f"ln(baseline's tokens / the arm's) to a loss of {', '.join(targets)} is {{}}",
        "log ratio of tokens",
        ONE_IN_TWENTY,
    )


@claim("calibration", "Better calibrated than a plain transformer", "", EVALUATE)
def better_calibrated(metrics: Metrics, arm: str) -> Finding:
    """The expected calibration error of the next-token probabilities, 15 bins. Supported if lower
    than the baseline's by the 95 % interval over at least two seeds, real but negligible if by
    surely less than 0.01; not supported if surely by less than that and not surely lower; else
    undecided.
    """
    mine, theirs = (answers(metrics, each, "calibration", "error") for each in (arm, BASELINE))
    gains = [plain - own for own, plain in zip(mine, theirs, strict=True)]
    return finding(
        of_the_method(gains),
        gains,
        f"Mean calibration error {sum(mine) / len(mine):.4f}, the baseline's"
        f" {sum(theirs) / len(theirs):.4f}: lower by {{}}",
        "probability",
        ERROR_WORTH,
    )
