"""The second text, as rows of the first one's vocabulary.

| adapt.text.source | what it is                                                                  |
|-------------------|-----------------------------------------------------------------------------|
| dialect           | stories of the grammar's other dialect, drawn by the seed's neighbour       |
| dialogue          | of the text that this run began with, the stories that `text.dialogue` left |
|                   | out: mended alike, each once, in their order                                |
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ncn.common.errors import InputError
from ncn.corpus.rows import TOKEN, Rows, TokenRows
from ncn.corpus.tokenizer import Tokenizer
from ncn.settings import SecondText, Text
from ncn.sources.stories import write_stories
from ncn.text.dialogue import is_of
from ncn.text.mending import mended
from ncn.text.stories import read_stories, text_files


class SecondRows(NamedTuple):
    """Rows [N, context_length + 1] to train on and to validate on."""

    train: Rows
    val: Rows


def second_text(
    settings: SecondText,
    text: Text,
    raw: Path,
    tokenizer: Tokenizer,
    context_length: int,
    seed: int,
) -> SecondRows:
    """At most `adapt.text.stories` stories, of which the last `adapt.text.validation` validate.

    Args:
        settings: the section `adapt.text`.
        text: the section `text`, of the first text.
        raw: what the download stage fetched.
        tokenizer: of the first text.
        context_length: of a row.
        seed: of the first text.

    Raises:
        InputError: a part would have no row, or text that cannot be read.
    """
    if settings.source == "dialogue":
        stories = left_out(text, raw, settings.stories)
    else:
        told = write_stories(settings.stories, (seed + 1) % 2**32, "second")
        stories = [f"\n{story}\n" for story in told]  # as they stand in a file
    first = len(stories) - max(1, int(len(stories) * settings.validation))
    parts = {"training": stories[: max(0, first)], "validation": stories[max(0, first) :]}
    rows = {name: rows_of(part, tokenizer, context_length) for name, part in parts.items()}
    for name, made in rows.items():
        if not len(made):
            raise InputError(
                f"adapt.text: stories {settings.stories} ({len(stories)} are there), validation"
                f" {settings.validation}: the {name} part makes no row of context_length"
                f" {context_length} + 1: more stories are needed, or another share"
            )
    return SecondRows(*rows.values())


def left_out(text: Text, raw: Path, n: int) -> list[str]:
    """The first `n` stories that `text.dialogue` left out."""
    found: dict[str, None] = {}
    for story in read_stories(text_files(raw)):
        if not is_of(whole := mended(story, text.mended), text.dialogue):
            found[whole] = None
        if len(found) == n:
            break
    return list(found)


def rows_of(stories: Sequence[str], tokenizer: Tokenizer, context_length: int) -> Rows:
    """Stories with the end of text behind each, cut into rows as `ncn.corpus.encode` cuts them."""
    ids = [each for story in stories for each in (*tokenizer.encode(story), tokenizer.end_of_text)]
    starts = np.arange(0, len(ids) - context_length, context_length)
    return np.array(ids, TOKEN)[starts[:, None] + np.arange(context_length + 1)]


def with_replay(second: Rows, first: TokenRows, share: float) -> Rows:
    """As many rows as `second` has, `share` of them of the first text, spread over it evenly."""
    n_first = round(share * len(second))
    places = np.linspace(0, len(first) - 1, n_first).round().astype(int)
    return np.concatenate([second[: len(second) - n_first], first[places]])
