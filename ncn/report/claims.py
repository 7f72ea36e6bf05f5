"""The preprint's claims, each with a verdict that a rule draws from metrics/.

metrics/claims.json is {"claims": [...]}, one entry a claim, and one an arm where the claim is about
an arm (its published form, with global salience, and the causal one):

    id        of the claim, with the arm where there is one
    claim     in the preprint's sense; source: its section
    verdict   supported | not supported | undecided at this scale | not testable here
    evidence  one sentence with figures, or what is missing
    figure    a number or null; interval [low, high] or null; unit of both
    arm       or null
    rule      how the verdict follows from the figures
    command   that makes the evidence anew

No rule has an exception for a result: what is missing or not finite gives "undecided at this scale"
with its name, another experiment than the published one gives "not testable here".
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import (
    BENCHMARK,
    COMPARISON,
    CONVERGENCE,
    SAMPLES,
    SCAN_TESTS,
    SUMMARY,
    evaluation_metrics,
    run_name,
)
from ncn.published_run import (
    GAIN_RANGE,
    PLAIN_PLATEAU,
    PRECISION_CLAMP,
    PUBLISHED_RUN_1,
    differences_to_published,
)
from ncn.settings import Params
from ncn.signals import SIGNALS
from ncn.statistics.estimate import estimate, loss_difference

Verdict = Literal["supported", "not supported", "undecided at this scale", "not testable here"]
YES: Verdict = "supported"
NO: Verdict = "not supported"
UNDECIDED: Verdict = "undecided at this scale"
UNTESTABLE: Verdict = "not testable here"

LEVEL = 0.05  # of every test
SAME_LOSS = 0.01  # nats a token: closer than that counts as the published loss
NEGLIGIBLE = 0.05  # share of time or FLOPs
ROUNDING = 1e-3  # of the largest logit: what a different order of sums may change
FP16_ERROR = 0.01  # nats a token: more counts as a failure of fp16
OFF = 0.5  # a gate below it has closed by more than half
FEWEST_TEXTS = 20  # generated texts, below which no share is worth a verdict
GAIN_WORTH = 0.05  # share of things: less is no gain worth the name


class MissingError(Exception):
    """An input that a rule needs is absent or not a finite number; the text names it."""


class ElsewhereError(Exception):
    """The claim is about another experiment than this one; the text says which."""


class Finding(NamedTuple):
    """What a rule makes of the metrics."""

    verdict: Verdict
    evidence: str
    figure: float | None = None
    interval: list[float] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Metrics:
    """Everything the rules read; an absent file is an empty mapping."""

    params: Params
    summary: Mapping[str, Any]
    comparison: Mapping[str, Any]
    convergence: Mapping[str, Any]
    scans: Mapping[str, Any]
    evaluations: Mapping[str, Any]  # by run
    benchmark: Mapping[str, Any]
    samples: Mapping[str, Any]

    def runs(self, arm: str) -> list[str]:
        """The runs of an arm, one a seed."""
        return [run_name(arm, seed) for seed in self.params.seeds]

    def scan(self, run: str, test: str) -> Mapping[str, Any]:
        """One test of the brain scan of a run."""
        found: Mapping[str, Any] = look(self.scans, SCAN_TESTS, run, test)
        return found

    def probe(self, run: str, name: str) -> Any:
        """One measurement on the trained model of a run."""
        return look(self.evaluations.get(run, {}), evaluation_metrics(run), "probes", name)


def look(content: Any, where: Path | str, *keys: str) -> Any:
    """The value below `keys`; raises MissingError where there is none, or it is not finite."""
    for place, key in enumerate(keys):
        if not isinstance(content, Mapping) or content.get(key) is None:
            raise MissingError(f"{where} has no {'.'.join(keys[: place + 1])}")
        content = content[key]
    if isinstance(content, float) and not math.isfinite(content):
        raise MissingError(f"{where}: {'.'.join(keys)} is {content}")
    if isinstance(content, list) and any(
        each is None or (isinstance(each, float) and not math.isfinite(each)) for each in content
    ):
        raise MissingError(f"{where}: {'.'.join(keys)} holds a number that is not finite")
    return content


def read_metrics(params: Params) -> Metrics:
    """Read metrics/ as far as it is there."""

    def read(path: Path) -> dict[str, Any]:
        try:
            content = read_json(path)
        except InputError:
            return {}
        return content if isinstance(content, dict) else {}

    runs = [run_name(arm, seed) for arm in params.arms for seed in params.seeds]
    return Metrics(
        params=params,
        summary=read(SUMMARY),
        comparison=read(COMPARISON),
        convergence=read(CONVERGENCE),
        scans=read(SCAN_TESTS),
        evaluations={run: read(evaluation_metrics(run)) for run in runs},
        benchmark=read(BENCHMARK),
        samples=read(SAMPLES),
    )


EVALUATE, COMPARE = "dvc repro evaluate", "dvc repro compare"
CURVES, SCAN = "dvc repro convergence", "dvc repro brain_scan"


class Claim(NamedTuple):
    """A claim, its section of the preprint, the rule that judges it, the evidence's command."""

    name: str
    text: str
    section: str
    command: str
    rule: Callable[..., Finding]
    about_an_arm: bool


CLAIMS: list[Claim] = []


def claim(
    name: str, text: str, section: str, command: str, about_an_arm: bool = True
) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    """Let a function judge a claim; its docstring is the rule that metrics/claims.json quotes."""

    def register(rule: Callable[..., Finding]) -> Callable[..., Finding]:
        CLAIMS.append(Claim(name, text, section, command, rule, about_an_arm))
        return rule

    return register


@claim("stable", "Training is stable: no loss spikes, no collapse of the loss scale", "5", CURVES)
def stable(metrics: Metrics, arm: str) -> Finding:
    """Supported if no run logs a loss spike (0.5 nats above the moving average after the warm-up),
    a loss that is not finite, or a loss scale below 1; not supported otherwise.
    """
    logs = [
        look(metrics.convergence, CONVERGENCE, "runs", run, "stability")
        for run in metrics.runs(arm)
    ]
    spikes = sum(look(log, CONVERGENCE, "spikes") for log in logs)
    broken = sum(look(log, CONVERGENCE, "not_finite") for log in logs)
    scales = [log["loss_scale_min"] for log in logs if log.get("loss_scale_min") is not None]
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


@claim("perplexity", "Validation perplexity 4.52 at 18 M parameters", "5", COMPARE)
def perplexity_as_published(metrics: Metrics, arm: str) -> Finding:
    """Testable with the published data, tokenizer, size and epochs only. Supported if the interval
    of the validation loss lies below the published 1.5082 + 0.01 nats, not supported if above.
    """
    if differences := differences_to_published(metrics.params):
        raise ElsewhereError("this is another experiment: " + "; ".join(differences[:3]))
    loss = look(metrics.comparison, COMPARISON, "arms", arm, "val_loss")
    low, high = (look(loss, COMPARISON, end) for end in ("low", "high"))
    bar = PUBLISHED_RUN_1["val_loss"] + SAME_LOSS
    verdict = YES if high <= bar else NO if low > bar else UNDECIDED
    ppl = math.exp(look(loss, COMPARISON, "mean"))
    return Finding(
        verdict,
        f"Perplexity {ppl:.4f} [{math.exp(low):.4f}, {math.exp(high):.4f}], published"
        f" {PUBLISHED_RUN_1['val_ppl']}; {leak_in_words(metrics, arm)}.",
        ppl,
        [math.exp(low), math.exp(high)],
        "perplexity",
    )


@claim(
    "plateau",
    "Plain transformers of this size stop at perplexity 5.5 to 6.0",
    "5",
    COMPARE,
    about_an_arm=False,
)
def plateau(metrics: Metrics) -> Finding:
    """Testable with the published data, tokenizer, size and epochs only. Supported if the interval
    of the baseline's perplexity lies at or above 5.5, not supported if below it.
    """
    if differences := differences_to_published(metrics.params):
        raise ElsewhereError("this is another experiment: " + "; ".join(differences[:3]))
    ppl = look(metrics.comparison, COMPARISON, "arms", "baseline", "val_ppl")
    mean, low, high = (look(ppl, COMPARISON, key) for key in ("mean", "low", "high"))
    verdict = YES if low >= PLAIN_PLATEAU[0] else NO if high < PLAIN_PLATEAU[0] else UNDECIDED
    return Finding(
        verdict,
        f"The baseline reaches perplexity {mean:.4f} [{low:.4f}, {high:.4f}].",
        mean,
        [low, high],
        "perplexity",
    )


@claim(
    "below_plain",
    "Perplexity below a plain transformer's of as many parameters",
    "5",
    COMPARE,
)
def below_plain(metrics: Metrics, arm: str) -> Finding:
    """Supported if the 95 % interval of delta_ppl over at least two seeds lies below 0 (p < 0.05
    after Holm over the arms); not supported if above 0 or the arm is equivalent to the baseline; an
    arm that sees the future is scored as it would generate, by its interval; else, and with one
    seed, undecided.
    """
    leak = look(metrics.summary, SUMMARY, arm, "future_leak")
    difference = look(metrics.comparison, COMPARISON, "differences", arm)
    value, low, high = look(difference, COMPARISON, "reactive" if leak > 0 else "delta_ppl")
    seeds = len(metrics.params.seeds)
    equivalent = leak == 0 and look(difference, COMPARISON, "equivalent")
    p = None if leak > 0 else look(difference, COMPARISON, "p_holm")
    chance = low <= 0 <= high or (p is not None and p >= LEVEL)
    verdict = (
        UNDECIDED
        if seeds < 2 or (chance and not equivalent)
        else YES
        if high < 0 and not equivalent
        else NO
    )
    scored = ", scored as it would generate," if leak > 0 else ""
    return Finding(
        verdict,
        f"delta_ppl {value:+.4f} [{low:+.4f}, {high:+.4f}]{scored} over {seeds}"
        f" seed{'s' if seeds > 1 else ''}{'' if p is None else f' (p = {p:.2g} after Holm)'};"
        f" {leak_in_words(metrics, arm)}.",
        value,
        [low, high],
        "perplexity",
    )


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
    theirs = [steps(run) for run in metrics.runs("baseline")]
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


claim("grammar", "Syntax converges early (95 %)", "5.2", CURVES)(
    partial(phase_ends, phase="grammar_95")
)
claim("meaning", "Meaning converges later (99 %), and early for its size", "5.2", CURVES)(
    partial(phase_ends, phase="intellectual_99")
)


def failed(metrics: Metrics) -> Verdict:
    """The verdict on a test against other initialisations that did not reach LEVEL.

    With too few of them none could have: the least p is 1 in 1 + so many, times the signals.
    """
    least = len(SIGNALS) / (1 + metrics.params.brain_scan.initialisations)
    return NO if least < LEVEL else UNDECIDED


@claim("layers", "Layers specialise: layer 1 precise, layer 2 broad", "5", SCAN)
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
        NO if not all(as_said) else YES if p < LEVEL else failed(metrics),
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
    clearest = []
    for word in words:
        if reason := word.get("reason"):
            raise MissingError(f"{SCAN_TESTS}: {reason}")
        signals = look(word, SCAN_TESTS, "signals")
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
        YES if p < LEVEL else failed(metrics),
        f"{look(words[0], SCAN_TESTS, 'occurrences')} occurrences; p = {p:.3g}, and"
        f" {effect:+.2f} standard deviations from tokens as frequent, in the run and signal that"
        " decide.",
        effect,
        unit="standard deviations",
    )


@claim("gain_range", "The gain stays between 0.99 and 1.05", "5", SCAN)
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


@claim("gate", "The feed-forward gate switches off for easy tokens", "5", SCAN)
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


@claim("shielding", "Gradient shielding: a branch's gradient scales with its gain", "3", EVALUATE)
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


@claim("overhead", "The control network costs next to nothing", "3", "make bench")
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


@claim("fp16", "Precision above 4 is where fp16 fails", "3.5", EVALUATE)
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


@claim("objects", "Object permanence in generated stories", "5", "dvc repro generate")
def object_permanence(metrics: Metrics, arm: str) -> Finding:
    """Of the things that the first half of a validation row begins, how many does the model's own
    second half name again? Supported if more than the baseline's by the 95 % interval, over two
    seeds or more; not supported if the interval lies below a gain of 0.05; else, with one seed,
    with fewer than 20 rows or if no model names anything again, undecided.
    """
    recall = look(metrics.samples, SAMPLES, "recall")
    things, text = (np.array(look(recall, SAMPLES, key), np.float64) for key in ("things", "text"))
    if len(things) < FEWEST_TEXTS:
        raise MissingError(f"{len(things)} rows begin a thing; at least {FEWEST_TEXTS} are needed")
    mine, theirs = (
        np.array([look(recall, SAMPLES, "runs", run) for run in metrics.runs(each)], np.float64)
        for each in (arm, "baseline")
    )
    params = metrics.params
    value, low, high = estimate(
        [mine, theirs], things, loss_difference, params.eval.bootstrap, params.seed
    ).interval()
    more = YES if len(params.seeds) > 1 else UNDECIDED
    shares = [each.mean(axis=0).sum() / things.sum() for each in (mine, theirs, text[None])]
    return Finding(
        more if low > 0 else NO if high < GAIN_WORTH and any(shares[:2]) else UNDECIDED,
        f"Of {int(things.sum())} things in {len(things)} rows the arm names {shares[0]:.1%} again,"
        f" the baseline {shares[1]:.1%}, the stories themselves {shares[2]:.1%}.",
        value,
        [low, high],
        "share of things, arm - baseline",
    )


@claim(
    "trained",
    "The control network of the published run was trained",
    "4.1",
    CURVES,
    about_an_arm=False,
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


def judge(metrics: Metrics) -> dict[str, list[dict[str, Any]]]:
    """metrics/claims.json."""
    return {"claims": list(_judged(metrics))}


def judged_arms(params: Params) -> list[str]:
    """The first arm of the published form and the first causal one, with trained signals, all."""
    found: dict[str, str] = {}
    for arm in params.arms:
        control = params.control_network(arm)
        whole = control.controller == "network" and set(control.signals) == set(SIGNALS)
        if whole and not control.frozen and control.salience in ("global", "causal"):
            found.setdefault(control.salience, arm)
    return [found[form] for form in ("global", "causal") if form in found]


def _judged(metrics: Metrics) -> Iterator[dict[str, Any]]:
    arms = judged_arms(metrics.params)
    for each in CLAIMS:
        about: list[str | None] = [*arms] if each.about_an_arm and arms else [None]
        for arm in about:
            finding = _found(each, metrics, arm)
            yield {
                "id": each.name if arm is None else f"{each.name}.{arm}",
                "claim": each.text,
                "source": f"preprint {each.section}",
                **finding._asdict(),
                "arm": arm,
                "rule": " ".join((getattr(each.rule, "func", each.rule).__doc__ or "").split()),
                "command": each.command,
            }


def _found(claim: Claim, metrics: Metrics, arm: str | None) -> Finding:
    """What the rule finds, or why it finds nothing."""
    if claim.about_an_arm and arm is None:
        return Finding(UNTESTABLE, "No arm has a whole, trained control network.")
    try:
        finding = claim.rule(metrics, *([arm] if claim.about_an_arm else []))
    except MissingError as error:
        return Finding(UNDECIDED, f"Missing: {error}.")
    except ElsewhereError as error:
        return Finding(UNTESTABLE, f"{str(error)[0].upper()}{str(error)[1:]}.")
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        # Files of another version, or made by hand: a table without this verdict beats none.
        return Finding(UNDECIDED, f"Missing: metrics of the expected form ({error}).")
    return finding


def leak_in_words(metrics: Metrics, arm: str) -> str:
    """Whether an arm's perplexity is a language model's."""
    leak = look(metrics.summary, SUMMARY, arm, "future_leak")
    return f"it reads the future (leak {leak:.2g})" if leak > 0 else "it does not read the future"


def at_steps(steps: Sequence[int]) -> str:
    """`nowhere`, or where the first and the last of several phases end."""
    if not steps:
        return "nowhere"
    return f"at step {steps[0]}" if len(set(steps)) == 1 else f"at {min(steps)} to {max(steps)}"


def counted(things: Any, name: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
