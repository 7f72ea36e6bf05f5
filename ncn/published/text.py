"""The text of the published run, and what its rows are counted to be."""

from collections.abc import Mapping, Sequence
from typing import Any

from ncn.common.errors import InputError
from ncn.settings import Params

PUBLISHED_TEXT = "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443"  # its sha256
PUBLISHED_FILE = "TinyStoriesV2-GPT4-train.txt"
PUBLISHED_STORY_ENDS = 2_717_699  # delimiters in it
# What these settings and `split.unit: sequence` make of it.
PUBLISHED_ROWS = {"train": 1_016_288, "val": 53_488}
PUBLISHED_CONTEXT_LENGTH = 512
TEXT_SETTINGS: dict[str, Any] = {
    "tokenizer.vocabulary": "gpt2",
    "text.line_ends": False,
    "text.mojibake": False,
    "text.quotes": False,
    "text.blanks": False,
    "text.repeats": "keep",
    "text.dialogue": "any",
    "split.validation": 0.05,
    "split.tuning": 0.0,
}


def rows_beside_published(
    texts: Sequence[str], params: Params, rows: Mapping[str, int], n_texts: int
) -> str | None:
    """That the published text came to the published rows, in words; None of another split.

    Args:
        texts: the sha256 of each file of text.
        params: the experiment.
        rows: of each part.
        n_texts: between delimiters, empty ones too.

    Raises:
        InputError: it came to others, or to another number of stories.
    """
    ours = {
        "tokenizer.vocabulary": params.tokenizer.vocabulary,
        "split.validation": params.split.validation,
        "split.tuning": params.split.tuning,
        **{f"text.{name}": value for name, value in params.text},
    }
    if (
        list(texts) != [PUBLISHED_TEXT]
        or params.split.unit != "sequence"
        or params.model.context_length != PUBLISHED_CONTEXT_LENGTH
        or ours != TEXT_SETTINGS
    ):
        return None
    for what, found, expected in (
        *((f"{part} rows", rows.get(part, 0), n) for part, n in PUBLISHED_ROWS.items()),
        # The file's end may end a story too.
        ("story ends", n_texts - (n_texts == PUBLISHED_STORY_ENDS + 1), PUBLISHED_STORY_ENDS),
    ):
        if found != expected:
            raise InputError(
                f"the published text came to {found:,} {what}, and should to {expected:,}: the"
                " vocabulary is not the published one, or the code counts otherwise"
            )
    return "as many sequences as published"
