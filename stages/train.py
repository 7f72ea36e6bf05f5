"""One arm with one seed -> a trained model and its log.

In:  data/tokens (the tokenize stage).
Out: data/models/ARM-SEED/, plots/train/ARM-SEED.tsv, metrics/train/ARM-SEED.json.

Interrupted, the same command goes on from the state in .scratch.
"""

import ncn.starting  # noqa: F401 isort: skip (before what takes long)

import argparse
import sys
from collections.abc import Sequence

import torch

from ncn import artifacts
from ncn.artifacts import TOKENIZER, TOKENS
from ncn.checkpoint import save_model
from ncn.config import load_params
from ncn.corpus import read_meta
from ncn.device import describe, pick_device
from ncn.distributed import launch, process_group, rank, started_by_torchrun
from ncn.errors import run_command
from ncn.estimate import training_cost
from ncn.files import write_json, write_tsv
from ncn.flops import flops_per_token
from ncn.interruption import StopSignals
from ncn.model import build_model, parameter_count
from ncn.rows import training_rows, validation_rows
from ncn.state import states_of
from ncn.timing import timed
from ncn.training import story_teller, train_model
from ncn.training_log import LogRow


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
    run = artifacts.run_name(arm, seed)
    log_file = artifacts.training_log(run)
    params = load_params()
    device = pick_device()
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Else each new buffer is filled before it is written: 2 % of a step, and no number moves.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    meta = read_meta(TOKENS)
    model = build_model(params, arm, meta["vocab_size"], seed).to(device)
    rows, validation = training_rows(TOKENS, model), validation_rows(TOKENS, model)
    if rank() > 0:  # of several processes: the first alone speaks, saves and writes
        train_model(model, rows, params.train, seed, run, validation=validation, stop=stop)
        return
    n_parameters = parameter_count(model.config)
    print(f"{run}: {n_parameters:,} parameters on {describe(device)}")
    print(f"{run}: {training_cost(model, params.train, len(rows))}")

    def write_log(log: Sequence[LogRow]) -> None:
        write_tsv(log_file, [{"arm": arm, "seed": seed} | row._asdict() for row in log])

    with states_of(run, model.config, params.train, seed, meta["digest"]) as states:
        print(f"{run}: interrupted, the same command goes on from {states.folder}", flush=True)
        states.forget_if_recorded(f"train@{run}", log_file)
        with timed(f"train {run}") as noted:
            log = train_model(
                model, rows, params.train, seed, run,
                validation=validation, sample=story_teller(TOKENIZER), live=write_log,
                states=states, stop=stop,
            )  # fmt: skip
            steps = log[-1].step
            noted["tokens"] = log[-1].tokens * (steps - states.resumed) // steps
        summary = {
            "arm": arm,
            "seed": seed,
            "parameters": n_parameters,
            "d_ff": model.config.d_ff,
            "flops_per_token": flops_per_token(model.config),
            "steps": steps,
            "tokens": log[-1].tokens,
            "first_loss": log[0].loss,
            "last_loss": log[-1].loss,
            "loss_spikes": sum(row.spikes for row in log),
            "skipped_steps": sum(row.skipped for row in log),
            "data": meta["digest"],
        }
        with stop.removing_files(run, f"; the same command goes on from {states.folder}"):
            save_model(model, artifacts.model_directory(run))
            write_log(log)
            write_json(artifacts.training_metrics(run), summary)
            states.finish(log_file)
        stop.check(run, "when all was done; the same command goes on from there")


if __name__ == "__main__":
    run_command(main)
