"""`make bench`: what a control network costs and what the kernels save, measured on this machine.

Arms and forms are timed in turn, round after round, and compared within a round: the machine's
speed drifts, and a ratio of two neighbours does not. The table names the machine that it was made
on; what needs a GPU stays empty where there is none.
"""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncn.benchmark_kernels import kernel_table, measure_kernels, peak_bytes
from ncn.benchmark_timing import compared, in_turn
from ncn.config import Params
from ncn.device import describe, pick_device
from ncn.engine import Engine
from ncn.errors import run_command
from ncn.files import write_json, write_text
from ncn.generate import generate
from ncn.model import LanguageModel, build_model
from ncn.profile import experiment

JSON, TABLE = Path("metrics/benchmark.json"), Path("metrics/benchmark.md")
VOCABULARY = 50_257
ROUNDS = 15
STEP_SEQUENCES = 2
NEW_TOKENS = 256
PROMPT = 16  # tokens
# On a GPU, whole steps of the published batch, 64 x 512 tokens.
GPU_SEQUENCES = 64
GPU_SETTINGS: dict[str, dict[str, object]] = {
    "eager, plain PyTorch": {"kernels": "reference"},
    "eager, Triton": {"kernels": "triton"},
    "compiled, auto": {"kernels": "auto", "compile": True},
}
EPOCH_TOKENS = 520.3e6  # one epoch of TinyStoriesV2


def training_step(
    params: Params, arm: str, device: torch.device, sequences: int, **changes: object
) -> Callable[[], object]:
    """One optimiser step of `arm` over random tokens, with `changes` of the `train` settings."""
    batch = {"micro_batch_size": sequences, "grad_accum_steps": 1}
    train = params.train.model_copy(update=batch | changes)
    engine = Engine(build_model(params, arm, VOCABULARY).to(device), train, seed=0)
    shape = (sequences, params.model.context_length + 1)
    rows = np.random.default_rng(0).integers(VOCABULARY, size=shape, dtype=np.uint16)
    return lambda: engine.step(rows, train.lr)


def whole_steps(
    params: Params, arms: Sequence[str], device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    """By setting and arm: seconds, ratio to the baseline, tokens a second, memory; GPUs only."""
    if device.type != "cuda":
        return {}
    figures = {}
    for setting, changes in GPU_SETTINGS.items():
        steps = {arm: training_step(params, arm, device, GPU_SEQUENCES, **changes) for arm in arms}
        memory = {arm: peak_bytes(step, device) for arm, step in steps.items()}
        figures[setting] = compared(in_turn(steps, ROUNDS, f"step, {setting}"), "baseline")
        for arm, entry in figures[setting].items():
            tokens = GPU_SEQUENCES * params.model.context_length
            entry["tokens_per_second"] = tokens / entry["seconds"]
            entry["peak_bytes"] = memory[arm]
    return figures


def generation(model: LanguageModel, cached: bool) -> Callable[[], None]:
    """256 tokens after a short prompt, with or without the caches."""
    device = next(model.parameters()).device
    prompt = torch.arange(PROMPT, device=device)[None]

    def run() -> None:
        generate(model, prompt, NEW_TOKENS, temperature=1.0, top_k=50, cached=cached)

    return run


def measure(params: Params, arms: Sequence[str]) -> dict[str, Any]:
    """All figures, as they go to metrics/benchmark.json."""
    device = pick_device()
    if device.type == "cpu":
        # In bf16 the system's time for fresh memory outweighs what is compared: one and the same
        # step took 1.3 to 2.8 s on two cores.
        params = params.model_copy(
            update={"train": params.train.model_copy(update={"precision": "fp32"})}
        )
    timed = {arm: training_step(params, arm, device, STEP_SEQUENCES) for arm in arms}
    steps = in_turn(timed, ROUNDS, "training step")
    models = {arm: build_model(params, arm, VOCABULARY).to(device).eval() for arm in arms}
    cached = in_turn({arm: generation(models[arm], True) for arm in arms}, 5, "cached generation")
    both = {"recomputed": generation(models["ncn_causal"], False)}
    both["cached"] = generation(models["ncn_causal"], True)
    recomputed = in_turn(both, 2, "recomputed generation")
    return {
        "machine": {
            "device": describe(device),
            "processor": platform.machine(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "training_step": {
            "sequences": STEP_SEQUENCES,
            "precision": params.train.precision,
            "rounds": ROUNDS,
            "arms": compared(steps, "baseline"),
        },
        "generation": {
            "new_tokens": NEW_TOKENS,
            "arms": compared(cached, "baseline"),
            "recomputed": compared(recomputed, "cached"),
        },
        "whole_step": whole_steps(params, arms, device),
        "kernels": measure_kernels(device),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine, steps, speed = (figures[k] for k in ("machine", "training_step", "generation"))
    lines = [
        "# What a control network costs, and what the kernels save",
        "",
        f"Made by `make bench` on: {machine['device']} ({machine['processor']}), torch"
        f" {machine['torch']}, Python {machine['python']}. Published size (d_model 256, 6 layers,"
        f" vocabulary {VOCABULARY:,}, context 512). Arms in turn, medians over rounds; a ratio is"
        " the median over rounds of the ratio within a round. Seconds are this machine's, on that"
        " day.",
        "",
        f"## One training step: {steps['sequences']} x 512 tokens, {steps['precision']},"
        f" {steps['rounds']} rounds",
        "",
        "| arm | seconds | ratio to the baseline |",
        "|---|---|---|",
    ]
    for arm, entry in steps["arms"].items():
        lines.append(f"| {arm} | {entry['seconds']:.3f} | {entry['ratio']:.3f} |")
    lines += [
        "",
        f"## Generating {speed['new_tokens']} tokens after {PROMPT}, with caches",
        "",
        "| arm | seconds | tokens/s | ratio to the baseline |",
        "|---|---|---|---|",
    ]
    for arm, entry in speed["arms"].items():
        rate = speed["new_tokens"] / entry["seconds"]
        lines.append(f"| {arm} | {entry['seconds']:.3f} | {rate:.0f} | {entry['ratio']:.3f} |")
    gain = speed["recomputed"]["recomputed"]["ratio"]
    lines += ["", f"Recomputing the window at each step takes {gain:.1f} times as long."]
    lines += ["", *whole_step_table(figures["whole_step"]), "", "## Kernels", ""]
    if not figures["whole_step"]:
        lines += ["Made without a GPU: the Triton and Liger forms are not in this table.", ""]
    lines += kernel_table(figures["kernels"])
    return "\n".join(lines) + "\n"


def whole_step_table(figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Whole steps on a GPU as Markdown."""
    lines = [
        f"## Whole steps on a GPU: {GPU_SEQUENCES} x 512 tokens",
        "",
        "| setting | arm | ms | tokens/s | ratio to the baseline | memory | an epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting, arms in figures.items():
        for arm, entry in arms.items():
            rate = entry["tokens_per_second"]
            lines.append(
                f"| {setting} | {arm} | {entry['seconds'] * 1e3:.1f} | {rate:,.0f} |"
                f" {entry['ratio']:.3f} | {entry['peak_bytes'] / 2**30:.1f} GiB |"
                f" {EPOCH_TOKENS / rate / 60:.1f} min |"
            )
    if not figures:
        lines += ["", "This machine has no GPU: nothing was measured, and nothing is guessed."]
    return lines


def main() -> None:
    """Measure, print and keep the table."""
    params = experiment("paper")
    figures = measure(params, list(params.arms))
    write_json(JSON, figures)
    write_text(TABLE, table(figures))
    print(table(figures))


if __name__ == "__main__":
    run_command(main)
