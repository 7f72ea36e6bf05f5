"""`make bench`: what a control network costs, measured on this machine.

Arms are timed in turn, round after round, and compared within a round: the machine's speed
drifts, and a ratio of two neighbours does not. The table names the machine that it was made on.
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from ncn.config import Params
from ncn.device import describe, mixed_precision, pick_device
from ncn.errors import run_command
from ncn.files import write_json, write_text
from ncn.generate import generate
from ncn.model import LanguageModel, build_model
from ncn.optimizer import make_optimizer
from ncn.profile import experiment

JSON, TABLE = Path("metrics/benchmark.json"), Path("metrics/benchmark.md")
VOCABULARY = 50_257
ROUNDS = 15
STEP_SEQUENCES = 2
NEW_TOKENS = 256
PROMPT = 16  # tokens


def in_turn(timed: dict[str, Callable[[], None]], rounds: int, what: str) -> dict[str, list[float]]:
    """Seconds of each function in each round, after one uncounted round."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in tqdm(range(rounds + 1), desc=what, unit="round", disable=None):
        names = list(timed)
        # Each round begins elsewhere: what runs after whom must not be part of the figure.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = timed[name]
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compared(seconds: dict[str, list[float]], reference: str) -> dict[str, dict[str, float]]:
    """Median seconds, and the median over rounds of the ratio to `reference`."""
    return {
        name: {
            "seconds": median(mine),
            "ratio": median(a / b for a, b in zip(mine, seconds[reference], strict=True)),
        }
        for name, mine in seconds.items()
    }


def training_step(params: Params, arm: str, device: torch.device) -> Callable[[], None]:
    """One optimiser step of `arm` over random tokens."""
    model = build_model(params, arm, VOCABULARY).to(device).train()
    optimizer = make_optimizer(model, params.train)
    shape = (STEP_SEQUENCES, params.model.context_length + 1)
    tokens = torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> None:
        with mixed_precision(device, params.train.precision):
            cross_entropy, penalty = model.loss(tokens[:, :-1], tokens[:, 1:])
        (cross_entropy + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


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
    steps = in_turn(
        {arm: training_step(params, arm, device) for arm in arms}, ROUNDS, "training step"
    )
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
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine, steps, speed = (figures[k] for k in ("machine", "training_step", "generation"))
    lines = [
        "# What a control network costs",
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
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and keep the table."""
    params = experiment("paper")
    figures = measure(params, list(params.arms))
    write_json(JSON, figures)
    write_text(TABLE, table(figures))
    print(table(figures))


if __name__ == "__main__":
    run_command(main)
