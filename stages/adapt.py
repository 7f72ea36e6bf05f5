"""One trained model, trained again on a second text -> its loss on both texts, before and after.

In:  data/models/ARM-SEED, data/tokens; data/raw, where the second text is cut from it.
Out: data/adapted/ARM-METHOD-SEED/: model.safetensors, config.json, adapted.json, log.tsv.

Interrupted, the same command goes on from the state in .scratch.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

import argparse
import hashlib
from typing import get_args

from ncn.adaptation.loss import loss_on
from ncn.adaptation.low_rank import merge_adapters
from ncn.adaptation.methods import made_ready, trained_count
from ncn.adaptation.second_text import second_text, with_replay
from ncn.common import paths
from ncn.common.errors import run_command
from ncn.common.files import replacing_directory, sha256_of, write_json
from ncn.common.stopping import StopSignals
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import open_rows
from ncn.corpus.split import choose_sequences
from ncn.corpus.tokenizer import load_tokenizer
from ncn.model import LanguageModel, load_model, save_model
from ncn.model.checkpoint import WEIGHTS
from ncn.model.device import compute_alike, pick_device
from ncn.model.inputs import AnyRows, validation_rows
from ncn.settings import Method, load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.training.loop import train_model
from ncn.training.states import states_of


def main() -> None:
    """Train what the method trains, and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--method", required=True, choices=get_args(Method))
    parser.add_argument("--seed", required=True, type=int)
    arguments = parser.parse_args()
    with StopSignals() as stop:
        adapt(arguments.arm, arguments.method, arguments.seed, stop)


def adapt(arm: str, method: Method, seed: int, stop: StopSignals) -> None:
    """Train again, and write the outputs when all is done."""
    run = paths.run_name(paths.adapted_name(arm, method), seed)
    folder = paths.adapted_directory(run)
    inputs = StageInputs("adapt", arm=arm, method=method, seed=seed)
    params = load_params()
    settings = params.adapt
    changes = {"lr": settings.lr[method], "epochs": settings.epochs}
    train = params.train_of(arm).model_copy(update=changes)
    compute_alike(train.threads)
    device, meta = pick_device(), read_meta(paths.TOKENS)
    place = paths.model_directory(paths.run_name(arm, seed))
    base = load_model(place)
    first = validation_rows(paths.TOKENS, base)
    texts: dict[str, AnyRows] = {
        "first": first[choose_sequences(len(first), params.eval.sequences, params.seed)]
    }
    tokenizer = load_tokenizer(paths.TOKENIZER)
    second = second_text(
        settings.text, params.text, paths.RAW, tokenizer, meta.context_length, params.seed
    )
    texts["second"] = second.val
    rows = second.train
    if method == "replay":
        rows = with_replay(rows, open_rows(paths.TOKENS, "train"), settings.replay)
    model = made_ready(base, method, params.adapted_control, seed).to(device)
    trained = trained_count(model)
    print(f"{run}: {trained:,} parameters are trained")

    def losses(of: LanguageModel) -> dict[str, float]:
        of.use_kernels(train.kernels)
        return {
            name: loss_on(of, each, params.eval.batch_size, f"{run}, {name} text")
            for name, each in texts.items()
        }

    told = hashlib.sha256(second.train.tobytes()).hexdigest()
    begun = (meta.digest, sha256_of(place / WEIGHTS), settings.text, told, settings.replay)
    data = hashlib.sha256(repr(begun).encode()).hexdigest()
    with states_of(run, model.config, train, seed, data, params.saving, "adapt") as states:
        states.forget_if_recorded(inputs.name, folder)
        with timed(f"adapt {run}"):
            before, start = losses(base.to(device)), losses(model)
            log = train_model(
                model, rows, train, seed, run, validation=second.val, states=states, stop=stop
            )
            merge_adapters(model)
            after = losses(model)
        found = {
            "arm": arm,
            "method": method,
            "seed": seed,
            "lr": train.lr,
            "trained_parameters": trained,
            "steps": log[-1].step,
            "tokens": log[-1].tokens,
            "loss": {
                name: {"before": before[name], "start": start[name], "after": after[name]}
                for name in texts
            },
        }

        def write() -> None:
            inputs.check()
            with replacing_directory(folder) as new:
                save_model(model, new)
                write_tsv(new / paths.LOG, [row.columns() for row in log])
                write_json(new / paths.ADAPTED_LOSSES, found)
            states.finish(folder)

        how_to_go_on = f"; the same command goes on from {states.folder}"
        with stop.folder_may_vanish(run, how_to_go_on):
            stop.wait_for_room(run, how_to_go_on, write)
        stop.check(run, "when all was done; the same command goes on from there")
    for name in texts:
        print(f"{run}: {name} text {before[name]:.4f} -> {after[name]:.4f} nats a token")


if __name__ == "__main__":
    run_command(main)
