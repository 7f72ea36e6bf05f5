"""Training at published size: what a control network costs, and what care with the step saves."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ncn.benchmark.kernels import peak_bytes, product_rate
from ncn.benchmark.timing import compared, in_turn
from ncn.corpus.rows import Rows
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.model import build_model
from ncn.model.build import model_config
from ncn.model.device import pick_device, resolve_precision
from ncn.model.flops import flops_per_token
from ncn.model.inputs import split_rows
from ncn.monitoring.cost import training_cost
from ncn.settings import Params
from ncn.settings.profiles import experiment
from ncn.training.row_order import row_order
from ncn.training.step import Engine

ROUNDS = 15
ARM_SEQUENCES = 2
MECHANISM_ROUNDS = 40  # a step is a twentieth of one at published size, so its time is noisier
MECHANISMS = "mechanisms"  # the profile whose arms are timed at the size of params.yaml
# Two forms of a step are compared at 8 x 512 tokens, for seconds a step on two cores.
SPEED_SEQUENCES = 8
SPEED_ROUNDS = 5
SPEED_ARM = "ncn_causal"
PLAINEST = "fp32, eager, all logits"
LOADED_ROWS = 2**17  # rows on disk that batches are drawn from: 134 MB
# On a GPU, whole steps of the published batch, 64 x 512 tokens, of the arms that are published
# about: each is compiled for half a minute.
GPU_SEQUENCES = 64
GPU_ARMS = ("baseline", "ncn", "ncn_causal")
GPU_SETTINGS: dict[str, dict[str, object]] = {
    "eager, plain PyTorch": {"kernels": "reference"},
    "eager, Triton": {"kernels": "triton"},
    "compiled, auto": {"kernels": "auto", "compile": True},
}
LIMIT = (
    "The limit is what the matrix products of a step would take at the rate of a large one,"
    " measured in the same run."
)
EPOCH_TOKENS = 520.3e6  # one epoch of TinyStoriesV2


def random_rows(sequences: int, length: int, vocab_size: int = GPT2_VOCABULARY) -> Rows:
    """Rows [sequences, length + 1] of random tokens."""
    shape = (sequences, length + 1)
    return np.random.default_rng(0).integers(vocab_size, size=shape, dtype=np.uint16)


def training_step(
    params: Params,
    arm: str,
    device: torch.device,
    sequences: int,
    vocab_size: int = GPT2_VOCABULARY,
    /,
    **changes: object,
) -> Callable[[], object]:
    """One optimiser step of `arm` over random tokens, with `changes` of the `train` settings."""
    batch = {"micro_batch_size": sequences, "grad_accum_steps": 1}
    train = params.train.model_copy(update=batch | changes)
    engine = Engine(build_model(params, arm, vocab_size).to(device), train, seed=0)
    rows = random_rows(sequences, params.model.context_length, vocab_size)
    return lambda: engine.step(rows, train.lr)


def arms(params: Params, device: torch.device) -> dict[str, Any]:
    """One training step of each arm."""
    # On a CPU in fp32: in bf16 the system's time for fresh memory outweighs what is compared, one
    # and the same step took 1.3 to 2.8 s on two cores.
    precision = "fp32" if device.type == "cpu" else params.train.precision
    timed = {
        arm: training_step(params, arm, device, ARM_SEQUENCES, precision=precision)
        for arm in params.arms
    }
    figures = compared(in_turn(timed, ROUNDS, "training step"), "baseline")
    seconds = {arm: entry["seconds"] for arm, entry in figures.items()}
    dtype = torch.float32 if precision == "fp32" else None
    for arm, share in of_limit(params, seconds, device, dtype, ARM_SEQUENCES).items():
        figures[arm]["of_limit"] = share
    return {
        "sequences": ARM_SEQUENCES,
        "precision": precision,
        "rounds": ROUNDS,
        "arms": figures,
    }


def of_limit(
    params: Params,
    seconds: Mapping[str, float],
    device: torch.device,
    dtype: torch.dtype | None,
    sequences: int,
    vocab_size: int = GPT2_VOCABULARY,
) -> dict[str, float]:
    """By arm, how near a step comes to the seconds that its matrix products alone would take.

    Args:
        params: of the models.
        seconds: of a step of each arm.
        device: where they were measured; the rate of a large product is measured there now.
        dtype: of that product, see `product_rate`.
        sequences: of a step.
        vocab_size: of the models.
    """
    rate, tokens = product_rate(device, dtype), sequences * params.model.context_length

    def flops(arm: str) -> int:
        return 3 * flops_per_token(model_config(params, arm, vocab_size))

    return {arm: flops(arm) * tokens / rate / each for arm, each in seconds.items()}


def arms_table(figures: dict[str, Any]) -> list[str]:
    """The cost of control as Markdown."""
    return [
        f"## One training step: {figures['sequences']} x 512 tokens, {figures['precision']},"
        f" {figures['rounds']} rounds",
        "",
        *_by_arm(figures["arms"]),
    ]


def _by_arm(entries: dict[str, dict[str, float]]) -> list[str]:
    return [
        "| arm | seconds | ratio to the baseline | share of the limit |",
        "|---|---|---|---|",
        *(
            f"| {arm} | {each['seconds']:.3f} | {each['ratio']:.3f} | {_share(each)} |"
            for arm, each in entries.items()
        ),
        "",
        "`plain` is the baseline without the width that restores the number of parameters.",
        "",
        LIMIT,
    ]


def mechanisms(params: Params, device: torch.device) -> dict[str, Any]:
    """One training step of every mechanism and rival, as a run of `params` takes it."""
    sequences, vocabulary = params.train.micro_batch_size, params.tokenizer.vocab_size
    timed = {arm: training_step(params, arm, device, sequences, vocabulary) for arm in params.arms}
    threads = torch.get_num_threads()
    torch.set_num_threads(params.train.threads)
    dtype = torch.float32 if params.train.precision == "fp32" else None
    try:
        figures = compared(in_turn(timed, MECHANISM_ROUNDS, "step of each mechanism"), "baseline")
        seconds = {arm: entry["seconds"] for arm, entry in figures.items()}
        shares = of_limit(params, seconds, device, dtype, sequences, vocabulary)
    finally:
        torch.set_num_threads(threads)
    for arm, share in shares.items():
        figures[arm]["of_limit"] = share
    return {
        "sequences": sequences,
        "context_length": params.model.context_length,
        "d_model": params.model.d_model,
        "n_layers": params.model.n_layers,
        "precision": params.train.precision,
        "threads": params.train.threads,
        "rounds": MECHANISM_ROUNDS,
        "arms": figures,
    }


def mechanisms_table(figures: dict[str, Any]) -> list[str]:
    """The step time of every mechanism as Markdown."""
    return [
        f"## One training step of each mechanism: d_model {figures['d_model']},"
        f" {figures['n_layers']} layers, {figures['sequences']} x {figures['context_length']}"
        f" tokens, {figures['precision']}, threads of a CPU: {figures['threads']},"
        f" {figures['rounds']} rounds",
        "",
        *_by_arm(figures["arms"]),
    ]


def _share(entry: Mapping[str, float]) -> str:
    """The share of the limit; figures that are kept from before there was one have none."""
    return f"{entry['of_limit']:.0%}" if "of_limit" in entry else ""


def speed(params: Params, device: torch.device) -> dict[str, Any]:
    """Forms of one step beside the plainest, loading, and start-up; CPUs only."""
    if device.type != "cpu":
        return {}
    settings: dict[str, dict[str, object]] = {
        PLAINEST: {"precision": "fp32", "kernels": "reference"},
        "fp32, eager": {"precision": "fp32"},
        "fp32, compiled": {"precision": "fp32", "compile": True},
    }
    auto = resolve_precision("auto", device)
    if auto != "fp32":  # elsewhere a processor only imitates it: many times slower
        settings[f"{auto}, eager"] = {"precision": auto}
        settings[f"{auto}, compiled"] = {"precision": auto, "compile": True}
    timed = {
        form: training_step(params, SPEED_ARM, device, SPEED_SEQUENCES, **changes)
        for form, changes in settings.items()
    }
    forms = compared(in_turn(timed, SPEED_ROUNDS, "forms of a step"), PLAINEST)
    for form, step in timed.items():
        forms[form]["peak_bytes"] = peak_bytes(step, device)
    for form, entry in forms.items():
        dtype = torch.bfloat16 if form.startswith("bf16") else torch.float32
        step_seconds = {SPEED_ARM: entry["seconds"]}
        shares = of_limit(params, step_seconds, device, dtype, SPEED_SEQUENCES)
        entry["of_limit"] = shares[SPEED_ARM]
    return {
        "sequences": SPEED_SEQUENCES,
        "arm": SPEED_ARM,
        "rounds": SPEED_ROUNDS,
        "auto": auto,
        "forms": forms,
        "loading_seconds": loading_seconds(params.model.context_length, device),
        "start_up_seconds": start_up_seconds(),
    }


def loading_seconds(length: int, device: torch.device) -> float:
    """Median seconds from a file of rows to a batch of tokens and targets, shuffled as trained."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.bin"
        random_rows(LOADED_ROWS, length).tofile(file)
        rows = np.memmap(file, dtype=np.uint16, mode="r", shape=(LOADED_ROWS, length + 1))
        order = row_order(LOADED_ROWS, seed=0)

        def load() -> None:
            split_rows(rows[list(islice(order, SPEED_SEQUENCES))], device)

        seconds = in_turn({"load": load}, 100, "loading")
    return median(seconds["load"])


def start_up_seconds() -> float:
    """Seconds from starting Python to the first training step, its estimate of cost included."""
    seconds = []
    for _ in range(3):
        start = time.time()
        words = [sys.executable, "-c", f"from {__name__} import first_step; first_step()"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout) - start)
    return median(seconds)


def first_step() -> None:
    """In a process of its own: do what training does before its first step; print the time."""
    params, device = experiment("paper"), pick_device()
    model = build_model(params, SPEED_ARM, GPT2_VOCABULARY).to(device)
    rows = random_rows(params.train.micro_batch_size * params.train.grad_accum_steps, 512)
    training_cost(model, params.train, len(rows))
    Engine(model, params.train, seed=0)
    print(time.time())


def speed_table(figures: dict[str, Any]) -> list[str]:
    """The forms of a step as Markdown."""
    if not figures:
        return ["## Forms of one training step", "", "Measured where there is no GPU."]
    forms = figures["forms"]
    lines = [
        f"## Forms of one training step of `{figures['arm']}`: {figures['sequences']} x 512 tokens,"
        f" {figures['rounds']} rounds",
        "",
        "| form | seconds | tokens/s | speed of the plainest | share of the limit | memory |"
        " share of the plainest |",
        "|---|---|---|---|---|---|---|",
    ]
    for form, entry in forms.items():
        rate = figures["sequences"] * 512 / entry["seconds"]
        lines.append(
            f"| {form} | {entry['seconds']:.2f} | {rate:,.0f} | {1 / entry['ratio']:.2f} |"
            f" {_share(entry)} | {entry['peak_bytes'] / 1e6:,.0f} MB |"
            f" {entry['peak_bytes'] / forms[PLAINEST]['peak_bytes']:.2f} |"
        )
    fastest = min(entry["seconds"] for entry in forms.values())
    lines += [
        "",
        f"{LIMIT} Memory is what a step takes at its height beyond weights and moments."
        f" Loading a batch takes {figures['loading_seconds'] * 1e3:.2f} ms,"
        f" {100 * figures['loading_seconds'] / fastest:.1g} % of the fastest step."
        f" From starting Python to the first step: {figures['start_up_seconds']:.1f} s,"
        " of which a part measures what training will cost.",
    ]
    if figures["auto"] == "fp32":
        lines += [
            "",
            "This processor has no units for bf16 and would imitate them: `precision: auto` is"
            " fp32 here, and no form in bf16 was timed.",
        ]
    return lines


def whole_steps(params: Params, device: torch.device) -> dict[str, dict[str, dict[str, float]]]:
    """By setting and arm: seconds, ratio to the baseline, tokens a second, memory; GPUs only."""
    if device.type != "cuda":
        return {}
    figures = {}
    for setting, changes in GPU_SETTINGS.items():
        steps = {
            arm: training_step(params, arm, device, GPU_SEQUENCES, **changes) for arm in GPU_ARMS
        }
        memory = {arm: peak_bytes(step, device) for arm, step in steps.items()}
        figures[setting] = compared(in_turn(steps, ROUNDS, f"step, {setting}"), "baseline")
        seconds = {arm: entry["seconds"] for arm, entry in figures[setting].items()}
        for arm, share in of_limit(params, seconds, device, None, GPU_SEQUENCES).items():
            figures[setting][arm]["of_limit"] = share
        for arm, entry in figures[setting].items():
            tokens = GPU_SEQUENCES * params.model.context_length
            entry["tokens_per_second"] = tokens / entry["seconds"]
            entry["peak_bytes"] = memory[arm]
    return figures


def whole_step_table(figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Whole steps on a GPU as Markdown."""
    lines = [
        f"## Whole steps on a GPU: {GPU_SEQUENCES} x 512 tokens",
        "",
        "| setting | arm | ms | tokens/s | ratio to the baseline | share of the limit | memory |"
        " an epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting, of_arms in figures.items():
        for arm, entry in of_arms.items():
            rate = entry["tokens_per_second"]
            lines.append(
                f"| {setting} | {arm} | {entry['seconds'] * 1e3:.1f} | {rate:,.0f} |"
                f" {entry['ratio']:.3f} | {_share(entry)} | {entry['peak_bytes'] / 2**30:.1f} GiB |"
                f" {EPOCH_TOKENS / rate / 60:.1f} min |"
            )
    if figures:
        lines += ["", LIMIT]
    else:
        lines += ["", "This machine has no GPU: nothing was measured, and nothing is guessed."]
    return lines
