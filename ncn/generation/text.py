"""Texts in, texts out: prompts of any kind continued to the end of the story."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch

from ncn.common.errors import InputError
from ncn.corpus.conditions import NO_CONDITIONS, Conditions
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import generate
from ncn.generation.refresh import ALWAYS, Refresh
from ncn.generation.sampling import Sampling
from ncn.model import LanguageModel
from ncn.settings import Salience


def encode_prompt(model: LanguageModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; an empty one begins a story, as end_of_text stands before each.

    Raises:
        InputError: the prompt is longer than the model's context.
    """
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    if len(ids) > model.config.context_length:
        raise InputError(
            f"prompt {prompt[:40]!r} has {len(ids)} tokens;"
            f" at most context_length {model.config.context_length}"
        )
    return ids


def stream_text(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens` up to end_of_text, in pieces that never split a character.

    Decoding writes U+FFFD for the bytes of an unfinished character, so a piece that ends in it
    is held back until the next token has come, or none is left.
    """
    held: list[int] = []
    for token in tokens:
        if token == tokenizer.end_of_text:
            break
        held.append(token)
        piece = tokenizer.decode(held)
        if not piece.endswith("\N{REPLACEMENT CHARACTER}"):
            yield piece
            held.clear()
    if held:
        yield tokenizer.decode(held)


def continue_texts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    salience: Salience | None = None,
    refresh: Refresh = ALWAYS,
    conditions: Conditions = NO_CONDITIONS,
) -> list[str]:
    """What follows each prompt, up to end_of_text. Prompts of equal length share a batch.

    Args:
        model: put into evaluation mode.
        tokenizer: the model's.
        prompts: an empty one begins a story.
        max_new_tokens: of each prompt.
        sampling: how a token is drawn.
        seed: prompt i draws from seed + i, whatever the other prompts are.
        salience: see `generation_salience`.
        refresh: when the tonic signal is recomputed.
        conditions: what the control network is told of each text, see `conditions_of`.

    Raises:
        InputError: a prompt is too long, or as `stream`.
    """
    encoded = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    equally_long: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(encoded):
        equally_long[len(ids)].append(number)
    texts = [""] * len(prompts)
    for length, numbers in equally_long.items():
        whole = generate(
            model,
            torch.tensor([encoded[number] for number in numbers]),
            max_new_tokens,
            sampling.temperature,
            sampling.top_k,
            [seed + number for number in numbers],
            salience,
            top_p=sampling.top_p,
            stop=tokenizer.end_of_text,
            refresh=refresh,
            conditions=conditions,
        )
        for number, row in zip(numbers, whole[:, length:].tolist(), strict=True):
            texts[number] = "".join(stream_text(tokenizer, row))
    return texts
