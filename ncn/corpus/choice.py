"""Which stories of the corpus are used, and in which part: repeats left out, and those that
`text.dialogue` does not want; the others drawn.
"""

from pathlib import Path

import numpy as np

from ncn.common.errors import InputError
from ncn.corpus import meta
from ncn.corpus.ranges import EMPTY, Corpus, keys_files
from ncn.corpus.split import LEFT_OUT, PARTS, Draw, Parts, draw_into
from ncn.settings import Split
from ncn.text.dialogue import is_of
from ncn.text.mending import FAULTS
from ncn.text.repeats import mark_repeats, shared
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
    # A byte a story is held, and no more: first whether it is left out, then its part.
    parts = np.zeros(n_stories, dtype=np.uint8)
    out = parts.view(np.bool_)
    mark_repeats(keys, out)
    n_repeats, n_near = int(np.count_nonzero(out)), None
    if corpus.text.repeats == "near":
        mark_repeats(keys, out, near=True)
        n_near = int(np.count_nonzero(out))
    if corpus.text.repeats == "keep":
        out[:] = False
    if (wanted := corpus.text.dialogue) != "any":
        for index, story in enumerate(corpus.read()):
            out[index] |= not is_of(story, wanted)
        if out.all():
            raise InputError(f"text.dialogue: {wanted}: of {n_stories:,} stories none is so")
    kept = n_stories - int(np.count_nonzero(out))
    np.multiply(parts, LEFT_OUT, out=parts)
    in_train: dict[str, int | None] = dict.fromkeys(PARTS[1:])
    if drawn:
        draw_into(parts, Draw(kept, split, seed))
    if drawn and split.unit == "story":
        for name in in_train:
            in_train[name] = shared(keys, parts, PARTS.index(name), PARTS.index("train"))
    return parts if drawn or kept < n_stories else None, meta.Text(
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
