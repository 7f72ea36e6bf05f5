"""What it takes to change the task and a slider in mid-text, at published size.

What was read stays as it is: keys and values are cached, and what is told acts from the next token
on. So a change is two other vectors for the control network to add.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ncn.benchmark.timing import compared, in_turn
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.generation.caches import make_cache
from ncn.generation.decoding import conditions_of
from ncn.generation.one_token import OneToken, suits
from ncn.model import LanguageModel, build_model
from ncn.settings import Params

ARM = "switched"  # `ncn_causal` with tasks and a slider
TASKS = 4
PROMPT, NEW_TOKENS, ROUNDS = 16, 32, 9
NOTHING, SAME, ANEW = "told nothing", "told the same", "told anew"


def tokens_told(model: LanguageModel, told: Sequence[Conditions]) -> Callable[[], Tensor]:
    """Greedy tokens after a short prompt, the n-th of them told the n-th of `told`, in turn; what
    is called returns the last logits [1, V].
    """
    device = model.embedding.weight.device
    prompt = torch.arange(PROMPT, device=device)[None]
    cache = make_cache(model, 1)
    one_token = OneToken(model, cache) if suits(model, 1) else None

    @torch.inference_mode()
    def run() -> Tensor:
        cache.clear()
        token = model.next_logits(prompt, "causal", cache, told[0]).argmax(-1, keepdim=True)
        for n in range(NEW_TOKENS):
            given = told[n % len(told)]
            logits = (
                one_token.next_logits(token, "causal", given)
                if one_token
                else model.next_logits(token, "causal", cache, given)
            )
            token = logits.argmax(-1, keepdim=True)
        return logits

    return run


def switching(params: Params, device: torch.device) -> dict[str, Any]:
    """A token's time: told nothing, the same task and slider throughout, or others each time."""
    arm = {"salience": "causal", "tasks": TASKS, "sliders": ["dialogue"]}
    params = params.model_copy(update={"arms": params.arms | {ARM: arm}})
    model = build_model(params, ARM, GPT2_VOCABULARY).to(device).eval()
    told = [conditions_of(model, task=n, sliders={"dialogue": float(n - 1)}) for n in range(TASKS)]
    timed = {
        NOTHING: tokens_told(model, [NO_CONDITIONS]),
        SAME: tokens_told(model, told[:1]),
        ANEW: tokens_told(model, told),
    }
    forms = compared(in_turn(timed, ROUNDS, "switching"), SAME)
    return {"tokens": NEW_TOKENS, "rounds": ROUNDS, "forms": forms}


def switching_table(figures: dict[str, Any]) -> list[str]:
    """The same as Markdown."""
    tokens = figures["tokens"]
    return [
        f"## Task and slider changed in mid-text: {tokens} tokens, {figures['rounds']} rounds",
        "",
        "| before each token | ms a token | ratio to the same throughout |",
        "|---|---|---|",
        *(
            f"| {form} | {1e3 * each['seconds'] / tokens:.2f} | {each['ratio']:.3f} |"
            for form, each in figures["forms"].items()
        ),
    ]
