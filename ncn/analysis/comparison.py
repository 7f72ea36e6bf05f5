"""The arms side by side: metrics/summary.json, metrics/compare.json, and the same in words.

The score of an arm is its loss as a language model: as trained, or causally where it was trained
with the whole window in view (`ncn.statistics.scores`). Its other scores have intervals, no tests.

metrics/summary.json holds for each arm delta_ppl, delta_ppl_low, delta_ppl_high (95 %), val_ppl,
val_loss, future_leak (as trained): the fixed names that `dvc metrics diff` shows; the primary arm
first.

metrics/compare.json:

    sequences, seeds              what was scored; seeds are paired between arms
    cluster, clusters             what was resampled ("story" or "sequence"), and how many
    margin                        of the equivalence test, nats a token
    primary, reference            the arms that params.yaml declared, or null
    comparisons                   how many tests Holm's correction is for
    seed_sd                       nats, assumed where there is one seed; else null
    missing                       in words, each arm that could not be compared
    arms.ARM                      val_loss and val_ppl, each: mean, sd over seeds (null with one),
                                  by_seed, low, high (95 %, as for a difference); val_bpb,
                                  parameters, non_embedding_parameters, flops_per_token
        scores.FORM               as_trained, causal, reactive, each where it applies: loss, ppl,
                                  delta_ppl [value, low, high] to the baseline's score, or null
    differences.ARM               of each arm but the baseline:
        delta_ppl, delta_loss     [value, low, high], 95 %: see `ncn.statistics`
        by_seed.SEED              [value, low, high] of delta_ppl for that pair of checkpoints
        p, p_holm                 of no difference (in nats), and adjusted over all comparisons
        p_equivalent, p_equivalent_holm   of a difference outside +-margin (TOST), likewise
        equivalent                p_equivalent_holm < 0.05
        smallest_detectable       nats: what this design finds with 80 % power at the 5 % level
        variance                  of delta_loss: {seeds, clusters}
        with_seeds.N              one seed: what N seeds would find so, if they scatter by seed_sd
        to_reference              all of these, of the difference to the reference arm; or absent
    in_words.ARM                  what that says, and what it does not say

With one seed there is no test: p, equivalent, smallest_detectable and variance.seeds are null. Nor
is there one of a score that reads the future.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.analysis.verdict import (
    FEWEST_CLUSTERS,
    Kind,
    Side,
    Verdict,
    reads_the_future,
    score_reads_the_future,
    verdict_of,
)
from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json
from ncn.common.paths import (
    SCORES,
    TRAINING,
    cluster_losses,
    model_directory,
    run_name,
    scores_directory,
)
from ncn.common.tsv import read_tsv
from ncn.settings import BASELINE as BASELINE  # other rooms take it from here
from ncn.settings import Compare
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
from ncn.statistics.scores import COLUMNS, language_model

POWER = 0.8
PLANNED_SEEDS = (5, 10)  # of which one seed says what they would show
OF_AN_ARM = ("parameters", "non_embedding_parameters", "flops_per_token")
TESTS = ("p", "p_equivalent")
SIDES: dict[Side, str] = {
    "better": "lower than",
    "worse": "higher than",
    "open": "not distinguishable from",
}
# What follows the figures of a verdict.
AND_SO: dict[Kind, str] = {
    "negligible": ": real but negligible, within +-{margin:g} nats (TOST)",
    "equivalent": ": equivalent, within +-{margin:g} nats (TOST)",
    "reads the future": ": it reads the future, so this is no language model's perplexity",
    "leak unknown": ": whether it reads the future was not measured",
}


class Scores(NamedTuple):
    """An arm's losses: by form, sums [S, C] in nats over each cluster's tokens; tokens [C], names.

    `sequences` scored; `future_leak` the largest over the seeds; `entry` the arm's own figures.
    """

    sums: dict[str, Floats]
    tokens: Floats
    names: list[str]
    sequences: int
    future_leak: float
    entry: dict[str, Any]

    @property
    def score(self) -> Floats:
        """The sums of the form that counts: the language model's."""
        return self.sums[language_model(self.sums)]


def read_scores(arm: str, seeds: Sequence[int]) -> Scores:
    """What the stages train and evaluate wrote of an arm, below data/.

    Raises:
        InputError: a file is missing, a loss is not a finite number, or seeds that scored
            different text or forms.
    """
    with as_written(*(scores_directory(run_name(arm, seed)) for seed in seeds)):
        return _read_scores(arm, seeds)


def _read_scores(arm: str, seeds: Sequence[int]) -> Scores:
    sums: dict[str, list[Floats]] = {}
    tokens, names = np.empty(0), None
    details: list[dict[str, Any]] = []
    for seed in seeds:
        run = run_name(arm, seed)
        path = cluster_losses(run)
        rows = read_tsv(path)
        kind = next(iter(rows[0]), "") if rows else ""
        forms = [form for form, column in COLUMNS.items() if rows and column in rows[0]]
        if names not in (None, mine := [f"{kind} {row[kind]}" for row in rows]):
            raise InputError(f"{path} scores other text than seed {seeds[0]}: run `dvc repro`")
        if not details:
            sums = {form: [] for form in forms}
        if "as_trained" not in sums or forms != list(sums):
            raise InputError(f"{path} lacks a column of losses: run `dvc repro`")
        names = mine
        tokens = np.array([float(row["tokens"]) for row in rows])
        for form in forms:
            losses = np.array([float(row[COLUMNS[form]]) for row in rows])
            if not np.isfinite(losses).all():
                bad = names[int(np.isfinite(losses).argmin())]
                raise InputError(f"{path}: {COLUMNS[form]} of {bad} is not a finite number")
            sums[form].append(losses * tokens)
        details.append(read_json(scores_directory(run) / SCORES))
    trained = read_json(model_directory(run_name(arm, seeds[0])) / TRAINING)
    return Scores(
        {form: np.array(each) for form, each in sums.items()},
        tokens,
        names or [],
        details[0]["sequences"],
        max(detail["future_leak"] for detail in details),
        {"val_bpb": float(np.mean([detail["val_bpb"] for detail in details]))}
        | {key: trained[key] for key in OF_AN_ARM},
    )


class Differences(NamedTuple):
    """How two arms are compared: on which clusters and seeds, and how it is resampled."""

    tokens: Floats
    seeds: Sequence[int]
    resamples: int
    margin: float
    seed: int
    seed_sd: float

    def estimated(self, sums: Sequence[Floats], statistic: Statistic) -> Estimate:
        """A statistic of one or two arms, with what it is uncertain by."""
        return estimate(sums, self.tokens, statistic, self.resamples, self.seed)

    def between(self, mine: Floats, other: Floats, tested: bool) -> dict[str, Any]:
        """An entry of `differences`, before Holm's correction.

        Args:
            mine: sums [S, C] of the arm.
            other: of what it is compared with.
            tested: whether there is something to test, given several seeds.
        """
        nats = self.estimated([mine, other], loss_difference)
        several = len(self.seeds) > 1
        tested = tested and several
        by_seed = {
            str(seed): self.perplexities(mine[[place]], other[[place]])
            for place, seed in enumerate(self.seeds)
        }
        entry: dict[str, Any] = {
            "delta_ppl": self.perplexities(mine, other),
            "delta_loss": list(nats.interval()),
            "by_seed": by_seed,
            "p": nats.p_value(nats.value) if tested else None,
            "p_equivalent": equivalence(nats, self.margin) if tested else None,
            "smallest_detectable": nats.smallest_detectable(POWER) if several else None,
            "variance": {"seeds": nats.seeds if several else None, "clusters": nats.clusters},
        }
        if not several:
            entry["with_seeds"] = {
                str(n): nats.with_seeds(n, self.seed_sd).smallest_detectable(POWER)
                for n in PLANNED_SEEDS
            }
        return entry

    def perplexities(self, mine: Floats, other: Floats) -> list[float]:
        """The difference of the perplexities, [value, low, high]."""
        return list(self.estimated([mine, other], perplexity_difference).interval())


def compare(
    arms: Sequence[str],
    seeds: Sequence[int],
    declared: Compare,
    resamples: int,
    margin: float,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """metrics/summary.json and metrics/compare.json; differences are to the arm named `baseline`.

    Several seeds are averaged in the loss; val_ppl is the exponential of that average. An arm
    that cannot be read is left out and named in `missing`.

    Args:
        arms: all of them.
        seeds: of each.
        declared: the primary endpoint and the reference arm.
        resamples: of the bootstrap.
        margin: of equivalence, nats a token.
        seed: of the resampling.

    Raises:
        InputError: no arm can be read.
    """
    scores, missing = read_arms(arms, seeds)
    if BASELINE not in scores and len(scores) > 1:
        missing.setdefault(BASELINE, "no arm named baseline: there is nothing to differ from")
    one = next(iter(scores.values()))
    differ = Differences(one.tokens, seeds, resamples, margin, seed, declared.seed_sd)
    base, beside = scores.get(BASELINE), scores.get(declared.reference or "")
    summary, entries = {}, {}
    differences: dict[str, dict[str, Any]] = {}
    for arm, mine in scores.items():
        entries[arm] = _arm_entry(mine, base if arm != BASELINE else None, differ)
        summary[arm] = {
            "val_ppl": entries[arm]["val_ppl"]["mean"],
            "val_loss": entries[arm]["val_loss"]["mean"],
            "future_leak": mine.future_leak,
        }
        tested = _is_language_model(mine)
        if arm == BASELINE or base is None:
            continue
        found = differ.between(mine.score, base.score, tested)
        names = ("delta_ppl", "delta_ppl_low", "delta_ppl_high")
        summary[arm] = dict(zip(names, found["delta_ppl"], strict=True)) | summary[arm]
        if beside is not None and arm != declared.reference:
            both = tested and _is_language_model(beside)
            found["to_reference"] = differ.between(mine.score, beside.score, both)
        differences[arm] = found
    comparison = {
        "sequences": one.sequences,
        "seeds": list(seeds),
        "cluster": one.names[0].split()[0],
        "clusters": len(one.names),
        "margin": margin,
        "primary": declared.primary,
        "reference": declared.reference,
        "comparisons": _corrected(differences),
        "seed_sd": declared.seed_sd if len(seeds) < 2 else None,
        "missing": list(missing.values()),
        "arms": entries,
        "differences": differences,
    }
    words = {arm: in_words(arm, summary, comparison) for arm in summary}
    comparison["in_words"] = {arm: words.get(arm) or f"{missing[arm]}." for arm in arms}
    return in_order_of_interest(summary, declared.primary), comparison


def in_order_of_interest(summary: Mapping[str, Any], primary: str | None) -> dict[str, Any]:
    """The primary arm first, the baseline last.

    `dvc exp show` has a column for each entry, in their order, and a terminal shows the first few.
    """
    return {
        arm: summary[arm]
        for arm in sorted(summary, key=lambda arm: (arm != primary, arm == BASELINE))
    }


def read_arms(
    arms: Sequence[str], seeds: Sequence[int]
) -> tuple[dict[str, Scores], dict[str, str]]:
    """The arms that can be compared, and why others cannot.

    Raises:
        InputError: none can.
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
    return scores, missing


def _is_language_model(mine: Scores) -> bool:
    reads = score_reads_the_future({"future_leak": mine.future_leak}, mine.sums)
    return reads is False


def as_table(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """plots/differences.tsv: each arm's difference in nats, its interval; the baseline's is 0."""
    rows: list[dict[str, Any]] = [{"arm": BASELINE, "difference": 0.0, "low": 0.0, "high": 0.0}]
    for arm, found in comparison["differences"].items():
        names = ("difference", "low", "high")
        rows.append({"arm": arm} | dict(zip(names, found["delta_loss"], strict=True)))
    return rows


def _arm_entry(mine: Scores, base: Scores | None, differ: Differences) -> dict[str, Any]:
    """An entry of `arms`; `base` is None where there is nothing to differ from."""
    by_seed = mean_loss_over(mine.score, mine.tokens)
    loss, ppl = (differ.estimated([mine.score], each) for each in (mean_loss, perplexity))
    scored = {}
    for form, sums in mine.sums.items():
        mean = float(mean_loss_over(sums, mine.tokens).mean())
        scored[form] = {
            "loss": mean,
            "ppl": float(np.exp(mean)),
            "delta_ppl": differ.perplexities(sums, base.score) if base is not None else None,
        }
    return {
        "val_loss": _spread(by_seed, loss, differ.seeds),
        "val_ppl": _spread(np.exp(by_seed), ppl, differ.seeds),
        **mine.entry,
        "scores": scored,
    }


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


def _corrected(differences: Mapping[str, dict[str, Any]]) -> int:
    """Put Holm's correction into every comparison that is tested; how many those are.

    The primary endpoint is one of them: what is secondary is corrected with it.
    """
    entries = list(differences.values())
    entries += [each["to_reference"] for each in entries if "to_reference" in each]
    tested = [each for each in entries if each["p"] is not None]
    for name in TESTS:
        for entry in entries:
            entry[f"{name}_holm"] = None
        adjusted = holm([entry[name] for entry in tested])
        for entry, value in zip(tested, adjusted, strict=True):
            entry[f"{name}_holm"] = value
    for entry in entries:
        p = entry["p_equivalent_holm"]
        entry["equivalent"] = None if p is None else p < LEVEL
    return len(tested)


def in_words(
    arm: str, summary: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Any]
) -> str:
    """What the figures of an arm say, and what they do not say."""
    n_seeds = len(comparison["seeds"])
    text = f"{arm}: perplexity {summary[arm]['val_ppl']:.4f}"
    if n_seeds > 1:
        text += f" (sd {comparison['arms'][arm]['val_ppl']['sd']:.4f} over {n_seeds} seeds)"
    verdict = verdict_of(arm, summary, comparison)
    if verdict is None:
        return f"{text}.{_as_trained(arm, summary, comparison)}"
    text += f", {_difference(verdict, 'the baseline', comparison)}."
    if verdict.primary is not None:
        text += " The primary endpoint." if verdict.primary else " A secondary endpoint."
    text += _as_trained(arm, summary, comparison)
    beside = verdict_of(arm, summary, comparison, to_reference=True)
    if beside is not None:
        text += (
            " Beside the reference arm:"
            f" {_difference(beside, comparison['reference'], comparison)}."
        )
    text += _power(comparison["differences"][arm], comparison)
    if verdict.few_clusters:
        text += (
            f" {_clusters(comparison)} are few: with less than {FEWEST_CLUSTERS} an interval can"
            " hold the truth less often than it says."
        )
    return text


def _difference(verdict: Verdict, other: str, comparison: Mapping[str, Any]) -> str:
    """How a verdict reads: which side, the figures, and what becomes of it."""
    value, low, high = verdict.difference
    if verdict.n_seeds < 2:
        text = (
            f"{value:+.4f} to {other}: the difference of two checkpoints, interval over"
            f" {_clusters(comparison)} {low:+.4f} to {high:+.4f}; seed variance unknown"
        )
    else:
        text = (
            f"{SIDES[verdict.side]} {other}'s ({value:+.4f}, 95 % interval {low:+.4f} to"
            f" {high:+.4f} over {verdict.n_seeds} seeds and {_clusters(comparison)}"
            f"{_p_in_words(verdict, comparison)})"
        )
    if verdict.may_be_chance:
        text += ", though its interval by itself leaves 0 out"
    return text + AND_SO.get(verdict.kind, "").format(margin=comparison["margin"])


def _clusters(comparison: Mapping[str, Any]) -> str:
    kind = {"story": "stories", "sequence": "sequences"}[comparison["cluster"]]
    return f"{comparison['clusters']:,} {kind}"


def _p_in_words(verdict: Verdict, comparison: Mapping[str, Any]) -> str:
    if verdict.p is None:
        return ""
    n = comparison["comparisons"]
    holm_of = f"after Holm over {n} comparison{'' if n == 1 else 's'}"
    if verdict.p_at_floor:
        return f"; p at most {verdict.p:.2g} {holm_of}, the least that is computed"
    return f"; p = {verdict.p:.2g} {holm_of}"


def _power(found: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """What this design can find; with one seed, what more of them could."""
    if found["smallest_detectable"] is not None:
        return (
            f" This design finds a true difference of {found['smallest_detectable']:.4f} nats in"
            f" {100 * POWER:.0f} % of cases, smaller ones less often."
        )
    (n, nats), *more = found["with_seeds"].items()
    return (
        f" With a seed sd of {comparison['seed_sd']:g} nats, {n} seeds would find {nats:.4f} nats"
        f" in {100 * POWER:.0f} % of cases"
        + "".join(f", {n} seeds {nats:.4f}" for n, nats in more)
        + "."
    )


def _as_trained(
    arm: str, summary: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Any]
) -> str:
    """Of an arm that reads the future as trained, its other scores."""
    scores = comparison["arms"][arm]["scores"]
    if not reads_the_future(summary[arm]) or "causal" not in scores:
        return ""
    text = (
        " All this is scored causally, on the history alone: as trained it reads the future (a"
        f" later token moves earlier logits by up to {summary[arm]['future_leak']:.3g}), and its"
        f" {scores['as_trained']['ppl']:.4f} is no language model's."
    )
    if "reactive" in scores:
        text += f" As the preprint generates (3.2, reactively): {scores['reactive']['ppl']:.4f}."
    return text
