"""The scored arms -> whether their differences hold when counted otherwise.

In:  data/scores/ARM-SEED, data/models/ARM-SEED, data/tokens, metrics/tuning.json,
     plots/train/ARM-SEED.tsv.
Out: metrics/robustness.json, plots/figures/robustness.{svg,png}.
"""

import numpy as np

from ncn.analysis.comparison import read_arms
from ncn.analysis.overlap import seen_in_training
from ncn.analysis.robustness import read_over_fitting, robustness
from ncn.common.errors import InputError, run_command
from ncn.common.files import read_json, write_json
from ncn.common.paths import ROBUSTNESS, TOKENS, TUNING, run_name
from ncn.common.timing import timed
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import open_rows
from ncn.corpus.split import choose_sequences
from ncn.figures.robustness import draw_robustness
from ncn.figures.saving import save
from ncn.scoring.losses import clusters_of, mean_by
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.statistics.interval import Floats


def main() -> None:
    """Count the differences by token, story and byte, without near duplicates, without a seed."""
    inputs = StageInputs("robustness")
    params = load_params()
    settings = params.robustness
    scores, missing = read_arms(list(params.arms), params.seeds)
    with timed("robustness"):
        names, seen = overlap(params.eval.sequences, params.seed, settings.ngram)
    for arm, mine in scores.items():
        if mine.names != names:
            raise InputError(f"{arm} was scored on other text than data/tokens: run `dvc repro`")
    fitted = {
        arm: read_over_fitting([run_name(arm, seed) for seed in params.seeds]) for arm in scores
    }
    found = robustness(
        scores,
        seen,
        settings.near_duplicate,
        settings.ngram,
        read_meta(TOKENS).val.bytes_per_token,
        fitted,
        params.eval.equivalence,
        params.eval.bootstrap,
        params.seed,
    )
    inputs.check()
    write_json(ROBUSTNESS, found)
    save("robustness", draw_robustness(found, read_json(TUNING)))
    print("\n".join([*found["in_words"], *missing.values()]))


def overlap(sequences: int, seed: int, ngram: int) -> tuple[list[str], Floats]:
    """The clusters that `evaluate` scores, by name, and the share of each that was seen, [C]."""
    meta = read_meta(TOKENS)
    validation = open_rows(TOKENS, "val")
    chosen = choose_sequences(len(validation), sequences, seed)
    unit = meta.split.unit
    clusters = clusters_of(validation, chosen, unit, meta.end_of_text)
    seen = seen_in_training(validation[chosen], open_rows(TOKENS, "train"), ngram)
    kind = "sequence" if unit == "sequence" else "story"
    known = ~np.isnan(seen)
    columns = {"known": known.astype(np.float32), "seen": np.nan_to_num(seen).astype(np.float32)}
    rows = mean_by(kind, clusters, columns)
    of_known, of_seen = (np.array([row[key] for row in rows], np.float64) for key in columns)
    shares = np.divide(of_seen, of_known, out=np.full(len(rows), np.nan), where=of_known > 0)
    return [f"{kind} {row[kind]}" for row in rows], shares


if __name__ == "__main__":
    run_command(main)
