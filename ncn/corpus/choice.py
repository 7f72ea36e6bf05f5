"""Which stories of the corpus are used, and in which part: repeats left out, and those that
`text.dialogue` does not want; the others drawn.
"""

from pathlib import Path

import numpy as np

from ncn.common.errors import InputError
from ncn.corpus import meta
from ncn.corpus.ranges import EMPTY, Corpus, keys_files
from ncn.corpus.split import LEFT_OUT, PARTS, Parts, choose_parts
from ncn.settings import Split
from ncn.text.dialogue import is_of
from ncn.text.mending import FAULTS
from ncn.text.repeats import repeated, shared
from ncn.text.stories import begins_with_mark


def choose_stories(
    corpus: Corpus, split: Split, seed: int, scratch: Path, drawn: bool
) -> tuple[Parts | None, meta.Text]:
    """The part of each story, or LEFT_OUT, and what is said of the text.

    Args:
        corpus: the text, see `ncn.corpus.ranges`.
        split: how it comes into parts.
        seed: of the split.
        scratch: where the keys of the stories lie.
        drawn: whether stories come into parts; None is returned where they need not, and none is
            left out.

    Raises:
        InputError: `text.dialogue` leaves no story.
    """
    keys, n_stories = keys_files(scratch, len(corpus.ranges)), corpus.n_stories
    again = repeated(keys, n_stories)
    n_repeats, n_near = int(again.sum()), None
    if corpus.text.repeats == "near":
        again = repeated(keys, n_stories, near=True)
        n_near = int(again.sum())
    if corpus.text.repeats == "keep":
        again[:] = False
    if (wanted := corpus.text.dialogue) != "any":
        out = [not is_of(story, wanted) for story in corpus.read()]
        if all(out):
            raise InputError(f"text.dialogue: {wanted}: of {n_stories:,} stories none is so")
        again |= np.array(out)
    kept = n_stories - int(again.sum())
    parts = None
    if drawn or kept < n_stories:
        parts = np.full(n_stories, LEFT_OUT, dtype=np.uint8)
        parts[~again] = choose_parts(kept, split, seed) if drawn else 0
    in_train: dict[str, int | None] = dict.fromkeys(PARTS[1:])
    if parts is not None and split.unit == "story":
        for name in in_train:
            in_train[name] = shared(keys, parts, PARTS.index(name), PARTS.index("train"))
    return parts, meta.Text(
        files_with_bom=sum(map(begins_with_mark, corpus.files)),
        empty=corpus.found.get(EMPTY, 0),
        found={name: corpus.found.get(name, 0) for name in FAULTS},
        mended=corpus.text.mended,
        repeats=n_repeats,
        near_repeats=n_near,
        left_out=n_stories - kept,
        dialogue=corpus.text.dialogue,
        val_in_train=in_train["val"],
        tune_in_train=in_train["tune"],
    )


def in_words(text: meta.Text) -> list[str]:
    """What was found in the text, for people; nothing where nothing was."""
    lines = []
    if found := [f"{name} in {n:,} stories" for name, n in text.found.items() if n]:
        mended = f"mended: {', '.join(text.mended)}" if text.mended else "nothing was mended"
        lines.append(f"found: {'; '.join(found)} ({mended}; see text in params.yaml)")
    if text.dialogue != "any":
        lines.append(f"stories {text.dialogue} dialogue; the others are among those left out")
    if text.repeats or text.near_repeats:
        near = "" if text.near_repeats is None else f", {text.near_repeats:,} nearly"
        lines.append(
            f"{text.repeats:,} stories repeat an earlier one{near}; {text.left_out:,} are left out"
        )
    for part, n in (("validation", text.val_in_train), ("tuning", text.tune_in_train)):
        if n:
            lines.append(
                f"{n:,} stories of the {part} part are in the training part too, word for word:"
                " text.repeats: exact leaves them out"
            )
    return lines
