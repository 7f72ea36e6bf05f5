"""Rules about the control network: what its signals do, and what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ncn.claims.rule import (
    BENCH,
    EVALUATE,
    NO,
    SCAN,
    UNDECIDED,
    YES,
    ElsewhereError,
    Finding,
    Judgement,
    Metrics,
    MissingError,
    claim,
    counted,
    look,
)
from ncn.common.paths import BENCHMARK, SCAN_TESTS
from ncn.published_run import GAIN_RANGE, PRECISION_CLAMP
from ncn.statistics.interval import LEVEL

NEGLIGIBLE = 0.05  # share of time or FLOPs
ROUNDING = 1e-3  # of the largest logit: what a different order of sums may change
FP16_ERROR = 0.01  # nats a token: more counts as a failure of fp16
OFF = 0.5  # a gate below it has closed by more than half


@claim(
    "layers", "Layers specialise: layer 1 precise, layer 2 broad", "5", SCAN, needs=("precision",)
)
def layers_specialise(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run the layers' mean precisions differ more than at other
    initialisations (p < 0.05 after Holm) with layer 1 the highest and layer 2 the lowest; not
    supported if either fails; undecided with too few initialisations for such a p.
    """
    tests = [metrics.scan(run, "specialisation") for run in metrics.runs(arm)]
    signals = [look(test, SCAN_TESTS, "precision") for test in tests]
    p = max(look(signal, SCAN_TESTS, "p_holm") for signal in signals)
    means = [look(signal, SCAN_TESTS, "layer_means") for signal in signals]
    if len(means[0]) < 2:
        raise ElsewhereError("the model has one layer")
    as_said = [
        each[0] == max(each) and each[1] == min(each) and each[0] > each[1] for each in means
    ]
    shown = "; ".join(", ".join(f"{value:.3f}" for value in each) for each in means[:3])
    return Finding(
        NO if not all(as_said) else YES if p < LEVEL else failed(metrics, tests),
        f"Mean precision by layer {shown}; order as claimed in {sum(as_said)} of"
        f" {counted(means, 'run')}, spread beyond other initialisations at p = {p:.3g}.",
        means[0][0] - means[0][1],
        unit="precision, layer 1 - layer 2",
    )


@claim("but", 'The control network reacts at "but"', "5", SCAN)
def reacts_at_word(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run some signal sets "but" apart from tokens as frequent and more than
    other initialisations do (both p < 0.05 after Holm over signals); not supported otherwise;
    undecided with too few initialisations for such a p.
    """
    words = [metrics.scan(run, "word") for run in metrics.runs(arm)]
    clearest, tests = [], []
    for word in words:
        if reason := word.get("reason"):
            raise MissingError(f"{SCAN_TESTS}: {reason}")
        signals = look(word, SCAN_TESTS, "signals")
        tests.append(signals)
        both = ("p_tokens_holm", "p_initialisations_holm")
        found = [
            (max(look(each, SCAN_TESTS, name) for name in both), look(each, SCAN_TESTS, "effect"))
            for each in signals.values()
        ]
        if not found:
            raise MissingError(f"{SCAN_TESTS} has no signal that varies")
        clearest.append(min(found))
    p, effect = max(clearest)
    return Finding(
        YES if p < LEVEL else failed(metrics, tests),
        f"{look(words[0], SCAN_TESTS, 'occurrences')} occurrences; p = {p:.3g}, and"
        f" {effect:+.2f} standard deviations from tokens as frequent, in the run and signal that"
        " decide.",
        effect,
        unit="standard deviations",
    )


@claim("gain_range", "The gain stays between 0.99 and 1.05", "5", SCAN, needs=("gain",))
def gain_range(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run at least 99 % of the gains on validation text lie in 0.99 to 1.05;
    not supported otherwise.
    """
    tests = [metrics.scan(run, "gain_range") for run in metrics.runs(arm)]
    inside = min(look(test, SCAN_TESTS, "share_inside") for test in tests)
    low = min(look(test, SCAN_TESTS, "low") for test in tests)
    high = max(look(test, SCAN_TESTS, "high") for test in tests)
    return Finding(
        YES if inside >= 0.99 else NO,
        f"Gains from {low:.3f} to {high:.3f}; {inside:.1%} lie in"
        f" {GAIN_RANGE[0]} to {GAIN_RANGE[1]}.",
        inside,
        unit="share inside",
    )


@claim("gate", "The feed-forward gate switches off for easy tokens", "5", SCAN, needs=("ffn_gate",))
def gate_switches_off(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run the feed-forward gate rises with the token's loss (interval of the
    rank correlation above 0) and is below 0.5 on the easiest tenth; not supported otherwise.
    """
    tests = [metrics.scan(run, "easy_tokens") for run in metrics.runs(arm)]
    rho = [look(test, SCAN_TESTS, "signals", "ffn_gate", "rho") for test in tests]
    easiest = max(look(test, SCAN_TESTS, "gate_easiest") for test in tests)
    hardest = max(look(test, SCAN_TESTS, "gate_hardest") for test in tests)
    lowest = min(low for _, low, _ in rho)
    return Finding(
        YES if lowest > 0 and easiest < OFF else NO,
        f"Rank correlation of gate and token loss {rho[0][0]:+.3f} [{rho[0][1]:+.3f},"
        f" {rho[0][2]:+.3f}]; mean gate {easiest:.3f} on the easiest tenth of the tokens,"
        f" {hardest:.3f} on the hardest.",
        rho[0][0],
        rho[0][1:],
        "rank correlation",
    )


@claim(
    "shielding",
    "Gradient shielding: a branch's gradient scales with its gain",
    "3",
    EVALUATE,
    needs=("gain",),
)
def shielding(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run and layer a lower gain lowers the gradient at the branch's output
    in proportion (direct elasticity 1 +- 0.01) and that of its weights too (elasticity above 0);
    not supported otherwise.
    """
    probes = [metrics.probe(run, "gradient_elasticity") for run in metrics.runs(arm)]
    direct = [value for each in probes for value in look(each, "probes", "direct")]
    total = [value for each in probes for value in look(each, "probes", "total")]
    proportional = all(abs(value - 1) <= 0.01 for value in direct)
    return Finding(
        YES if proportional and min(total) > 0 else NO,
        f"Elasticity of the gradient to the gain: {min(direct):.3f} to {max(direct):.3f} at the"
        f" branch's output, which the chain rule makes 1; {min(total):.2f} to {max(total):.2f} by"
        " layer for the branch's weights once the rest of the model sees the change.",
        sum(total) / len(total),
        [min(total), max(total)],
        "d log gradient / d log gain",
    )


@claim("overhead", "The control network costs next to nothing", "3", BENCH)
def overhead(metrics: Metrics, arm: str) -> Finding:
    """Supported if a training step takes at most 1.05 of the baseline's time (`make bench`) and the
    control network at most 5 % of the FLOPs; not supported if either is more.
    """
    cost = metrics.probe(metrics.runs(arm)[0], "cost")
    flops = look(cost, "probes", "flop_share")
    share = look(cost, "probes", "parameter_share")
    said = f"{share:.2%} of the parameters, {flops:.2%} of the FLOPs"
    if flops > NEGLIGIBLE:
        return Finding(NO, f"The control network has {said}.", flops, unit="share of FLOPs")
    ratio = look(metrics.benchmark, BENCHMARK, "training_step", "arms", arm, "ratio")
    return Finding(
        YES if ratio <= 1 + NEGLIGIBLE else NO,
        f"A training step of the published size takes {ratio:.3f} of the baseline's time; here the"
        f" control network has {said}.",
        ratio,
        unit="time, baseline = 1",
    )


@claim("fp16", "Precision above 4 is where fp16 fails", "3.5", EVALUATE, needs=("precision",))
def fp16_fails_above_4(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run fp16 gives the fp32 loss within 0.01 nats at every forced precision
    up to 4 and not at 8; not supported otherwise.
    """
    probes = [metrics.probe(run, "half_precision") for run in metrics.runs(arm)]
    holds_at: list[float] = []
    fails_at: list[float] = []
    for points in probes:
        for point in points:
            low, loss = point.get("loss_fp16"), look(point, "probes", "loss")
            fine = low is not None and abs(low - loss) <= FP16_ERROR
            (holds_at if fine else fails_at).append(look(point, "probes", "precision"))
    if not holds_at and not fails_at:
        raise MissingError("no forced precision was measured")
    clear = (
        all(p > PRECISION_CLAMP for p in fails_at)
        and fails_at
        and min(fails_at) <= 2 * PRECISION_CLAMP
    )
    highest = max(holds_at, default=0.0)
    failing = f"fails first at {min(fails_at):g}" if fails_at else "fails at none that was tried"
    return Finding(
        YES if clear and highest <= PRECISION_CLAMP else NO,
        f"fp16 gives the fp32 loss up to a precision of {highest:g} and {failing}.",
        highest,
        unit="precision",
    )


@claim("cache", "Compatible with the key-value cache", "3.2", EVALUATE)
def cache_compatible(metrics: Metrics, arm: str) -> Finding:
    """Supported if in every run the logits from the caches equal those of one pass in the trained
    mode, to 0.1 % of the largest logit; not supported otherwise.
    """
    caches = [metrics.probe(run, "cache") for run in metrics.runs(arm)]
    relative = max(
        look(cache, "probes", "difference") / look(cache, "probes", "largest_logit")
        for cache in caches
    )
    mode = caches[0].get("salience") or "no"
    return Finding(
        YES if relative <= ROUNDING else NO,
        f"Generated with {mode} salience, cached logits differ from the trained function's by up to"
        f" {max(cache['difference'] for cache in caches):.3g} ({relative:.2g} of the largest"
        " logit).",
        relative,
        unit="of the largest logit",
    )


def failed(metrics: Metrics, tests: Sequence[Mapping[str, Any]]) -> Judgement:
    """The verdict on a test against other initialisations that did not reach LEVEL.

    With too few of them none could have: the least p is 1 in 1 + so many, and Holm multiplies it by
    the arm's signals that were tested, the keys of `tests`, one a run.
    """
    least = max(map(len, tests)) / (1 + metrics.params.brain_scan.initialisations)
    return NO if least < LEVEL else UNDECIDED
