"""`make bench`: what a control network costs and what the kernels save, measured on this machine.

Arms and forms are timed in turn, round after round, and compared within a round: the machine's
speed drifts, and a ratio of two neighbours does not. The table names the machine that it was made
on; what needs a GPU stays empty where there is none.
"""

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncn.benchmark_kernels import (
    elementwise_kernels,
    kernel_table,
    measure_kernels,
    output_head,
    peak_bytes,
)
from ncn.benchmark_timing import compared, in_turn
from ncn.config import Params
from ncn.device import describe, pick_device
from ncn.engine import Engine
from ncn.errors import InputError, run_command
from ncn.files import read_json, write_json, write_text
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


def whole_steps(params: Params, device: torch.device) -> dict[str, dict[str, dict[str, float]]]:
    """By setting and arm: seconds, ratio to the baseline, tokens a second, memory; GPUs only."""
    if device.type != "cuda":
        return {}
    figures = {}
    for setting, changes in GPU_SETTINGS.items():
        steps = {
            arm: training_step(params, arm, device, GPU_SEQUENCES, **changes) for arm in params.arms
        }
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


def steps(params: Params, device: torch.device) -> dict[str, Any]:
    """One training step of each arm."""
    if device.type == "cpu":
        # In bf16 the system's time for fresh memory outweighs what is compared: one and the same
        # step took 1.3 to 2.8 s on two cores.
        train = params.train.model_copy(update={"precision": "fp32"})
        params = params.model_copy(update={"train": train})
    timed = {arm: training_step(params, arm, device, STEP_SEQUENCES) for arm in params.arms}
    return {
        "sequences": STEP_SEQUENCES,
        "precision": params.train.precision,
        "rounds": ROUNDS,
        "arms": compared(in_turn(timed, ROUNDS, "training step"), "baseline"),
    }


def generating(params: Params, device: torch.device) -> dict[str, Any]:
    """Generation with each arm, and what the caches save."""
    models = {arm: build_model(params, arm, VOCABULARY).to(device).eval() for arm in params.arms}
    cached = {arm: generation(model, True) for arm, model in models.items()}
    both = {
        "recomputed": generation(models["ncn_causal"], False),
        "cached": generation(models["ncn_causal"], True),
    }
    return {
        "new_tokens": NEW_TOKENS,
        "arms": compared(in_turn(cached, 5, "cached generation"), "baseline"),
        "recomputed": compared(in_turn(both, 2, "recomputed generation"), "cached"),
    }


# Each is measured by itself and kept at once: `python -m ncn.benchmark head` measures one again.
SECTIONS: dict[str, Callable[[Params, torch.device], dict[str, Any]]] = {
    "training_step": steps,
    "generation": generating,
    "whole_step": whole_steps,
    "kernels": lambda params, device: measure_kernels(device, elementwise_kernels(device)),
    "head": lambda params, device: measure_kernels(device, output_head(device)),
}


def table(figures: dict[str, Any]) -> str:
    """The sections that were measured, as Markdown."""
    machine = figures["machine"]
    lines = [
        "# What a control network costs, and what the kernels save",
        "",
        f"Made by `make bench` on: {machine['device']} ({machine['processor']}), torch"
        f" {machine['torch']}, Python {machine['python']}. Published size (d_model 256, 6 layers,"
        f" vocabulary {VOCABULARY:,}, context 512). Arms in turn, medians over rounds; a ratio is"
        " the median over rounds of the ratio within a round. Seconds are this machine's, on that"
        " day.",
    ]
    if own := figures.get("training_step"):
        lines += [
            "",
            f"## One training step: {own['sequences']} x 512 tokens, {own['precision']},"
            f" {own['rounds']} rounds",
            "",
            "| arm | seconds | ratio to the baseline |",
            "|---|---|---|",
        ]
        for arm, entry in own["arms"].items():
            lines.append(f"| {arm} | {entry['seconds']:.3f} | {entry['ratio']:.3f} |")
    if speed := figures.get("generation"):
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
    lines += ["", *whole_step_table(figures.get("whole_step", {}))]
    for name, title in (("kernels", "Kernels"), ("head", "The output head with its cross-entropy")):
        if name in figures:
            lines += ["", f"## {title}", "", *kernel_table(figures[name])]
    if not figures.get("whole_step"):
        lines += ["", "Triton's and Liger's forms need a GPU: this machine has none."]
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
    """Measure the sections named on the command line, or all; print and keep the table."""
    parser = argparse.ArgumentParser(description="What control and kernels cost on this machine.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    chosen = parser.parse_args().sections or list(SECTIONS)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise InputError(f"no section {unknown[0]!r} to measure; there are {', '.join(SECTIONS)}")
    params, device = experiment("paper"), pick_device()
    machine = {
        "device": describe(device),
        "processor": platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    kept = read_json(JSON) if JSON.exists() else {}
    figures = kept if kept.get("machine") == machine else {"machine": machine}
    for name in chosen:
        figures[name] = SECTIONS[name](params, device)
        write_json(JSON, figures)
        write_text(TABLE, table(figures))
    print(table(figures))


if __name__ == "__main__":
    run_command(main)
