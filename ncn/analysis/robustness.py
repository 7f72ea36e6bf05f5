"""Whether each difference to the baseline holds when counted otherwise.

metrics/robustness.json, written by `robustness`:

    ngram, near_duplicate         as params.yaml has them
    overlap
        clusters                  stories (or rows, where the split cuts stories apart)
        near_duplicates           of which at least the share `near_duplicate` of their n-grams
                                  stands in the training part
        tokens                    share of the scored tokens that lie in them
        tenths                    the share seen of a cluster: its 10 %, 50 % and 90 % quantile
    arms.ARM                      arm - baseline
        views.VIEW                [value, low, high] as `ncn.statistics` has them, or null
            by token              nats a token: the comparison's own
            by story              nats a token, each story (or row) with the same weight
            by byte               bits a byte
            without near duplicates   nats a token, where fewer than two clusters are left null
        without_one_seed          nats a token: the lowest and highest mean when a seed is left out;
                                  null with one seed
        seed_sd                   of the difference over seeds, nats a token; null with one seed
    over_fitting.ARM              of the baseline too, means over seeds, nats a token; null where
                                  none of its runs was validated
        rise                      of the logged validation loss from its lowest to its last
        training_loss             at the end, of the last tenth of the steps
        gap                       of the scored loss, as trained, above that. The validation loss of
                                  the logs is of a few rows, which may be easier than the others
    in_words                      the same in sentences

No view is tested: they ask whether one answer depends on how it is counted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncn.analysis.comparison import BASELINE, Scores
from ncn.common.files import as_written
from ncn.common.paths import training_log
from ncn.common.tsv import read_tsv
from ncn.statistics.estimate import estimate, loss_difference
from ncn.statistics.interval import Floats
from ncn.statistics.mean import mean_loss_over

TOKEN, STORY, BYTE, NEW = "by token", "by story", "by byte", "without near duplicates"
VIEWS = (TOKEN, STORY, BYTE, NEW)
QUANTILES = (0.1, 0.5, 0.9)
END = 0.1  # the share of the logged points whose mean is the training loss at the end


def robustness(
    scores: Mapping[str, Scores],
    seen: Floats,
    near_duplicate: float,
    ngram: int,
    bytes_per_token: float,
    fitted: Mapping[str, Mapping[str, float] | None],
    margin: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Each arm's difference to the baseline, counted otherwise; see above.

    Args:
        scores: of every arm, on the same clusters.
        seen: [C], the share of each cluster's n-grams that stand in the training part; NaN where
            it has none.
        near_duplicate: a cluster is one from this share on.
        ngram: tokens.
        bytes_per_token: of the validation part.
        fitted: what `over_fitting` finds in the logs of each arm.
        margin: nats a token; a smaller rise counts as none.
        resamples: of the bootstrap.
        seed: of the resampling.
    """
    one = next(iter(scores.values()))
    copied = np.nan_to_num(seen) >= near_duplicate
    arms = {}
    for arm, mine in scores.items():
        if arm == BASELINE or BASELINE not in scores:
            continue
        pair = [mine.score, scores[BASELINE].score]
        arms[arm] = {
            "views": _views(pair, one.tokens, copied, bytes_per_token, resamples, seed)
        } | _over_seeds(pair, one.tokens)
    known = seen[~np.isnan(seen)]
    found = {
        "ngram": ngram,
        "near_duplicate": near_duplicate,
        "overlap": {
            "clusters": len(seen),
            "near_duplicates": int(copied.sum()),
            "tokens": float(one.tokens[copied].sum() / one.tokens.sum()),
            "tenths": np.quantile(known, QUANTILES).tolist() if len(known) else None,
        },
        "arms": arms,
        "over_fitting": {
            arm: beside_scored(
                fitted[arm],
                float(mean_loss_over(mine.sums["as_trained"], mine.tokens).mean()),
            )
            for arm, mine in scores.items()
        },
    }
    return found | {"in_words": in_words(found, margin)}


def read_over_fitting(runs: Sequence[str], folder: Path = Path()) -> dict[str, float] | None:
    """See `over_fitting`, of the runs of these names, of the project in `folder`.

    Raises:
        InputError: a log of theirs is missing, or not what training writes.
    """
    with as_written(folder / "plots/train"):
        return over_fitting([read_tsv(folder / training_log(run)) for run in runs])


def over_fitting(runs: Sequence[Sequence[Mapping[str, str]]]) -> dict[str, float] | None:
    """What the logs of an arm's runs, a table each, show of it; None where none was validated."""
    rises, training = [], []
    for rows in runs:
        validated = [float(row["val_loss"]) for row in rows if row["val_loss"]]
        if not validated:
            continue
        end = rows[-max(1, round(END * len(rows))) :]
        rises.append(validated[-1] - min(validated))
        training.append(float(np.mean([float(row["loss"]) for row in end])))
    if not rises:
        return None
    return {"rise": float(np.mean(rises)), "training_loss": float(np.mean(training))}


def beside_scored(fitted: Mapping[str, float] | None, as_trained: float) -> dict[str, float] | None:
    """What the logs show, with the gap to the loss as trained, of all that is scored."""
    if fitted is None:
        return None
    return {**fitted, "gap": as_trained - fitted["training_loss"]}


def _views(
    pair: Sequence[Floats],
    tokens: Floats,
    copied: np.ndarray[Any, np.dtype[np.bool_]],
    bytes_per_token: float,
    resamples: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """The difference of two arms' sums [S, C] in each of VIEWS."""

    def differ(sums: Sequence[Floats], weights: Floats) -> list[float]:
        return list(estimate(sums, weights, loss_difference, resamples, seed).interval())

    by_token = differ(pair, tokens)
    bits = 1 / (np.log(2) * bytes_per_token)
    new = ~copied
    return {
        TOKEN: by_token,
        STORY: differ([sums / tokens for sums in pair], np.ones(len(tokens))),
        BYTE: [float(each * bits) for each in by_token],
        NEW: differ([sums[:, new] for sums in pair], tokens[new]) if new.sum() > 1 else None,
    }


def _over_seeds(pair: Sequence[Floats], tokens: Floats) -> dict[str, Any]:
    """How far the difference moves with the seed."""
    mine, base = (mean_loss_over(sums, tokens) for sums in pair)
    by_seed = mine - base
    if len(by_seed) < 2:
        return {"without_one_seed": None, "seed_sd": None}
    without = (by_seed.sum() - by_seed) / (len(by_seed) - 1)
    return {
        "without_one_seed": [float(without.min()), float(without.max())],
        "seed_sd": float(by_seed.std(ddof=1)),
    }


def in_words(found: Mapping[str, Any], margin: float) -> list[str]:
    """A sentence on the text, one on each arm, and what over-fitting did."""
    overlap = found["overlap"]
    sentences = [
        f"{overlap['near_duplicates']:,} of {overlap['clusters']:,} scored stories or rows"
        f" ({100 * overlap['tokens']:.1f} % of the tokens) are near duplicates of training text:"
        f" at least {100 * found['near_duplicate']:g} % of their runs of {found['ngram']} tokens"
        " stand there."
    ]
    for arm, each in found["arms"].items():
        views = each["views"]
        told = [
            f"{view} {_interval(views[view])}{' bits a byte' * (view == BYTE)}"
            for view in VIEWS
            if views[view]
        ]
        text = f"{arm} - {BASELINE}, nats a token: {'; '.join(told)}"
        if ends := each["without_one_seed"]:
            text += (
                f"; with any one seed left out {ends[0]:+.4f} to {ends[1]:+.4f}, sd over seeds"
                f" {each['seed_sd']:.4f}"
            )
        held = {np.sign(views[view][0]) for view in VIEWS if views[view]}
        if ends:
            held |= {np.sign(end) for end in ends}
        depends = "does not depend" if len(held) == 1 else "depends"
        sentences.append(f"{text}. Its side {depends} on the view.")
    known = {arm: each for arm, each in found["over_fitting"].items() if each}
    return [*sentences, *_over_fitting_in_words(known, margin)]


def _over_fitting_in_words(known: Mapping[str, Mapping[str, float]], margin: float) -> list[str]:
    """Whether any arm grew worse on new text, and how much better each fits what it trained on."""
    if not known:
        return []
    risen = {arm: each["rise"] for arm, each in known.items() if each["rise"] > margin}
    if risen:
        by = ", ".join(f"{arm} {rise:.4f}" for arm, rise in risen.items())
        first = (
            f"Over-fitting: at the end the validation loss is above its lowest, by (nats) {by};"
            " what these arms differ by is about that too."
        )
    else:
        first = f"No arm's validation loss ends more than {margin:g} nats above its lowest."
    gaps = ", ".join(f"{arm} {each['gap']:+.4f}" for arm, each in known.items())
    text = f"{first} The scored loss, as trained, is above the training loss at the end by {gaps}"
    if base := known.get(BASELINE):
        apart = [
            f"{arm} {each['training_loss'] - base['training_loss']:+.4f}"
            for arm, each in known.items()
            if arm != BASELINE
        ]
        if apart:
            text += f"; the training losses less the baseline's: {', '.join(apart)}"
    return [
        f"{text}. An arm that gains by over-fitting less has its gain in the first of the two, and"
        " not in the second."
    ]


def _interval(ends: Sequence[float]) -> str:
    value, low, high = ends
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
