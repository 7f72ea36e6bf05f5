"""Generation at published size: what a control network costs, and what the caches save."""

from collections.abc import Callable
from typing import Any

import torch

from ncn.benchmark.timing import compared, in_turn
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.generation.decoding import generate
from ncn.model import LanguageModel, build_model
from ncn.settings import Params

NEW_TOKENS = 256
PROMPT = 16  # tokens


def generation(model: LanguageModel, cached: bool) -> Callable[[], None]:
    """256 tokens after a short prompt, with or without the caches."""
    device = next(model.parameters()).device
    prompt = torch.arange(PROMPT, device=device)[None]

    def run() -> None:
        generate(model, prompt, NEW_TOKENS, temperature=1.0, top_k=50, cached=cached)

    return run


def generating(params: Params, device: torch.device) -> dict[str, Any]:
    """Generation with each arm, and what the caches save."""
    models = {
        arm: build_model(params, arm, GPT2_VOCABULARY).to(device).eval() for arm in params.arms
    }
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


def generating_table(figures: dict[str, Any]) -> list[str]:
    """The speed of generation as Markdown."""
    lines = [
        f"## Generating {figures['new_tokens']} tokens after {PROMPT}, with caches",
        "",
        "| arm | seconds | tokens/s | ratio to the baseline |",
        "|---|---|---|---|",
    ]
    for arm, entry in figures["arms"].items():
        rate = figures["new_tokens"] / entry["seconds"]
        lines.append(f"| {arm} | {entry['seconds']:.3f} | {rate:.0f} | {entry['ratio']:.3f} |")
    slower = figures["recomputed"]["recomputed"]["ratio"]
    return [*lines, "", f"Recomputing the window at each step takes {slower:.1f} times as long."]
