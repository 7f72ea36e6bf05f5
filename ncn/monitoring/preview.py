"""The beginning of a story now and then, so that people see how far a young model has come.

Drawn plainly, and not by `ncn.generation`: what is only shown must not make a model depend on how
texts are generated.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from ncn.corpus.tokenizer import Tokenizer, load_tokenizer
from ncn.model import LanguageModel

TOKENS = 40
TRIES = 5  # a young model may end a story before its first word
TEMPERATURE = 0.8
TOP_K = 50


def previewer(tokenizer: str | Path) -> Callable[[LanguageModel], str]:
    """What shows how far a model is: the first of a few beginnings of a story that has words.

    Args:
        tokenizer: directory of the vocabulary.
    """
    vocabulary = load_tokenizer(tokenizer)

    def preview(model: LanguageModel) -> str:
        for seed in range(TRIES):
            if text := beginning(model, vocabulary, seed).strip():
                return text
        return "(no words yet)"

    return preview


@torch.inference_mode()
def beginning(model: LanguageModel, tokenizer: Tokenizer, seed: int) -> str:
    """At most TOKENS tokens of a story. The model is left in evaluation mode."""
    draw = torch.Generator().manual_seed(seed)
    ids = [tokenizer.end_of_text]
    model.eval()
    for _ in range(min(TOKENS, model.config.context_length)):
        tokens = torch.tensor([ids], device=model.embedding.weight.device)
        logits = model.next_logits(tokens)[0].float().cpu()
        likely, places = logits.topk(min(TOP_K, len(logits)))
        chosen = torch.multinomial((likely / TEMPERATURE).softmax(-1), 1, generator=draw)
        if (token := int(places[chosen])) == tokenizer.end_of_text:
            break
        ids.append(token)
    return tokenizer.decode(ids[1:])
