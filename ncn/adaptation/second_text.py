"""The second text, as rows of the first one's vocabulary: stories of the grammar's other dialect.

They are other stories than those of the first text, too: a seed's neighbour draws them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncn.common.errors import InputError
from ncn.corpus.rows import TOKEN, Rows, TokenRows
from ncn.corpus.tokenizer import Tokenizer
from ncn.settings import SecondText
from ncn.sources.stories import write_stories


class SecondRows(NamedTuple):
    """Rows [N, context_length + 1] to train on and to validate on."""

    train: Rows
    val: Rows


def second_text(
    settings: SecondText, tokenizer: Tokenizer, context_length: int, seed: int
) -> SecondRows:
    """`adapt.text.stories` stories, of which the last `adapt.text.validation` validate.

    Args:
        settings: the section `adapt.text`.
        tokenizer: of the first text.
        context_length: of a row.
        seed: of the first text.

    Raises:
        InputError: a part would have no row.
    """
    told = write_stories(settings.stories, (seed + 1) % 2**32, "second")
    stories = [f"\n{story}\n" for story in told]  # as they stand in a file
    first = settings.stories - max(1, int(settings.stories * settings.validation))
    parts = {"training": stories[:first], "validation": stories[first:]}
    rows = {name: rows_of(part, tokenizer, context_length) for name, part in parts.items()}
    for name, made in rows.items():
        if not len(made):
            raise InputError(
                f"adapt.text: stories {settings.stories}, validation {settings.validation}: the"
                f" {name} part makes no row of context_length {context_length} + 1: more stories"
                " are needed, or another share"
            )
    return SecondRows(*rows.values())


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
