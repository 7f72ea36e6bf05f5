"""One trained model -> the loss of each validation sequence.

In:  data/models/ARM-SEED, data/tokens, data/yardsticks.json.
Out: data/scores/ARM-SEED/: scores.json, sequences.tsv (one line a sequence), clusters.tsv (one line
     a story, or sequence: what intervals resample).
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

import argparse
import math

import numpy as np

from ncn.common.errors import InputError, run_command
from ncn.common.files import replacing_directory, write_json
from ncn.common.paths import (
    CLUSTERS,
    SCORES,
    SEQUENCES,
    TOKENS,
    model_directory,
    run_name,
    scores_directory,
)
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.corpus.meta import read_meta
from ncn.corpus.split import choose_sequences
from ncn.model import load_model
from ncn.model.device import compute_alike, pick_device
from ncn.model.inputs import validation_rows
from ncn.scoring.leak import future_leak
from ncn.scoring.losses import clusters_of, forms_of, mean_by, mean_over, score_tokens
from ncn.scoring.probes import probe
from ncn.scoring.questions import questions
from ncn.scoring.yardsticks import read_yardsticks
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.statistics.scores import COLUMNS, language_model


def main() -> None:
    """Score the model in each of its forms; the causal one is the language model's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--seed", required=True, type=int)
    arguments = parser.parse_args()
    run = run_name(arguments.arm, arguments.seed)
    inputs = StageInputs("evaluate", arm=arguments.arm, seed=arguments.seed)
    params = load_params()
    compute_alike(params.train.threads)
    settings = params.eval
    model = load_model(model_directory(run)).to(pick_device())
    model.use_kernels(params.train.kernels)
    meta = read_meta(TOKENS)
    for setting in ("vocab_size", "context_length"):
        if (mine := getattr(model.config, setting)) != (theirs := getattr(meta, setting)):
            raise InputError(
                f"{model_directory(run)}: {setting} {mine}, but {TOKENS} has {theirs}:"
                " run `dvc repro train`"
            )
    validation = validation_rows(TOKENS, model)
    chosen = choose_sequences(len(validation), settings.sequences, params.seed)
    rows, yardsticks = validation[chosen], read_yardsticks()
    few = rows[: settings.leak_sequences]
    with timed(f"evaluate {run}"):
        losses = {
            COLUMNS[form]: score_tokens(model, rows, settings.batch_size, salience, f"{run} {form}")
            for form, salience in forms_of(model).items()
        }
        leak = future_leak(model, few, params.seed)
        probes = probe(model, few)
        answers = questions(model, rows, losses)
    unit = meta.split.unit
    kind = "sequence" if unit == "sequence" else "story"
    clusters = clusters_of(validation.tokens, chosen, unit, meta.end_of_text)
    by_cluster = mean_by(kind, clusters, losses)
    means = {
        form: mean_over(by_cluster, column) for form, column in COLUMNS.items() if column in losses
    }
    mean = means[language_model(means)]
    summary = {
        "arm": arguments.arm,
        "seed": arguments.seed,
        "sequences": len(rows),
        "val_loss": mean,
        "val_ppl": math.exp(mean),
        "val_bpb": mean / math.log(2) / meta.val.bytes_per_token,
        "scores": {form: {"loss": loss, "ppl": math.exp(loss)} for form, loss in means.items()},
        "future_leak": leak,
        "yardsticks": yardsticks._asdict(),
        "probes": probes,
        "questions": answers,
    }
    sequences = np.broadcast_to(chosen[:, None], losses["loss"].shape)
    inputs.check()
    with replacing_directory(scores_directory(run)) as new:
        write_json(new / SCORES, summary)
        write_tsv(new / SEQUENCES, mean_by("sequence", sequences, losses))
        write_tsv(new / CLUSTERS, by_cluster)
    print(f"{run}: {mean:.4f} nats a token, perplexity {math.exp(mean):.4f}, {len(rows)} sequences")


if __name__ == "__main__":
    run_command(main)
