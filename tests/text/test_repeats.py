"""Repeats: each found, whichever range, bucket and part it lies in."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import ncn.text.repeats
from ncn.text.repeats import BANDS, key_of, keys_bytes, mark_repeats, near_keys, shared

WORDS = [f"word{n}" for n in range(20)]


def repeated(files: list[Path], n_stories: int, near: bool = False) -> NDArray[np.bool_]:
    marks = np.zeros(n_stories, dtype=np.bool_)
    mark_repeats(files, marks)
    if near:
        mark_repeats(files, marks, near=True)
    return marks


def written(folder: Path, stories: list[str], cuts: list[int], near: bool = False) -> list[Path]:
    """The keys of stories, in a file a range."""
    files = []
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(stories)], strict=True)):
        mine = [keys_bytes(key_of(s), near_keys(s) if near else ()) for s in stories[start:end]]
        files.append(folder / f"{number}.keys")
        files[-1].write_bytes(b"".join(mine))
    return files


@given(
    st.lists(st.sampled_from("abcdefg"), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([1, 3, 1 << 22]),
    st.randoms(use_true_random=False),
)
def test_a_repeat_is_found_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory,
    stories: list[str],
    cuts: list[int],
    bucket: int,
    draw: random.Random,
) -> None:
    cuts = sorted(min(cut, len(stories)) for cut in cuts)
    parts = np.array([draw.choice([0, 0, 1, 2, 255]) for _ in stories], dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.text.repeats, "BUCKET", bucket)
        files = written(tmp_path_factory.mktemp("keys"), stories, cuts)
        found = repeated(files, len(stories))
        both = shared(files, parts, ours=1, theirs=0)
    assert found.tolist() == [story in stories[:place] for place, story in enumerate(stories)]
    training = {story for story, part in zip(stories, parts, strict=True) if part == 0}
    mine = Counter(story for story, part in zip(stories, parts, strict=True) if part == 1)
    assert both == sum(n for story, n in mine.items() if story in training)


def test_white_space_around_a_story_makes_no_other() -> None:
    assert key_of("\nOnce.\n") == key_of("Once.") != key_of("Once")


def test_near_repeats_are_found_by_what_they_share(tmp_path: Path) -> None:
    draw = random.Random(0)
    stories = [" ".join(draw.choices(WORDS, k=200)) for _ in range(300)]
    copies = []
    for story in stories[:100]:
        words = story.split()
        words[draw.randrange(200)] = "changed"
        copies.append(" ".join(words).replace("word1 ", "Word1, "))
    everything = [*stories, *copies, "one two", "one two"]
    files = written(tmp_path, everything, [150, 350], near=True)
    found = repeated(files, len(everything), near=True)
    assert not found[:300].any()  # none of those drawn apart
    # One word of 200 in 5 of 196 runs: J = 0.95, found with probability 0.987.
    assert found[300:400].sum() >= 93
    assert found[-1]
    assert repeated(files, len(everything)).sum() == 1  # word for word


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.integers(1, 9))
def test_a_long_story_has_the_near_keys_of_all_its_runs(words: list[str], at_once: int) -> None:
    story = " ".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.text.repeats, "RUNS_AT_ONCE", at_once)
        piecewise = near_keys(story).tolist()
    assert piecewise == near_keys(story).tolist()


def test_a_near_key_is_the_same_in_every_process() -> None:
    keys = near_keys("Once upon a time there was a cat.")
    assert len(keys) == BANDS
    assert int(keys[0]) == 7906180235262621206
