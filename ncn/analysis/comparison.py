"""The arms side by side: metrics/summary.json, metrics/compare.json, and the same in words.

metrics/summary.json holds, for each arm, the fixed names that `dvc metrics diff` shows.

metrics/compare.json:

    sequences, seeds              what was scored; seeds are paired between arms
    cluster, clusters             what was resampled ("story" or "sequence"), and how many
    margin                        of the equivalence test, nats a token
    missing                       in words, each arm that could not be compared
    arms.ARM                      val_loss and val_ppl, each: mean, sd over seeds (null with one),
                                  by_seed, low, high (95 %, as for a difference)
    differences.ARM               of each arm but the baseline:
        delta_ppl, delta_loss     [value, low, high], 95 %, the headline: see `ncn.statistics`
        by_seed.SEED              [value, low, high] of delta_ppl for that pair of checkpoints
        reactive                  as delta_ppl, the arm scored as it would generate; or absent
        p, p_holm                 of no difference (in nats), and adjusted over the arms
        p_equivalent, p_equivalent_holm   of a difference outside +-margin (TOST), likewise
        equivalent                p_equivalent_holm < 0.05
        smallest_detectable       nats: what this design finds with 80 % power at the 5 % level
        variance                  of delta_loss: {seeds, clusters}; seeds null with one seed
    in_words.ARM                  what that says, and what it does not say
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.analysis.verdict import reads_the_future, verdict_of
from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import (
    cluster_losses,
    evaluation_metrics,
    run_name,
    training_metrics,
)
from ncn.common.tsv import read_tsv
from ncn.statistics.estimate import (
    Estimate,
    Statistic,
    equivalence,
    estimate,
    holm,
    loss_difference,
    mean_loss,
    perplexity,
    perplexity_difference,
)
from ncn.statistics.interval import LEVEL, Floats
from ncn.statistics.mean import mean_loss_over

BASELINE = "baseline"
POWER = 0.8
SIDES = {"better": "lower than", "worse": "higher than", "open": "not distinguishable from"}


class Scores(NamedTuple):
    """An arm's losses: sums [S, C] in nats over each cluster's tokens, tokens [C], cluster names.

    `sequences` scored; `reactive` as `sums`, or None; `summary` the arm's own entry.
    """

    sums: Floats
    tokens: Floats
    names: list[str]
    sequences: int
    reactive: Floats | None
    summary: dict[str, Any]


def read_scores(arm: str, seeds: Sequence[int]) -> Scores:
    """What the evaluate stage wrote of an arm.

    Raises:
        InputError: a file is missing, a loss is not a finite number, or seeds that scored
            different text.
    """
    sums: dict[str, list[Floats]] = {"loss": [], "reactive_loss": []}
    tokens, names, details = np.empty(0), None, []
    for seed in seeds:
        run = run_name(arm, seed)
        path = cluster_losses(run)
        rows = read_tsv(path)
        kind = next(iter(rows[0]), "") if rows else ""
        if names not in (None, mine := [f"{kind} {row[kind]}" for row in rows]):
            raise InputError(f"{path} scores other text than seed {seeds[0]}: run `dvc repro`")
        names = mine
        tokens = np.array([float(row["tokens"]) for row in rows])
        for column in set(sums) & set(rows[0] if rows else ()):
            losses = np.array([float(row[column]) for row in rows])
            if not np.isfinite(losses).all():
                bad = names[int(np.isfinite(losses).argmin())]
                raise InputError(f"{path}: {column} of {bad} is not a finite number")
            sums[column].append(losses * tokens)
        details.append(read_json(evaluation_metrics(run)))
    trained = read_json(training_metrics(run_name(arm, seeds[0])))
    summary = {
        "val_bpb": float(np.mean([detail["val_bpb"] for detail in details])),
        "parameters": trained["parameters"],
        "flops_per_token": trained["flops_per_token"],
        "future_leak": max(detail["future_leak"] for detail in details),
    }
    reactive = np.array(sums["reactive_loss"]) if sums["reactive_loss"] else None
    scored = details[0]["sequences"]
    return Scores(np.array(sums["loss"]), tokens, names or [], scored, reactive, summary)


def compare(
    arms: Sequence[str], seeds: Sequence[int], resamples: int, margin: float, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """metrics/summary.json and metrics/compare.json; differences are to the arm named `baseline`.

    Several seeds are averaged in the loss; val_ppl is the exponential of that average. An arm
    that cannot be read is left out and named in `missing`.

    Raises:
        InputError: no arm can be read.
    """
    scores: dict[str, Scores] = {}
    missing: dict[str, str] = {}
    for arm in arms:
        try:
            mine = read_scores(arm, seeds)
            first = next(iter(scores.values()), mine)
            if (mine.names, mine.tokens.tolist()) != (first.names, first.tokens.tolist()):
                raise InputError(f"scores other text than {next(iter(scores))}: run `dvc repro`")
            scores[arm] = mine
        except InputError as error:
            missing[arm] = f"{arm} is not compared: {error}"
    if not scores:
        raise InputError("no arm can be compared: " + "; ".join(missing.values()))
    if BASELINE not in scores and len(scores) > 1:
        missing.setdefault(BASELINE, "no arm named baseline: there is nothing to differ from")
    one = next(iter(scores.values()))

    def estimated(sums: Sequence[Floats], statistic: Statistic) -> Estimate:
        return estimate(sums, one.tokens, statistic, resamples, seed)

    summary, spread = {}, {}
    differences: dict[str, dict[str, Any]] = {}
    for arm, mine in scores.items():
        loss, ppl = estimated([mine.sums], mean_loss), estimated([mine.sums], perplexity)
        by_seed = mean_loss_over(mine.sums, mine.tokens)
        spread[arm] = {
            "val_loss": _spread(by_seed, loss, seeds),
            "val_ppl": _spread(np.exp(by_seed), ppl, seeds),
        }
        entry = {"val_loss": loss.value, "val_ppl": math.exp(loss.value)} | mine.summary
        if mine.reactive is not None:
            entry["val_ppl_reactive"] = math.exp(mean_loss_over(mine.reactive.mean(0), mine.tokens))
        if arm != BASELINE and BASELINE in scores:
            base = scores[BASELINE].sums
            headline = estimated([mine.sums, base], perplexity_difference)
            nats = estimated([mine.sums, base], loss_difference)
            names = ("delta_ppl", "delta_ppl_low", "delta_ppl_high")
            entry |= dict(zip(names, headline.interval(), strict=True))
            differences[arm] = {
                "delta_ppl": list(headline.interval()),
                "delta_loss": list(nats.interval()),
                "by_seed": {
                    str(each): list(
                        estimated(
                            [mine.sums[[place]], base[[place]]], perplexity_difference
                        ).interval()
                    )
                    for place, each in enumerate(seeds)
                },
                "p": nats.p_value(nats.value),
                "p_equivalent": equivalence(nats, margin),
                "smallest_detectable": nats.smallest_detectable(POWER),
                "variance": {
                    "seeds": nats.seeds if len(seeds) > 1 else None,
                    "clusters": nats.clusters,
                },
            }
            if mine.reactive is not None:
                reactive = estimated([mine.reactive, base], perplexity_difference)
                differences[arm]["reactive"] = list(reactive.interval())
        summary[arm] = entry
    for name in ("p", "p_equivalent"):
        adjusted = holm([difference[name] for difference in differences.values()])
        for difference, value in zip(differences.values(), adjusted, strict=True):
            difference[f"{name}_holm"] = value
    for difference in differences.values():
        difference["equivalent"] = difference["p_equivalent_holm"] < LEVEL
    comparison = {
        "sequences": one.sequences,
        "seeds": list(seeds),
        "cluster": one.names[0].split()[0],
        "clusters": len(one.names),
        "margin": margin,
        "missing": list(missing.values()),
        "arms": spread,
        "differences": differences,
    }
    words = {arm: in_words(arm, summary, comparison) for arm in summary}
    comparison["in_words"] = {arm: words.get(arm) or f"{missing[arm]}." for arm in arms}
    return summary, comparison


def _spread(by_seed: Floats, of_mean: Estimate, seeds: Sequence[int]) -> dict[str, Any]:
    """Mean and spread over seeds, and the 95 % interval of the mean."""
    interval = of_mean.interval()
    return {
        "mean": interval.value,
        "sd": float(np.std(by_seed, ddof=1)) if len(seeds) > 1 else None,
        "by_seed": {str(seed): float(value) for seed, value in zip(seeds, by_seed, strict=True)},
        "low": interval.low,
        "high": interval.high,
    }


def in_words(arm: str, summary: dict[str, Any], comparison: dict[str, Any]) -> str:
    """What the figures of an arm say, and what they do not say."""
    entry, verdict = summary[arm], verdict_of(arm, summary, comparison)
    n_seeds, many = len(comparison["seeds"]), f"{comparison['clusters']:,}"
    kind = {"story": "stories", "sequence": "sequences"}[comparison["cluster"]]
    text = f"{arm}: perplexity {entry['val_ppl']:.4f}"
    if n_seeds > 1:
        text += f" (sd {comparison['arms'][arm]['val_ppl']['sd']:.4f} over {n_seeds} seeds)"
    if verdict is None:
        text += "."
    else:
        value, low, high = verdict.difference
        over = f"{many} {kind}" if n_seeds == 1 else f"{n_seeds} seeds and {many} {kind}"
        text += (
            f", {SIDES[verdict.by_interval]} the baseline's ({value:+.4f}, 95 % interval {low:+.4f}"
            f" to {high:+.4f} over {over})."
        )
        if verdict.may_be_chance:
            text += (
                f" With {len(comparison['differences'])} compared, that may be chance"
                f" (p = {verdict.p:.2g} after Holm)."
            )
        if verdict.equivalent:
            text += f" The difference is within +-{comparison['margin']:g} nats (TOST)."
        if not verdict.of_the_method:
            text += " One seed: this interval speaks of these two checkpoints, not of the method."
        detectable = comparison["differences"][arm]["smallest_detectable"]
        text += (
            f" This design finds a true difference of {detectable:.4f} nats in {POWER:.0%} of"
            " cases, smaller ones less often."
        )
    if reads_the_future(entry):
        text += (
            f" It reads the future: a later token moves earlier logits by up to"
            f" {entry['future_leak']:.3g}, so this is not a language model's perplexity."
        )
        if "val_ppl_reactive" in entry:
            text += f" Scored as it would generate: {entry['val_ppl_reactive']:.4f}."
    return text
