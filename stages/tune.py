"""One arm -> the learning rate that it trains at.

In:  data/tokens (the tokenize stage).
Out: data/tuning/ARM/: chosen.json, grid.tsv (one line a trial; none where `tune.lr` is no grid).

Interrupted, the same command goes on: a finished trial is not run again.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

import argparse
from functools import partial

from ncn.common.errors import run_command
from ncn.common.files import as_written, read_json, replacing_directory, write_json
from ncn.common.paths import CHOSEN, GRID, TOKENS, tuning_directory
from ncn.common.progress import say
from ncn.common.stopping import StopSignals
from ncn.common.timing import timed
from ncn.common.tsv import write_tsv
from ncn.settings import Params, load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.training.tuning import Row, as_chosen, in_words, tune


def main() -> None:
    """Choose among `tune.lr`, or take what there is to take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", required=True)
    arm = parser.parse_args().arm
    inputs = StageInputs("tune", arm=arm)
    params = load_params()
    chosen = as_chosen(arm, (params.tune.lr or [params.train_of(arm).lr])[0])
    trials: list[Row] = []
    if params.tune.on:
        with StopSignals() as stop, timed(f"tune {arm}"):
            chosen, trials = tune(arm, params.tune, partial(trial, params, arm, stop=stop))
    inputs.check()
    with replacing_directory(tuning_directory(arm)) as new:
        write_json(new / CHOSEN, chosen)
        write_tsv(new / GRID, [row._asdict() for row in trials])
    print(in_words(chosen))


def trial(params: Params, arm: str, lr: float, seed: int, *, stop: StopSignals) -> float:
    """The loss on the tuning part, as a language model, after `tune.epochs` at `lr`."""
    # Here: torch takes more than a second to import, and without a grid nothing is trained.
    from ncn.corpus.meta import read_meta
    from ncn.model import build_model
    from ncn.model.device import compute_alike, pick_device
    from ncn.model.inputs import training_rows, validation_rows
    from ncn.scoring.losses import forms_of, score_tokens
    from ncn.statistics.scores import language_model
    from ncn.training.loop import train_model
    from ncn.training.processes import threads_of_a_process
    from ncn.training.states import states_of
    from ncn.training.step import NonFiniteError

    settings = params.train_of(arm).model_copy(update={"lr": lr, "epochs": params.tune.epochs})
    compute_alike(threads_of_a_process(settings))
    meta, name = read_meta(TOKENS), f"tune-{arm}-{lr:g}-{seed}"
    model = build_model(params, arm, meta.vocab_size, seed).to(pick_device())
    rows, scored = training_rows(TOKENS, model), validation_rows(TOKENS, model, "tune")
    with states_of(
        name, model.config, settings, seed, meta.digest, params.saving, stage="tune"
    ) as states:
        result = states.folder / "loss.json"
        if result.exists():
            with as_written(result, fix="delete it"):
                return float(read_json(result))
        try:
            train_model(model, rows, settings, seed, name, states=states, stop=stop)
        except NonFiniteError as diverged:
            say(str(diverged))
            return float("inf")
        forms = forms_of(model)
        salience = forms[language_model(forms)]
        loss = float(score_tokens(model, scored, params.eval.batch_size, salience, name).mean())
        write_json(result, loss)
        states.discard()
    say(f"{name}: {loss:.4f} nats a token on the tuning part")
    return loss


if __name__ == "__main__":
    run_command(main)
