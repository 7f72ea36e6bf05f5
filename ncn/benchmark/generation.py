"""Generation at published size, beside a pass that does nothing but multiply every weight once.

No text can be made faster than that, one token after another: each token needs every weight.
"""

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ncn.benchmark.kernels import product_rate
from ncn.benchmark.timing import compared, in_turn
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.generation.decoding import generate
from ncn.generation.matrices import Weights
from ncn.model import LanguageModel, build_model
from ncn.settings import Params

NEW_TOKENS = 256
PROMPT = 16  # tokens
ROWS = 32  # texts at once
LIMIT = "every weight once"
SEVERAL = f"baseline, {ROWS} texts"
INT8 = "baseline, weights in int8"
BYTES_OF_FP32 = 4  # for one of int8


def generation(
    model: LanguageModel, cached: bool = True, rows: int = 1, weights: Weights = "fp32"
) -> Callable[[], None]:
    """256 greedy tokens after a short prompt, with or without the caches."""
    device = next(model.parameters()).device
    prompt = torch.arange(PROMPT, device=device).expand(rows, -1)

    def run() -> None:
        generate(model, prompt, NEW_TOKENS, temperature=0, cached=cached, weights=weights)

    return run


def read_weights(model: LanguageModel) -> list[Tensor]:
    """The matrices [D, N] that each token is multiplied by, lying as they are read fastest."""
    layers = [each.weight for each in model.blocks.modules() if isinstance(each, nn.Linear)]
    return [each.detach().T.contiguous() for each in (*layers, model.embedding.weight)]


def every_weight_once(model: LanguageModel) -> Callable[[], None]:
    """As many passes over every weight as `generation` makes tokens."""
    weights = read_weights(model)
    rows = {len(each): each.new_ones(1, len(each)) for each in weights}

    @torch.inference_mode()
    def run() -> None:
        for _ in range(NEW_TOKENS):
            for each in weights:
                torch.mm(rows[len(each)], each)

    return run


def generating(params: Params, device: torch.device) -> dict[str, Any]:
    """Generation with each arm, and what the caches save."""
    models = {
        arm: build_model(params, arm, GPT2_VOCABULARY).to(device).eval() for arm in params.arms
    }
    baseline = models["baseline"]
    timed = {arm: generation(model) for arm, model in models.items()}
    timed[LIMIT] = every_weight_once(baseline)
    timed[SEVERAL] = generation(baseline, rows=ROWS)
    if device.type == "cpu":
        timed[INT8] = generation(baseline, weights="int8")
    seconds = in_turn(timed, 5, "cached generation")
    limits = seconds.pop(LIMIT)
    several, int8 = median(seconds.pop(SEVERAL)), seconds.pop(INT8, None)
    both = {
        "recomputed": generation(models["ncn_causal"], cached=False),
        "cached": generation(models["ncn_causal"]),
    }
    return {
        "new_tokens": NEW_TOKENS,
        "arms": {
            arm: entry | {"of_limit": median(a / b for a, b in zip(limits, mine, strict=True))}
            for (arm, entry), mine in zip(
                compared(seconds, "baseline").items(), seconds.values(), strict=True
            )
        },
        "limit": {
            "seconds": median(limits),
            "bytes_per_second": NEW_TOKENS
            * sum(each.nbytes for each in read_weights(baseline))
            / median(limits),
        },
        "several": {
            "rows": ROWS,
            "seconds": several,
            "limit_seconds": NEW_TOKENS
            * sum(2 * ROWS * each.numel() for each in read_weights(baseline))
            / product_rate(device, torch.float32),
        },
        "int8": None
        if int8 is None
        else {
            "seconds": median(int8),
            "of_limit": median(a / b for a, b in zip(limits, int8, strict=True)) / BYTES_OF_FP32,
        },
        "recomputed": compared(in_turn(both, 2, "recomputed generation"), "cached"),
    }


def generating_table(figures: dict[str, Any]) -> list[str]:
    """The speed of generation as Markdown."""
    tokens, heading = figures["new_tokens"], "## Generating {} tokens after {}, with caches"
    lines = [heading.format(tokens, PROMPT), ""]
    if (limit := figures.get("limit")) is None:
        return [*lines, "Measured by an older form: `python -m ncn benchmark generation` again."]
    lines += [
        "| arm | ms a token | tokens/s | ratio to the baseline | share of the limit |",
        "|---|---|---|---|---|",
    ]
    for arm, entry in figures["arms"].items():
        lines.append(
            f"| {arm} | {1e3 * entry['seconds'] / tokens:.2f} | {tokens / entry['seconds']:.0f} |"
            f" {entry['ratio']:.3f} | {entry['of_limit']:.0%} |"
        )
    rows, rate = figures["several"]["rows"], tokens / figures["several"]["seconds"]
    times = rate * rows * figures["arms"]["baseline"]["seconds"] / tokens
    least, int8 = figures["several"].get("limit_seconds"), figures.get("int8")
    share = least and f"{least / figures['several']['seconds']:.0%}"
    return [
        *lines,
        "",
        f"The limit is a pass that multiplies every weight once and does nothing else:"
        f" {1e3 * limit['seconds'] / tokens:.2f} ms, {limit['bytes_per_second'] / 1e9:.1f} GB/s."
        f" {rows} texts at once: {rows * rate:,.0f} tokens/s, {times:.1f} times those of one"
        + (f", {share} of what the rate of a matrix product here allows." if share else ".")
        + (f" With weights in int8: {_in_int8(int8, tokens)}" if int8 else "")
        + f" Recomputing the window at each step takes"
        f" {figures['recomputed']['recomputed']['ratio']:.1f} times as long.",
    ]


def _in_int8(figures: dict[str, float], tokens: int) -> str:
    """The speed; figures that are kept from before there was a limit have none."""
    rate = f"{tokens / figures['seconds']:.0f} tokens/s"
    if "of_limit" not in figures:
        return f"{rate}."
    return f"{rate}, {figures['of_limit']:.0%} of what reading their bytes as fast would give."
