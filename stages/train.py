"""One arm with one seed -> a trained model and its log.

In:  data/tokens (the tokenize stage), data/tuning/ARM (its learning rate).
Out: data/models/ARM-SEED/: model.safetensors, config.json, training.json, log.tsv.

The growing log is in plots/train/ARM-SEED.tsv meanwhile, so that it can be looked at.

Interrupted, the same command goes on from the state in .scratch.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ncn.common import paths
from ncn.common.errors import run_command
from ncn.common.files import replacing_directory, write_json
from ncn.common.paths import TOKENIZER, TOKENS
from ncn.common.stopping import StopSignals
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.corpus.meta import read_meta
from ncn.corpus.tokenizer import check_lengths, load_tokenizer
from ncn.model import build_model, parameter_count, save_model
from ncn.model.build import non_embedding_count
from ncn.model.device import compute_alike, describe, pick_device
from ncn.model.flops import flops_per_token
from ncn.model.inputs import training_rows, validation_rows
from ncn.monitoring.cost import training_cost
from ncn.monitoring.preview import previewer
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.training.log import LogRow
from ncn.training.loop import train_model
from ncn.training.processes import (
    launch,
    process_group,
    rank,
    started_by_torchrun,
    threads_of_a_process,
)
from ncn.training.states import states_of
from ncn.training.tuning import chosen_rate


def main() -> None:
    """Train the arm on the rows that every arm sees, in the order that every arm sees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--seed", required=True, type=int)
    arguments = parser.parse_args()
    settings = load_params().train
    if settings.processes > 1 and not started_by_torchrun():
        launch("stages.train", sys.argv[1:], settings)
        return
    with StopSignals() as stop, process_group(pick_device()):
        train(arguments.arm, arguments.seed, stop)


def train(arm: str, seed: int, stop: StopSignals) -> None:
    """Train, and write the outputs when all is done."""
    run = paths.run_name(arm, seed)
    folder = paths.model_directory(run)
    inputs = StageInputs("train", arm=arm, seed=seed)
    params = load_params()
    settings = params.train_of(arm).model_copy(update={"lr": chosen_rate(arm)})
    device = pick_device()
    compute_alike(threads_of_a_process(settings))
    meta = read_meta(TOKENS)
    later = {  # what later stages read: refused now, and not after hours
        "generate.prompts": params.generate.prompts,
        "brain_scan.texts": params.brain_scan.texts,
    }
    check_lengths(later, load_tokenizer(TOKENIZER), meta.context_length)
    model = build_model(params, arm, meta.vocab_size, seed).to(device)
    rows, validation = training_rows(TOKENS, model), validation_rows(TOKENS, model)
    if rank() > 0:  # of several processes: the first alone speaks, saves and writes
        train_model(model, rows, settings, seed, run, validation=validation, stop=stop)
        return
    n_parameters = parameter_count(model.config)
    print(f"{run}: {n_parameters:,} parameters on {describe(device)}")
    print(f"{run}: {training_cost(model, settings, len(rows))}")

    growing = paths.training_log(run)

    def write_log(log: Sequence[LogRow], file: Path = growing) -> None:
        write_tsv(file, [{"arm": arm, "seed": seed} | row.columns() for row in log])

    with states_of(run, model.config, settings, seed, meta.digest, params.saving) as states:
        print(f"{run}: its states are saved in {states.folder}", flush=True)
        states.forget_if_recorded(f"train@{run}", folder)
        with timed(f"train {run}") as noted:
            log = train_model(
                model, rows, settings, seed, run,
                validation=validation, sample=previewer(TOKENIZER), live=write_log,
                states=states, stop=stop,
            )  # fmt: skip
            steps = log[-1].step
            noted["tokens"] = log[-1].tokens * (steps - states.resumed) // steps
        summary = {
            "arm": arm,
            "seed": seed,
            "lr": settings.lr,
            "parameters": n_parameters,
            "non_embedding_parameters": non_embedding_count(model.config),
            "d_ff": model.config.d_ff,
            "flops_per_token": flops_per_token(model.config),
            "steps": steps,
            "tokens": log[-1].tokens,
            "first_loss": log[0].loss,
            "last_loss": log[-1].loss,
            "loss_spikes": sum(row.spikes for row in log),
            "skipped_steps": sum(row.skipped for row in log),
            "data": meta.digest,
        }

        def write() -> None:
            inputs.check()
            with replacing_directory(folder) as new:
                save_model(model, new)
                write_log(log, new / paths.LOG)
                write_json(new / paths.TRAINING, summary)
            write_log(log)
            states.finish(folder)

        how_to_go_on = f"; the same command goes on from {states.folder}"
        with stop.folder_may_vanish(run, how_to_go_on):
            stop.wait_for_room(run, how_to_go_on, write)
        stop.check(run, "when all was done; the same command goes on from there")


if __name__ == "__main__":
    run_command(main)
