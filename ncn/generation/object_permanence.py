"""Do generated stories keep the things and people that they began with? (object permanence)

A model continues the first half of validation rows. A thing is a word that an article introduces
there ("a tiny dragon", "the box") or a name inside a sentence; it is kept if the continuation
names it again. The row's own second half, read in the same way, says what stories do; and another
row's continuation what is named by chance.
"""

import re
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ncn.corpus.rows import Rows
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import generate
from ncn.generation.sampling import Sampling
from ncn.model import LanguageModel
from ncn.settings import END_OF_TEXT

# After an article: the noun, of "tiny dragon" the second word. A name: not where a sentence starts.
INTRODUCED = re.compile(r"\b(?:[Aa]n?|[Tt]he)\s+(?:[a-z]+y\s+)?([a-z]{3,})\b")
NAME = re.compile(r"(?<=[a-z,] )([A-Z][a-z]{2,})\b")
NO_THINGS = frozenset({"time", "day", "end", "same", "other"})


class Halves(NamedTuple):
    """Rows cut in two: prompts [N, T], the things of each, and the text of the rest."""

    prompts: Tensor
    things: list[list[str]]
    rest: list[str]


def things_in(text: str) -> list[str]:
    """The things and names of the last story in `text`, each once, in lower case."""
    story = text.rsplit(END_OF_TEXT, 1)[-1]
    found = (*INTRODUCED.findall(story), *NAME.findall(story))
    return sorted({thing.lower() for thing in found} - NO_THINGS)


def named_again(things: list[str], text: str) -> int:
    """How many of the things the rest of the story, up to its end, names; plurals count."""
    story = text.split(END_OF_TEXT, 1)[0]
    return sum(bool(re.search(rf"\b{each}s?\b", story, re.IGNORECASE)) for each in things)


def halves(rows: Rows, tokenizer: Tokenizer) -> Halves:
    """Cut rows [N, T + 1]. Rows that begin no thing, or a story that ends there, drop out."""
    middle = rows.shape[1] // 2
    chosen, things, rests = [], [], []
    for number, row in enumerate(rows.astype(np.int64)):
        first, rest = (tokenizer.decode(part.tolist()) for part in (row[:middle], row[middle:]))
        begun = things_in(first)
        if begun and not rest.startswith(END_OF_TEXT) and not first.endswith(END_OF_TEXT):
            chosen.append(number)
            things.append(begun)
            rests.append(rest)
    prompts = torch.from_numpy(rows[chosen, :middle].astype(np.int64))
    return Halves(prompts, things, rests)


def kept_in(things: list[list[str]], texts: list[str]) -> list[int]:
    """How many things of each row its text names."""
    return [named_again(each, text) for each, text in zip(things, texts, strict=True)]


def shuffled(texts: list[str]) -> list[str]:
    """The control: the text of another row, half of all rows away.

    What a text names of another story's things is what stories of one kind share. Half, because
    the next row may continue the same story.
    """
    half = len(texts) // 2
    return texts[half:] + texts[:half]


def continued(
    model: LanguageModel,
    prompts: Tensor,
    length: int,
    tokenizer: Tokenizer,
    sampling: Sampling,
    seed: int,
) -> list[str]:
    """The model's continuation of each prompt [N, T], at most `length` tokens."""
    if not len(prompts):
        return []
    whole = generate(
        model,
        prompts,
        length,
        sampling.temperature,
        sampling.top_k,
        seed,
        top_p=sampling.top_p,
        stop=tokenizer.end_of_text,
    )
    return [tokenizer.decode(tokens) for tokens in whole[:, prompts.shape[1] :].tolist()]
