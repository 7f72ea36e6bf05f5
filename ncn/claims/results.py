"""Rules about the result: how low the perplexity is, and what becomes of it in stories."""

import math

import numpy as np

from ncn.analysis.comparison import BASELINE
from ncn.analysis.verdict import reads_the_future, score_reads_the_future, verdict_of
from ncn.claims.rule import (
    COMPARE,
    GENERATE,
    NEGLIGIBLE,
    NO,
    UNDECIDED,
    YES,
    Finding,
    Metrics,
    MissingError,
    claim,
    look,
    only_as_published,
)
from ncn.common.paths import COMPARISON, SAMPLES, SUMMARY
from ncn.published.claimed import PLAIN_PLATEAU
from ncn.published.run_1 import PUBLISHED_RUN_1
from ncn.statistics.estimate import estimate, loss_difference
from ncn.statistics.interval import Floats, Interval

SAME_LOSS = 0.01  # nats a token: closer than that counts as the published loss
FEWEST_TEXTS = 20  # generated texts, below which no share is worth a verdict
GAIN_WORTH = 0.05  # share of things: less is no gain worth the name


@claim("perplexity", "Validation perplexity 4.52 at 18 M parameters", "5", COMPARE)
def perplexity_as_published(metrics: Metrics, arm: str) -> Finding:
    """Testable with the published data and settings only. Supported if the interval of the
    validation loss lies below the published 1.5082 + 0.01 nats, not supported if above.
    """
    only_as_published(metrics.params, arm)
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
    needs=None,
)
def plateau(metrics: Metrics) -> Finding:
    """Testable with the published data and settings only. Supported if the interval of the
    baseline's perplexity lies within 5.5 to 6.0, not supported if beside it; else undecided.
    """
    only_as_published(metrics.params, BASELINE)
    ppl = look(metrics.comparison, COMPARISON, "arms", BASELINE, "val_ppl")
    mean, low, high = (look(ppl, COMPARISON, key) for key in ("mean", "low", "high"))
    lowest, highest = PLAIN_PLATEAU
    inside, beside = lowest <= low and high <= highest, high < lowest or low > highest
    verdict = YES if inside else NO if beside else UNDECIDED
    return Finding(
        verdict,
        f"The baseline reaches perplexity {mean:.4f} [{low:.4f}, {high:.4f}].",
        mean,
        [low, high],
        "perplexity",
    )


@claim("below_plain", "Perplexity below a plain transformer's of as many parameters", "5", COMPARE)
def below_plain(metrics: Metrics, arm: str) -> Finding:
    """Supported if the 95 % interval of delta_ppl over at least two seeds lies below 0 (p < 0.05
    after Holm over all comparisons), real but negligible if the arm is equivalent to the baseline
    at that; not supported if above 0, or equivalent and no better; an arm that sees the future is
    scored causally; else, and with one seed, undecided.
    """
    look(metrics.summary, SUMMARY, arm, "future_leak")
    figures = look(metrics.comparison, COMPARISON, "differences", arm)
    seeds = len(look(metrics.comparison, COMPARISON, "seeds"))
    for key in ("delta_ppl", *(("equivalent", "p_holm") if seeds > 1 else ())):
        look(figures, COMPARISON, key)
    found = verdict_of(arm, metrics.summary, metrics.comparison)
    if found is None:
        raise MissingError(f"{COMPARISON} has no interval of {arm}")
    value, low, high = found.difference
    decided = {"better": YES, "negligible": NEGLIGIBLE if high < 0 else NO}
    decided |= {"worse": NO, "equivalent": NO}
    verdict = decided.get(found.kind, UNDECIDED)
    return Finding(
        verdict,
        f"delta_ppl {value:+.4f} [{low:+.4f}, {high:+.4f}] over {seeds}"
        f" seed{'s' if seeds > 1 else ''}"
        f"{'' if found.p is None else f' (p = {found.p:.2g} after Holm)'};"
        f" {leak_in_words(metrics, arm)}.",
        value,
        [low, high],
        "perplexity",
    )


@claim("objects", "Object permanence in generated stories", "5", GENERATE)
def object_permanence(metrics: Metrics, arm: str) -> Finding:
    """Of the things that the first half of a validation row begins, how many does the model's own
    second half name again? Beside it a shuffled control: another row's second half. Supported if
    more than its control's and, over two seeds or more, than the baseline's (95 % intervals); real
    but negligible if more than the baseline's by less than 0.05; not supported if the gain over
    the baseline lies below 0.05; else, with one seed, with fewer than 20 rows, or at the floor,
    where neither names more than its control, undecided.
    """
    recall = look(metrics.samples, SAMPLES, "recall")
    things, text = (np.array(look(recall, SAMPLES, key), np.float64) for key in ("things", "text"))
    if len(things) < FEWEST_TEXTS:
        raise MissingError(f"{len(things)} rows begin a thing; at least {FEWEST_TEXTS} are needed")
    params = metrics.params

    def named(kind: str, each: str) -> Floats:
        return np.array(
            [look(recall, SAMPLES, kind, run) for run in metrics.runs(each)], np.float64
        )

    def more(one: Floats, other: Floats) -> Interval:
        return estimate(
            [one, other], things, loss_difference, params.eval.bootstrap, params.seed
        ).interval()

    mine, theirs = named("runs", arm), named("runs", BASELINE)
    chance = named("shuffled_runs", arm)
    own = more(mine, chance)
    plain = more(theirs, named("shuffled_runs", BASELINE))
    gain = more(mine, theirs)
    if own.low <= 0 and plain.low <= 0:
        verdict = UNDECIDED  # at the floor
    elif gain.low > 0 and own.low > 0:
        large = NEGLIGIBLE if gain.high < GAIN_WORTH else YES
        verdict = large if len(params.seeds) > 1 else UNDECIDED
    else:
        verdict = NO if gain.high < GAIN_WORTH else UNDECIDED
    shares = [each.mean(axis=0).sum() / things.sum() for each in (mine, theirs, chance, text[None])]
    return Finding(
        verdict,
        f"Of {int(things.sum())} things in {len(things)} rows the arm names {shares[0]:.1%} again,"
        f" the baseline {shares[1]:.1%}, the arm in another row {shares[2]:.1%}, the stories"
        f" themselves {shares[3]:.1%}.",
        gain.value,
        [gain.low, gain.high],
        "share of things, arm - baseline",
    )


def leak_in_words(metrics: Metrics, arm: str) -> str:
    """Whether an arm's perplexity is a language model's."""
    leak = look(metrics.summary, SUMMARY, arm, "future_leak")
    if not reads_the_future(metrics.summary[arm]):
        return "it does not read the future"
    forms = metrics.comparison.get("arms", {}).get(arm, {}).get("scores", ())
    if score_reads_the_future(metrics.summary[arm], forms):
        return f"it reads the future (leak {leak:.2g})"
    return f"scored causally: as trained it reads the future (leak {leak:.2g})"
