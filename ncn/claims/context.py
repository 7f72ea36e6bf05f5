"""Rules about the tonic stream: whether the context c tells the controller anything."""

from ncn.analysis.comparison import BASELINE
from ncn.claims.rule import (
    EVALUATE,
    NO,
    UNDECIDED,
    YES,
    Finding,
    Judgement,
    Metrics,
    claim,
    look,
)
from ncn.claims.seeds import (
    WORTH,
    answers,
    finding,
    of_the_method,
    over_seeds_or_rows,
    reaches,
)

AS_MUCH = 0.5  # of what other words do to the signals: less, and order is not what they tell
MUCH_LATER = 4  # the last quarter of the row against the first


@claim("tonic", "The tonic stream matters: the context modulates", "eq. 1-2", EVALUATE)
def tonic_matters(metrics: Metrics, arm: str) -> Finding:
    """Each row is scored with the pooled context c of another row. Supported if that costs more
    than 0 by the 95 % interval over seeds (with one seed, over rows), real but negligible if surely
    less than 0.01 nats at that; not supported if less than that and not surely more than 0; else
    undecided.
    """
    costs = answers(metrics, arm, "tonic")
    return finding(
        over_seeds_or_rows(costs),
        [cost[0] for cost in costs],
        "Another row's context costs {}",
        "nats a token",
    )


@claim("adiabatic", "The context may be refreshed rarely: it changes slowly", "3.6", EVALUATE)
def adiabatic(metrics: Metrics, arm: str) -> Finding:
    """The context c is recomputed every 8 and every 32 tokens, on real text, against every token.
    Supported if each costs less than 0.01 nats by the 95 % interval over seeds (with one seed, over
    rows), and another row's context surely costs something: of a context that tells nothing, no
    refresh is missed. Not supported if one costs more; else undecided.
    """
    costs = answers(metrics, arm, "refresh")
    found = {n: over_seeds_or_rows([look(cost, "refresh", n) for cost in costs]) for n in costs[0]}
    everything = over_seeds_or_rows(answers(metrics, arm, "tonic"))
    verdict: Judgement = UNDECIDED
    if all(each.high < WORTH for each in found.values()):
        verdict = YES if everything.low > 0 else UNDECIDED
    elif any(each.low >= WORTH for each in found.values()):
        verdict = NO
    shown = "; ".join(
        f"every {n} tokens {each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]"
        for n, each in found.items()
    )
    worst = max(found.values())
    return Finding(
        verdict,
        f"Refreshed {shown} nats a token; another row's context costs {everything.value:+.4f}"
        f" [{everything.low:+.4f}, {everything.high:+.4f}].",
        worst.value,
        [worst.low, worst.high],
        "nats a token",
    )


@claim("word_order", 'The signals tell "dog chased cat" from "cat chased dog"', "", EVALUATE)
def word_order_tells(metrics: Metrics, arm: str) -> Finding:
    """Two words of a row, three positions apart, change places, or are replaced by other words; the
    signals at the tokens after them are compared. Supported if the change of order moves them at
    least half as much as other words do, by the 95 % interval over seeds (with one seed, over
    rows); not supported if less, or if nothing moves them; else undecided.
    """
    found = answers(metrics, arm, "word_order")
    swapped, replaced = (
        [look(each, "word_order", name) for each in found] for name in ("swapped", "replaced")
    )
    moved = (
        f"Another order moves later signals by {min(swapped):.2g} to {max(swapped):.2g} of a"
        f" standard deviation, other words by {min(replaced):.2g} to {max(replaced):.2g}"
    )
    if not all(replaced):
        return Finding(NO, f"{moved}.", 0.0, unit="change by order / change by words")
    ratio = over_seeds_or_rows([look(each, "word_order", "ratio") for each in found])
    return Finding(
        reaches(ratio, AS_MUCH),
        f"{moved}: {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] times as much.",
        ratio.value,
        [ratio.low, ratio.high],
        "change by order / change by words",
    )


@claim("late_positions", "A longer effective context: late positions gain most", "", EVALUATE)
def late_positions_gain(metrics: Metrics, arm: str) -> Finding:
    """Of the arm's gain in loss over the baseline, that on the last quarter of the row minus that
    on the first. Supported if above 0 by the 95 % interval over at least two seeds, real but
    negligible if surely below 0.01 nats at that; not supported if below that and not surely above
    0; else undecided.
    """
    mine, theirs = (answers(metrics, each, "loss_by_position") for each in (arm, BASELINE))

    def late_minus_early(m: list[float], b: list[float]) -> float:
        gains = [theirs - mine for mine, theirs in zip(m, b, strict=True)]
        quarter = max(1, len(gains) // MUCH_LATER)
        return (sum(gains[-quarter:]) - sum(gains[:quarter])) / quarter

    effects = [late_minus_early(m, b) for m, b in zip(mine, theirs, strict=True)]
    return finding(
        of_the_method(effects),
        effects,
        "The gain over the baseline is larger by {} on the last quarter of a row than on the first",
        "nats a token",
    )
