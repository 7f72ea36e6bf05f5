"""One arm with one seed -> a trained model and its log.

In:  data/tokens (the tokenize stage).
Out: data/models/ARM-SEED/, plots/train/ARM-SEED.tsv, metrics/train/ARM-SEED.json.
"""

import argparse

import torch

from ncn.artifacts import TOKENS, model_directory, run_name, training_log, training_metrics
from ncn.checkpoint import save_model
from ncn.config import load_params
from ncn.corpus import open_rows, read_meta
from ncn.device import describe, pick_device
from ncn.errors import run_command
from ncn.estimate import training_cost
from ncn.files import write_json, write_tsv
from ncn.flops import flops_per_token
from ncn.model import build_model, parameter_count
from ncn.timing import timed
from ncn.training import train_model


def main() -> None:
    """Train the arm on the rows that every arm sees, in the order that every arm sees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--seed", required=True, type=int)
    arguments = parser.parse_args()
    run = run_name(arguments.arm, arguments.seed)
    params = load_params()
    device = pick_device()
    torch.use_deterministic_algorithms(device.type == "cpu")
    meta = read_meta(TOKENS)
    rows = open_rows(TOKENS, "train")
    model = build_model(params, arguments.arm, meta["vocab_size"], arguments.seed).to(device)
    n_parameters = parameter_count(model.config)
    print(f"{run}: {n_parameters:,} parameters on {describe(device)}")
    print(f"{run}: {training_cost(model, params.train, len(rows))}")
    with timed(f"train {run}") as noted:
        log = train_model(model, rows, params.train, arguments.seed, run)
        noted["tokens"] = log[-1].tokens
    save_model(model, model_directory(run))
    write_tsv(
        training_log(run),
        [{"arm": arguments.arm, "seed": arguments.seed} | row._asdict() for row in log],
    )
    summary = {
        "arm": arguments.arm,
        "seed": arguments.seed,
        "parameters": n_parameters,
        "d_ff": model.config.d_ff,
        "flops_per_token": flops_per_token(model.config),
        "steps": log[-1].step,
        "tokens": log[-1].tokens,
        "first_loss": log[0].loss,
        "last_loss": log[-1].loss,
        "data": meta["digest"],
    }
    write_json(training_metrics(run), summary)


if __name__ == "__main__":
    run_command(main)
