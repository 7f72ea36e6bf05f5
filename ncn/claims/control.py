"""Rules about the control network: what its signals do, and what it costs."""

import math
from typing import Any

from ncn.claims.rule import (
    BENCH,
    EVALUATE,
    NEGLIGIBLE,
    NO,
    SCAN,
    UNDECIDED,
    YES,
    ElsewhereError,
    Finding,
    Metrics,
    MissingError,
    claim,
    counted,
    failed,
    look,
    most_of,
    over_seeds,
    p_in_words,
)
from ncn.common.paths import BENCHMARK, CONVERGENCE, SCAN_TESTS
from ncn.published.claimed import GAIN_RANGE, NEAR_ZERO, PRECISION_CLAMP
from ncn.settings import PLAIN, Params
from ncn.statistics.interval import LEVEL, Interval

PRECISE, BROAD = 1, 2  # rows of the published figure, whose axis runs from 0 to 5
APART = 0.05  # of a precision or a gate: less is no difference worth the name
SMALL_EFFECT = 0.2  # standard deviations: likewise
IN_CONTEXTS = 0.9  # the share of a word's contexts in which it has to act alike
SMALL_COST = 0.05  # share of time or FLOPs
ROUNDING = 1e-3  # of the largest logit: what a different order of sums may change
SAME_LOSS = 0.01  # nats a token: less costs nothing
SCALER_START = 16  # log2 of the loss scale that a scaler starts at
UNCLAMPED = 32.0  # a precision_max from there on is no limit in practice


@claim(
    "layers",
    "Layers specialise: layer 1 (second row) precise, layer 2 (third row) broad",
    "5",
    SCAN,
    needs=("precision",),
)
def layers_specialise(metrics: Metrics, arm: str) -> Finding:
    """Layers are numbered from 0, as in the preprint. Supported if layer 1 has the highest and
    layer 2 the lowest mean precision (95 % interval of the smaller margin above 0) and the layers
    differ more than at other initialisations (p < 0.05 after Holm, in most runs); real but
    negligible if layers 1 and 2 are less than 0.05 apart; not supported if the interval lies below
    0 or p is larger; undecided if it covers 0, or with too few initialisations for such a p.
    """
    tests = [metrics.scan(run, "specialisation") for run in metrics.runs(arm)]
    signals = [look(test, SCAN_TESTS, "precision") for test in tests]
    means = [look(signal, SCAN_TESTS, "layer_means") for signal in signals]
    if len(means[0]) <= BROAD:
        raise ElsewhereError(f"the model has {counted(means[0], 'layer')}, no layer {BROAD}")
    p = most_of([look(signal, SCAN_TESTS, "p_holm") for signal in signals])
    least = most_of([len(test) / (1 + initialisations(metrics)) for test in tests])
    margin = over_seeds([_margin(each) for each in means])
    apart = over_seeds([each[PRECISE] - each[BROAD] for each in means])
    if margin.high <= 0:
        verdict = NO
    elif p >= LEVEL:
        verdict = failed(least)
    elif margin.low <= 0:
        verdict = UNDECIDED
    else:
        verdict = YES if apart.value >= APART else NEGLIGIBLE
    by_layer = [sum(column) / len(means) for column in zip(*means, strict=True)]
    return Finding(
        verdict,
        f"Mean precision by layer, from 0: {', '.join(f'{value:.3f}' for value in by_layer)}; order"
        f" as claimed in {sum(_margin(each) > 0 for each in means)} of {counted(means, 'run')};"
        f" spread beyond other initialisations at {p_in_words(p, least)}.",
        apart.value,
        [*apart[1:]],
        "precision, layer 1 - layer 2",
    )


def _margin(means: list[float]) -> float:
    """By how much layer 1 is the highest and layer 2 the lowest, the smaller of the two."""
    others = [mean for layer, mean in enumerate(means) if layer not in (PRECISE, BROAD)]
    precise, broad = means[PRECISE], means[BROAD]
    return min(precise - max([broad, *others]), min([precise, *others]) - broad)


def initialisations(metrics: Metrics) -> int:
    """How many untrained networks a run is compared with."""
    return metrics.params.brain_scan.initialisations


@claim("but", 'Precision reacts at "but", in the deeper layers', "5", SCAN, needs=("precision",))
def reacts_at_word(metrics: Metrics, arm: str) -> Finding:
    """Judged on the precision of the deeper half of the layers. Supported if "but" is set apart
    from tokens as frequent, and more than by other initialisations (both p < 0.05, in most runs),
    on the same side of them in at least 90 % of its contexts; real but negligible if by less than
    0.2 standard deviations; not supported otherwise; undecided with too few initialisations or
    tokens for such a p.
    """
    words = [metrics.scan(run, "word") for run in metrics.runs(arm)]
    for word in words:
        if reason := word.get("reason"):
            raise MissingError(f"{SCAN_TESTS}: {reason}")
    deeper = [look(word, SCAN_TESTS, "deeper") for word in words]
    both = ("p_tokens", "p_initialisations")
    p = most_of([max(look(each, SCAN_TESTS, name) for name in both) for each in deeper])
    matched = min(look(word, SCAN_TESTS, "matched") for word in words)
    least = most_of([1 / (1 + min(matched, initialisations(metrics)))] * len(words))
    own = [look(each, SCAN_TESTS, "effect") for each in deeper]
    effect = over_seeds([each[0] for each in own], own[0])
    alike = over_seeds([look(each, SCAN_TESTS, "same_side") for each in deeper]).value
    identity = over_seeds([look(each, SCAN_TESTS, "identity") for each in deeper]).value
    if p >= LEVEL:
        verdict = failed(least)
    elif abs(effect.value) < SMALL_EFFECT:
        verdict = NEGLIGIBLE
    else:
        verdict = YES if alike >= IN_CONTEXTS else NO
    return Finding(
        verdict,
        f"{look(words[0], SCAN_TESTS, 'occurrences')} occurrences, {effect.value:+.2f} standard"
        f" deviations from tokens as frequent, on that side in {alike:.0%} of them;"
        f" {p_in_words(p, least)}. Which token it is explains {identity:.0%} of this precision's"
        " variance over all tokens: so much a lookup by token would do too.",
        effect.value,
        [*effect[1:]],
        "standard deviations",
    )


@claim("gain_range", "The gain stays between 0.99 and 1.05", "5", SCAN, needs=("gain",))
def gain_range(metrics: Metrics, arm: str) -> Finding:
    """Supported if at least 99 % of the gains on validation text, of all runs together, lie in 0.99
    to 1.05; not supported otherwise.
    """
    tests = [metrics.scan(run, "gain_range") for run in metrics.runs(arm)]
    inside = over_seeds([look(test, SCAN_TESTS, "share_inside") for test in tests]).value
    low = min(look(test, SCAN_TESTS, "low") for test in tests)
    high = max(look(test, SCAN_TESTS, "high") for test in tests)
    return Finding(
        YES if inside >= 0.99 else NO,
        f"Gains from {low:.3f} to {high:.3f}; {inside:.1%} lie in"
        f" {GAIN_RANGE[0]} to {GAIN_RANGE[1]}.",
        inside,
        unit="share inside",
    )


@claim(
    "gate", "The feed-forward gate switches off for common tokens", "5", SCAN, needs=("ffn_gate",)
)
def gate_switches_off(metrics: Metrics, arm: str) -> Finding:
    """Judged in the layer whose gate is lowest on common tokens (the fewest types that make up half
    of the text). Supported if it is below 0.1 there, below its value on the other tokens (95 %
    interval), and closing it there costs at most 0.01 nats a token; real but negligible if it is
    lower on common tokens by less than 0.05; undecided if below 0.1 and the interval covers 0; not
    supported otherwise.
    """
    runs = metrics.runs(arm)
    scans = [look(metrics.scan(run, "easy_tokens"), SCAN_TESTS, "common", "layers") for run in runs]
    closed = [metrics.probe(run, "gate_closed") for run in runs]
    on_common = [
        sum(look(each, SCAN_TESTS, "common") for each in layers) / len(runs)
        for layers in zip(*scans, strict=True)
    ]
    layer = on_common.index(min(on_common))
    own = [look(each[layer], SCAN_TESTS, "difference") for each in scans]
    difference = over_seeds([each[0] for each in own], own[0])
    cost = over_seeds([look(each, "probes", "layers")[layer] for each in closed]).value
    whole = over_seeds([look(each, "probes", "all") for each in closed]).value
    lower, off = difference.high < 0, on_common[layer] < NEAR_ZERO
    if lower and off and cost <= SAME_LOSS:
        verdict = YES
    elif lower and difference.value > -APART:
        verdict = NEGLIGIBLE
    else:
        verdict = UNDECIDED if off and not lower and difference.low < 0 else NO
    return Finding(
        verdict,
        f"Mean gate on common tokens by layer, from 0:"
        f" {', '.join(f'{value:.3f}' for value in on_common)}; in layer {layer}"
        f" {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] from other"
        f" tokens'. Closing it on common tokens costs {cost:+.4f} nats there, closing every layer's"
        f" {whole:+.4f}.",
        on_common[layer],
        unit="gate, lowest layer",
    )


@claim(
    "shielding",
    "Gradient shielding: a lower gain lets less gradient through to a layer's weights",
    "3",
    EVALUATE,
    needs=("gain",),
)
def shielding(metrics: Metrics, arm: str) -> Finding:
    """A layer's gain is multiplied by 0, 0.25 and 0.5. Supported if in every layer the gradient of
    its branches' weights is 0 at 0 and below the trained one's at 0.25 and 0.5 (95 % interval of
    the ratio below 1); not supported if in some layer a lower gain raises it (interval above 1) or
    0 leaves some; else undecided.
    """
    probes = [metrics.probe(run, "gradient_by_gain") for run in metrics.runs(arm)]
    doses = look(probes[0], "probes", "doses")
    measured = [look(each, "probes", "ratio") for each in probes]
    ratios: dict[float, list[Interval]] = {dose: [] for dose in doses}  # by layer
    for layer in range(len(measured[0])):
        for place, dose in enumerate(doses):
            of_runs = [each[layer][place] for each in measured]
            if any(value is None or not math.isfinite(value) for value in of_runs):
                raise MissingError(f"layer {layer} has no gradient to compare with")
            ratios[dose].append(_ratio(of_runs))
    silent = all(each.value == 0 for dose in doses if dose == 0 for each in ratios[dose])
    lowered = [each for dose in doses if dose > 0 for each in ratios[dose]]
    if not silent or any(each.low > 1 for each in lowered):
        verdict = NO
    else:
        verdict = YES if all(each.high < 1 for each in lowered) else UNDECIDED
    highest = max(lowered)
    shown = "; ".join(
        f"x{dose:g}: {', '.join(f'{each.value:.2g}' for each in ratios[dose])}" for dose in doses
    )
    return Finding(
        verdict,
        f"Gradient of a layer's weights over the trained one, by layer, at a gain of {shown}.",
        highest.value,
        [*highest[1:]],
        "ratio, highest",
    )


def _ratio(values: list[float]) -> Interval:
    """The geometric mean of ratios over seeds, with its interval; 0 where all are."""
    if any(value <= 0 for value in values):
        return over_seeds(values)
    return Interval(*(math.exp(each) for each in over_seeds([math.log(v) for v in values])))


@claim("overhead", "The control network costs next to nothing", "3", BENCH)
def overhead(metrics: Metrics, arm: str) -> Finding:
    """Against a plain model, whose width makes up for nothing. Supported if a training step takes
    at most 1.05 of its time (`make bench`) and the control network adds at most 5 % to its FLOPs;
    not supported if either is more.
    """
    cost = metrics.probe(metrics.runs(arm)[0], "cost")
    share = look(cost, "probes", "flop_share")
    flops = share / (1 - share)
    parameters = look(cost, "probes", "parameter_share")
    said = f"{parameters:.2%} of the parameters, and {flops:.2%} more FLOPs than without it"
    if flops > SMALL_COST:
        return Finding(NO, f"The control network has {said}.", flops, unit="share of FLOPs")
    timed = look(metrics.benchmark, BENCHMARK, "training_step", "arms")
    plain = next((name for name in [PLAIN, *plain_arms(metrics.params)] if name in timed), None)
    if plain is None:
        widened = f"; it has {said}"
        raise MissingError(
            f"{BENCHMARK} times no plain arm (controller none, match none): the baseline is"
            f" widened by what the control network takes{widened}"
        )
    ratio = look(timed, BENCHMARK, arm, "ratio") / look(timed, BENCHMARK, plain, "ratio")
    return Finding(
        YES if ratio <= 1 + SMALL_COST else NO,
        f"A training step of the published size takes {ratio:.3f} of the time of {plain}, which"
        f" is not widened; here the control network has {said}.",
        ratio,
        unit="time, plain = 1",
    )


def plain_arms(params: Params) -> list[str]:
    """The arms without a control network that are not widened to make up for it."""
    return [
        arm
        for arm in params.arms
        if params.control_network(arm).controller == "none"
        and params.baseline_of(arm).match == "none"
    ]


@claim("fp16", "Precision above 4 is where fp16 fails", "3.5", EVALUATE, needs=("precision",))
def fp16_fails_above_4(metrics: Metrics, arm: str) -> Finding:
    """By the largest loss scale at which all gradients are finite (mean over seeds): not supported
    if it is below 2^16, where a scaler starts, at a forced precision up to 4, or not below at 8 and
    above. A scaler that overflows halves its scale and goes on, so the rest takes an arm without
    the clamp (precision_max of 32 or more) that was trained in fp16, which decides alone: supported
    if in most of its runs the scale fell below 1, not supported if not; undecided without one.
    """
    scales: dict[float, list[float]] = {}
    gradients: dict[float, list[float]] = {}
    for run in metrics.runs(arm):
        for point in metrics.probe(run, "half_precision"):
            precision = look(point, "probes", "precision")
            scales.setdefault(precision, []).append(look(point, "probes", "scale_log2"))
            gradients.setdefault(precision, []).append(look(point, "probes", "qkv_gradient"))
    if not scales:
        raise MissingError("no forced precision was measured")
    largest = {precision: over_seeds(each).value for precision, each in sorted(scales.items())}
    fails = {precision: scale < SCALER_START for precision, scale in largest.items()}
    tried = [any(p <= PRECISION_CLAMP for p in fails), any(p > PRECISION_CLAMP for p in fails)]
    if not all(tried):
        raise MissingError(f"forced precisions on both sides of {PRECISION_CLAMP:g}")
    clear = all(failing == (p > PRECISION_CLAMP) for p, failing in fails.items())
    grown = (
        over_seeds(gradients[max(gradients)]).value / over_seeds(gradients[min(gradients)]).value
    )
    collapses = unclamped_collapses(metrics)
    if collapses is None:
        verdict = UNDECIDED if clear else NO
        trained = "No arm without the clamp was trained in fp16"
    else:
        verdict = YES if 2 * sum(collapses) > len(collapses) else NO
        trained = (
            f"Trained in fp16 without the clamp, {sum(collapses)} of {counted(collapses, 'run')}"
            " drove the loss scale below 1"
        )
    shown = ", ".join(f"2^{scale:.3g} at {precision:g}" for precision, scale in largest.items())
    first = min((p for p, failing in fails.items() if failing), default=None)
    return Finding(
        verdict,
        f"Largest finite loss scale by precision: {shown}; gradients of the qkv weights are"
        f" {grown:.3g} times as large at {max(scales):g} as at {min(scales):g}. {trained}.",
        first,
        unit="precision, first below 2^16" if first is not None else "",
    )


def unclamped_collapses(metrics: Metrics) -> list[bool] | None:
    """Of each run that was trained in fp16 without the clamp: did the loss scale fall below 1?

    None: there is no such run.
    """
    found = []
    for arm in metrics.params.arms:
        control = metrics.params.control_network(arm)
        if control.controller == "network" and control.precision_max >= UNCLAMPED:
            for run in metrics.runs(arm):
                logs: Any = metrics.convergence.get("runs", {}).get(run, {})
                lowest = logs.get("stability", {}).get("loss_scale_min")
                if lowest is not None:
                    found.append(look({"scale": lowest}, CONVERGENCE, "scale") < 1)
    return found or None


@claim("cache", "Compatible with the key-value cache", "3.2", EVALUATE)
def cache_compatible(metrics: Metrics, arm: str) -> Finding:
    """Supported if the logits from the caches equal those of one pass in the same mode of salience,
    to 0.1 % of the largest logit (mean over seeds); not supported otherwise.
    """
    return _same_logits(metrics, arm, "difference", "cached logits differ from one pass's")


@claim("cache_salience", "What generates with the cache is what was trained", "3.2", EVALUATE)
def salience_kept(metrics: Metrics, arm: str) -> Finding:
    """Supported if one pass in the mode of salience that generates gives the logits of one in the
    trained mode, to 0.1 % of the largest logit (mean over seeds); not supported otherwise.
    """
    return _same_logits(
        metrics, arm, "salience_difference", "logits differ from the trained function's"
    )


def _same_logits(metrics: Metrics, arm: str, name: str, words: str) -> Finding:
    caches = [metrics.probe(run, "cache") for run in metrics.runs(arm)]
    differences = [look(cache, "probes", name) for cache in caches]
    relative = over_seeds(
        [
            difference / look(cache, "probes", "largest_logit")
            for difference, cache in zip(differences, caches, strict=True)
        ]
    ).value
    mode = caches[0].get("salience") or "no"
    return Finding(
        YES if relative <= ROUNDING else NO,
        f"Generated with {mode} salience, {words} by up to {max(differences):.3g}"
        f" ({relative:.2g} of the largest logit).",
        relative,
        unit="of the largest logit",
    )
