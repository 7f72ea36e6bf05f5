"""Trained models -> the same prompts, continued by every run, side by side.

In:  data/models/ARM-SEED, data/tokens.
Out: metrics/samples.json: the samples; and `recall`, for each of some validation rows: how many
     things its first half begins, how many its own second half and each run's names again;
     `steering`, of the runs that have sliders: how the text follows them.
"""

import ncn.common.before_torch  # noqa: F401 isort: skip (before what takes long)

from ncn.common.errors import run_command
from ncn.common.files import write_json
from ncn.common.leftovers import clear_leftovers
from ncn.common.paths import SAMPLES, TOKENIZER, TOKENS, model_directory, run_name
from ncn.common.timing import timed
from ncn.corpus.rows import open_rows
from ncn.corpus.split import choose_sequences
from ncn.corpus.tokenizer import load_tokenizer
from ncn.generation.decoding import generation_salience
from ncn.generation.object_permanence import continued, halves, kept_in, shuffled
from ncn.generation.sampling import Sampling
from ncn.generation.steering import steering
from ncn.generation.text import continue_texts
from ncn.model import load_model
from ncn.model.device import compute_alike
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs


def main() -> None:
    """Generate on the CPU, on which the same seed draws the same text again."""
    named = load_params()
    clear_leftovers(named.arms, named.seeds)
    inputs = StageInputs("generate")
    params = load_params()
    compute_alike(params.train.threads)
    settings = params.generate
    sampling = Sampling(settings.temperature, settings.top_k, settings.top_p)
    tokenizer = load_tokenizer(TOKENIZER)
    samples: dict[str, dict[str, str]] = {prompt: {} for prompt in settings.prompts}
    salience: dict[str, str | None] = {}
    validation = open_rows(TOKENS, "val")
    rows = validation[choose_sequences(len(validation), settings.recall_sequences, params.seed)]
    cut = halves(rows, tokenizer)
    written: dict[str, list[str]] = {}
    steered: dict[str, object] = {}
    with timed("generate"):
        for arm in params.arms:
            for seed in params.seeds:
                run = run_name(arm, seed)
                model = load_model(model_directory(run))
                salience[run] = generation_salience(model, None)
                texts = continue_texts(
                    model, tokenizer, settings.prompts, settings.max_new_tokens, sampling,
                    params.seed,
                )  # fmt: skip
                for prompt, text in zip(settings.prompts, texts, strict=True):
                    samples[prompt][run] = text
                length = rows.shape[1] - cut.prompts.shape[1]
                written[run] = continued(
                    model, cut.prompts, length, tokenizer, sampling, params.seed
                )
                if found := steering(
                    model, cut.prompts, length, tokenizer, sampling, params.seed,
                    settings.slider_values,
                ):  # fmt: skip
                    steered[run] = found
    shown = settings.model_dump(exclude={"prompts", "slider_values"}) | {"seed": params.seed}
    recall: dict[str, object] = {"things": list(map(len, cut.things))}
    for name, arranged in (("", list), ("shuffled_", shuffled)):
        recall[f"{name}text"] = kept_in(cut.things, arranged(cut.rest))
        recall[f"{name}runs"] = {
            run: kept_in(cut.things, arranged(texts)) for run, texts in written.items()
        }
    inputs.check()
    write_json(
        SAMPLES,
        {"settings": shown, "salience": salience, "samples": samples, "recall": recall}
        | ({"steering": steered} if steered else {}),
    )
    for prompt, texts_by_run in samples.items():
        for run, text in texts_by_run.items():
            print(f"{run}: {prompt}{text}\n")


if __name__ == "__main__":
    run_command(main)
