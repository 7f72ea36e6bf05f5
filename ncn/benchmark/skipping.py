"""What skipping branches saves in time on a CPU: whole texts and token by token, 1 and 32 at once.

The model has the published size and is not trained, so that its text is random and eps is chosen
for the share that it leaves out. How much time a share saves does not depend on what the tokens
are; how much loss it costs does, and stands in metrics/conditional.json. Beside each ratio stands
the one that the operations left out would make if they were all that takes time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ncn.benchmark.timing import compared, in_turn
from ncn.conditional.choice import flops_saved
from ncn.corpus.conditions import NO_CONDITIONS
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.generation.caches import make_cache
from ncn.generation.one_token import OneToken
from ncn.model import LanguageModel, build_model
from ncn.model.flops import flops_per_token
from ncn.model.skipping import FORMS, weights
from ncn.settings import Params

ARM = "ncn_causal"
BATCHES = {1: 15, 32: 5}  # texts at once, and rounds
LENGTH = 256  # tokens of a text that is read whole
STEPS = 32  # tokens of a text that are read one at a time, after FIRST at once
FIRST = 16
SHARES = (0.25, 0.5, 0.75)
WHOLE, STEPWISE = "whole text", "token by token"
NOTHING = "nothing"


def whole_text(model: LanguageModel, text: Tensor) -> None:
    """Read texts [B, T] up to the logits after them."""
    model.next_logits(text)


def token_by_token(model: LanguageModel, text: Tensor) -> Callable[[], None]:
    """Read the texts [B, FIRST + STEPS] as generation does, a token at a time from FIRST on."""
    cache = make_cache(model, len(text))
    model.next_logits(text[:, :FIRST], None, cache)  # OneToken goes on from a text
    quick = OneToken(model, cache) if len(text) == 1 else None

    def run() -> None:
        cache.clear()
        model.next_logits(text[:, :FIRST], None, cache)
        for place in range(FIRST, text.shape[1]):
            token = text[:, place : place + 1]
            if quick is None:
                model.next_logits(token, None, cache)
            else:
                quick.next_logits(token, None, NO_CONDITIONS)

    return run


@torch.inference_mode()
def skipping(
    params: Params, device: torch.device, vocabulary: int = GPT2_VOCABULARY
) -> dict[str, Any]:
    """Seconds of each way to read, with shares of each form left out; CPUs only."""
    if device.type != "cpu":
        return {}
    model = build_model(params, ARM, vocabulary).eval()
    draw = torch.Generator().manual_seed(0)
    rows = []
    for batch, rounds in BATCHES.items():
        for way, length in ((WHOLE, LENGTH), (STEPWISE, FIRST + STEPS)):
            text = torch.randint(vocabulary, (batch, length), generator=draw)
            rows += _measured(model, text, way, rounds)
    return {"arm": ARM, "length": LENGTH, "steps": STEPS, "first": FIRST, "rows": rows}


def _measured(model: LanguageModel, text: Tensor, way: str, rounds: int) -> list[dict[str, Any]]:
    """A row a form and share of one way to read."""
    signals, flops = model.signals(text), _flops(model, text, way)
    read = token_by_token(model, text) if way == STEPWISE else lambda: whole_text(model, text)
    timed: dict[str, Callable[[], Any]] = {NOTHING: read}
    told: dict[str, dict[str, Any]] = {}

    def without(below: float, form: Any) -> Callable[[], None]:
        def run() -> None:
            model.skip_below(below, form)
            read()
            model.skip_below(None)

        return run

    for form in FORMS:
        each = weights(signals, form)
        for share in (0.0, *SHARES):
            below = float(each.flatten().quantile(share)) if share else 0.0
            name = f"{form} {share}"
            timed[name] = without(below, form)
            told[name] = {
                "way": way, "batch": len(text), "form": form,
                "share": float((each < below).double().mean()),
                "at_best": 1 - flops_saved(model.config, each >= below, form) / flops,
            }  # fmt: skip
    figures = compared(in_turn(timed, rounds, f"{way}, {len(text)} at once"), NOTHING)
    return [{**told[name], "plain": figures[NOTHING]["seconds"], **figures[name]} for name in told]


def _flops(model: LanguageModel, text: Tensor, way: str) -> float:
    """Floating-point operations of reading the texts, a token of them: few make logits."""
    config, (_, length) = model.config, text.shape
    head = 2 * config.d_model * config.vocab_size
    logits = 1 if way == WHOLE else 1 + length - FIRST
    return flops_per_token(config) - head + head * logits / length


def skipping_table(figures: dict[str, Any]) -> list[str]:
    """The time that skipping saves as Markdown."""
    if not figures:
        return ["## Skipping branches", "", "Measured where there is no GPU."]
    lines = [
        f"## Skipping branches of `{figures['arm']}` (not trained; eps chosen for the share)",
        "",
        f"Whole: {figures['length']} tokens at once. Token by token: {figures['steps']} after"
        f" {figures['first']}. Up to the logits of the next token, in turn with the same pass that"
        " skips nothing; a ratio above 1 is a loss. At best: as the operations that are left.",
        "",
        "| read | texts at once | left out | share | ms | ms with all | ratio | at best | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        verdict = "saves" if row["ratio"] < 1 else "loses"
        lines.append(
            f"| {row['way']} | {row['batch']} | {row['form'].replace('_', '-')} |"
            f" {row['share']:.0%} | {1e3 * row['seconds']:.1f} | {1e3 * row['plain']:.1f} |"
            f" {row['ratio']:.3f} | {row['at_best']:.3f} | {verdict} {abs(1 - row['ratio']):.0%} |"
        )
    return lines
