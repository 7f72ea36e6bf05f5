"""Rules about the signals as numbers: how many directions, of what, how far from neutral."""

from ncn.claims.rule import (
    EVALUATE,
    NEGLIGIBLE,
    NO,
    UNDECIDED,
    YES,
    ElsewhereError,
    Finding,
    Judgement,
    Metrics,
    MissingError,
    claim,
    look,
    over_seeds,
)
from ncn.claims.seeds import WORTH, answers, by_name, of_the_method, reaches
from ncn.published.claimed import PRECISION_CLAMP

DIRECTIONS = 0.25  # of the columns: with fewer, they are copies of each other
HALF = 0.5
PICKS = 0.9  # largest attention weight, from which attention is as good as an argmax


@claim("collapse", "The signals neither collapse nor turn into stereotypes", "", EVALUATE)
def neither_collapsed_nor_stereotyped(metrics: Metrics, arm: str) -> Finding:
    """Supported if the signals' variance spreads over at least a quarter as many directions as
    there are signals and layers (participation ratio of their covariance) and the token's identity
    explains at most half of the variance of each signal, both by the 95 % interval over seeds;
    not supported if one of the two surely fails; else undecided. One seed speaks of its model.
    """
    spaces = answers(metrics, arm, "signals")
    directions = [look(space, "signals", "directions") for space in spaces]
    ratios = [each.get("participation_ratio") for each in directions]
    columns = look(directions[0], "directions", "columns")
    if None in ratios:
        return Finding(NO, "The signals do not vary at all.", 0.0, unit="directions")
    numbers = [float(ratio) for ratio in ratios if ratio is not None]
    by_run = [look(space, "signals", "identity_share") for space in spaces]
    largest = [max((v for v in run.values() if v is not None), default=None) for run in by_run]
    shares = [share for share in largest if share is not None]
    if len(shares) < len(largest):
        raise MissingError("no token occurs twice in the rows")
    ratio = over_seeds(numbers)
    each_holds = (
        reaches(ratio, DIRECTIONS * columns),
        reaches(over_seeds([1 - share for share in shares]), HALF),
    )
    verdict = NO if NO in each_holds else YES if set(each_holds) == {YES} else UNDECIDED
    shown = "; ".join(
        f"{name} {min(each):.0%} to {max(each):.0%}"
        for name, each in by_name(by_run).items()
        if each
    )
    return Finding(
        verdict,
        f"Participation ratio {min(numbers):.2f} to {max(numbers):.2f} of {columns}; of the"
        f" variance the token's identity explains: {shown}.",
        ratio.value,
        [ratio.low, ratio.high],
        "directions",
    )


@claim("sparse", "Intervention is sparse: most signals stay near neutral", "", EVALUATE)
def sparse_intervention(metrics: Metrics, arm: str) -> Finding:
    """Supported if at least half of all signals, over tokens and layers, lie within 0.05 of neutral
    by the 95 % interval over seeds; not supported if fewer; else undecided. One seed speaks of its
    model alone.
    """
    spaces = answers(metrics, arm, "signals")
    shares = [look(space, "signals", "near_neutral_of_all") for space in spaces]
    names = by_name([look(space, "signals", "near_neutral") for space in spaces])
    shown = "; ".join(f"{name} {sum(each) / len(each):.0%}" for name, each in names.items())
    share = over_seeds(shares)
    return Finding(
        reaches(share, HALF),
        f"{min(shares):.1%} to {max(shares):.1%} of all signals lie within 0.05 of neutral:"
        f" {shown}.",
        share.value,
        [share.low, share.high],
        "share near neutral",
    )


@claim(
    "separate",
    "Gain and feed-forward gate are separate controls",
    "eq. 8-12",
    EVALUATE,
    needs=("gain", "ffn_gate"),
)
def gain_and_gate_separate(metrics: Metrics, arm: str) -> Finding:
    """The feed-forward branch knows only the product of the two. Supported if the squared
    correlation of ln gain and ln gate over tokens, mean over layers, is below a half by the 95 %
    interval over seeds; not supported if above; else undecided. One seed speaks of its model alone.
    """
    by_run = answers(metrics, arm, "shared_by_layer")
    if not all(by_run):
        raise MissingError("a layer in which both gain and gate vary")
    shared = [sum(each.values()) / len(each) for each in by_run]
    trades = ""
    try:
        costs = answers(metrics, arm, "traded")
        matched, alone = (
            sum(look(cost, "traded", name)[0] for cost in costs) / len(costs)
            for name in ("matched", "alone")
        )
        trades = (
            f" A gain 10 % higher costs {alone:+.4f} nats; with the gate lowered to match, so that"
            f" attention alone sees it, {matched:+.4f}."
        )
    except MissingError:  # where the signals see the attention entropy, none can be set
        pass
    together = over_seeds(shared)
    return Finding(
        reaches(over_seeds([1 - each for each in shared]), HALF),
        f"Gain and gate share {min(shared):.1%} to {max(shared):.1%} of their variance, mean over"
        f" {len(by_run[0])} layers.{trades}",
        together.value,
        [together.low, together.high],
        "shared variance",
    )


@claim(
    "argmax", "A precision near 4 makes attention an argmax", "3.5", EVALUATE, needs=("precision",)
)
def argmax_at_clamp(metrics: Metrics, arm: str) -> Finding:
    """Every precision is forced to 4. Supported if the largest weight of a position's attention is
    then 0.9 or more on average, by the 95 % interval over seeds; not supported if less; else
    undecided. One seed speaks of its model alone.
    """
    found = answers(metrics, arm, "sharpest")
    clamped, trained = (
        [look(each, "sharpest", name) for each in found] for name in ("at_clamp", "trained")
    )
    weight = over_seeds(clamped)
    return Finding(
        reaches(weight, PICKS),
        f"Mean largest attention weight {min(clamped):.3f} to {max(clamped):.3f} at a precision of"
        f" 4, {min(trained):.3f} to {max(trained):.3f} as trained.",
        weight.value,
        [weight.low, weight.high],
        "attention weight",
    )


@claim("clamp", "The precision needs its clamp at 4", "3.5", EVALUATE, needs=None)
def precision_needs_clamp(metrics: Metrics) -> Finding:
    """An arm whose precision may exceed 4 is trained beside one that is the same but for the clamp.
    Supported if its largest precision exceeds 4 and its loss is higher, each by the 95 % interval
    over at least two seeds, real but negligible if by less than 0.01 nats; not supported if the
    precision stays below, or the loss is not so much higher; else undecided; not testable without
    such an arm.
    """
    params = metrics.params
    networks = {arm: params.control_network(arm) for arm in params.arms}
    free = [
        arm
        for arm, control in networks.items()
        if control.controller == "network"
        and not control.frozen
        and "precision" in control.signals
        and control.precision_max > PRECISION_CLAMP
    ]
    if not free:
        raise ElsewhereError(f"no arm has a precision_max above {PRECISION_CLAMP:g}")
    arm = max(free, key=lambda each: networks[each].precision_max)
    ranges = answers(metrics, arm, "signals", "range", "precision")
    highest = [high for _, high in ranges]
    words = (
        f"{arm}, with precision_max {networks[arm].precision_max:g}, reaches a precision of"
        f" {min(highest):.2f} to {max(highest):.2f}"
    )
    twin = networks[arm].model_copy(update={"precision_max": PRECISION_CLAMP})
    others, harm = [each for each, control in networks.items() if control == twin], None
    if others:
        losses = (answers(metrics, each, "loss") for each in (arm, others[0]))
        gains = [mine - theirs for mine, theirs in zip(*losses, strict=True)]
        words += f"; its loss minus that of {others[0]} is {sum(gains) / len(gains):+.4f}"
        if (harm := of_the_method(gains)) is not None:
            words += f" [{harm.low:+.4f}, {harm.high:+.4f}]"
    largest = over_seeds(highest)
    verdict: Judgement = reaches(largest, PRECISION_CLAMP)
    if verdict == YES and (harm is None or harm.low <= 0):
        verdict = NO if harm is not None and harm.high < WORTH else UNDECIDED
    elif verdict == YES and harm is not None and harm.high < WORTH:
        verdict = NEGLIGIBLE
    return Finding(
        verdict,
        f"{words}.",
        largest.value,
        [largest.low, largest.high],
        "precision",
    )
