"""What is left out and mended of a text, what is said of it, and that the rows are the rest."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import ncn.corpus.split
import ncn.text.repeats
from ncn.common.errors import InputError
from ncn.corpus.choice import choose_stories, in_words
from ncn.corpus.meta import Meta, read_meta
from ncn.corpus.ranges import Corpus
from ncn.corpus.rows import open_rows
from ncn.corpus.split import PARTS
from ncn.corpus.tokenizer import load_tokenizer
from ncn.settings import END_OF_TEXT, Split
from ncn.text.repeats import KEY
from ncn.text.stories import BOM
from tests.corpus.vocabulary import AS_IT_IS, write_files

STORIES = [f"Story {n}: it was day {n * n % 97} of “spring”.  He  ran.\r\n" for n in range(150)]
AGAIN = [STORIES[3], STORIES[3], STORIES[140], STORIES[7] + " "]
NEAR = " ".join(f"word{n}" for n in range(300))


def made(
    folder: Path, vocabulary: Path, stories: list[str], unit: str = "story", **mend: object
) -> Meta:
    file = folder / "text.txt"
    file.write_bytes(BOM + END_OF_TEXT.join([*stories, " ", "\n"]).encode())
    split = Split(unit=unit, validation=0.2, tuning=0.1)  # type: ignore[arg-type]
    text = AS_IT_IS.model_copy(update=mend)
    return write_files([file], vocabulary, split, 16, 42, folder, size=1000, text=text)


def text_of(folder: Path, vocabulary: Path, part: str) -> str:
    rows = open_rows(folder, part)[:]
    return load_tokenizer(vocabulary).decode([*rows[:, :-1].ravel().tolist(), rows[-1, -1]])


def test_what_is_wrong_is_counted_and_left_as_it_is(tmp_path: Path, vocabulary: Path) -> None:
    meta = made(tmp_path, vocabulary, STORIES + AGAIN)
    assert meta.stories == 154
    assert meta.text.found == {"line_ends": 154, "mojibake": 0, "quotes": 154, "blanks": 154}
    assert (meta.text.empty, meta.text.files_with_bom) == (1, 1)
    assert (meta.text.repeats, meta.text.near_repeats, meta.text.left_out) == (4, None, 0)
    assert any("nothing was mended" in line for line in in_words(meta.text))
    assert "“spring”.  He  ran.\r\n" in text_of(tmp_path, vocabulary, "train")
    assert read_meta(tmp_path) == meta


@pytest.mark.parametrize("unit", ["story", "sequence", "tail"])
def test_stories_are_chosen_by_whether_somebody_speaks(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    quiet = [story.replace("“", "").replace("”", "") for story in STORIES]
    said = [f'{story} "Run," he said.' if n % 3 else story for n, story in enumerate(quiet)]
    for wanted, n, quotes in (("without", 50, False), ("with", 100, True)):
        folder = tmp_path / wanted
        folder.mkdir()
        meta = made(folder, vocabulary, said, unit, dialogue=wanted, quotes=False)
        assert (meta.stories, meta.text.left_out, meta.text.dialogue) == (n, 150 - n, wanted)
        told = "".join(text_of(folder, vocabulary, part) for part in PARTS)
        assert ('"Run," he said.' in told) == quotes
        assert any(f"stories {wanted} dialogue" in line for line in in_words(meta.text))
    with pytest.raises(InputError, match=r"text\.dialogue: with: of 1 stories none is so"):
        made(tmp_path, vocabulary, ["Nobody spoke."], unit, dialogue="with")


def test_what_is_asked_for_is_mended_and_left_out(tmp_path: Path, vocabulary: Path) -> None:
    mend = {"line_ends": True, "quotes": True, "blanks": True, "repeats": "exact"}
    meta = made(tmp_path, vocabulary, STORIES + AGAIN, **mend)
    assert meta.stories == 150
    assert meta.text.mended == ["line_ends", "quotes", "blanks"]
    assert (meta.text.repeats, meta.text.left_out) == (4, 4)
    assert (meta.text.val_in_train, meta.text.tune_in_train) == (0, 0)
    told = "".join(text_of(tmp_path, vocabulary, part) for part in PARTS)
    assert told.count('of "spring". He ran.\n') >= 147  # each part's last row may cut one
    assert not set("“”\r") & set(told)
    assert told.count("Story 3:") == 1


@pytest.mark.parametrize("unit", ["sequence", "tail"])
def test_repeats_are_left_out_of_rows_too(tmp_path: Path, vocabulary: Path, unit: str) -> None:
    (tmp_path / "once").mkdir()
    (tmp_path / "twice").mkdir()
    once = made(tmp_path / "once", vocabulary, STORIES, unit)
    twice = made(tmp_path / "twice", vocabulary, STORIES + AGAIN, unit, repeats="exact")
    assert twice.text.left_out == 4
    assert twice.text.val_in_train == (None if unit == "sequence" else 0)
    assert (twice.digest, twice.stories) == (once.digest, once.stories)


def test_validation_stories_that_train_too_are_counted(tmp_path: Path, vocabulary: Path) -> None:
    meta = made(tmp_path, vocabulary, [*STORIES, *STORIES])
    parts = {part: set(np.unique(open_rows(tmp_path, part)[:])) for part in PARTS}
    assert all(parts.values())
    # 60 validate; of each, its double is one of the other 299, of which 210 train.
    assert meta.text.val_in_train is not None
    assert 30 <= meta.text.val_in_train <= 55
    assert any("of the validation part are in the training part" in s for s in in_words(meta.text))
    assert made(tmp_path, vocabulary, STORIES).text.val_in_train == 0


def test_stories_of_the_tail_that_train_too_are_counted(tmp_path: Path, vocabulary: Path) -> None:
    meta = made(tmp_path, vocabulary, [*STORIES, *AGAIN, STORIES[130]], "tail")
    ends = text_of(tmp_path, vocabulary, "val").split(END_OF_TEXT)
    val = {each.strip() for each in ends[1:]}  # the first may have begun before
    train = {each.strip() for each in text_of(tmp_path, vocabulary, "train").split(END_OF_TEXT)}
    both = {each for each in val & train if each}
    assert {STORIES[3].strip(), STORIES[7].strip()} == both
    assert meta.text.val_in_train == 3  # STORIES[3] stands there twice


def test_near_repeats_are_left_out_on_request(tmp_path: Path, vocabulary: Path) -> None:
    others = [" ".join(f"n{n}x{place}" for place in range(20)) for n in range(100)]
    stories = [*others, NEAR, NEAR.replace("word150", "other"), NEAR]
    assert made(tmp_path, vocabulary, stories, repeats="exact").stories == 102
    meta = made(tmp_path, vocabulary, stories, repeats="near")
    assert (meta.text.repeats, meta.text.near_repeats) == (1, 2)
    assert meta.stories == 101


def test_choosing_among_many_stories_takes_a_byte_a_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_file, files = 200_000, 20
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, size=(files, a_file), dtype=KEY)
    keys[-1, :10] = keys[0, :10]
    for number, mine in enumerate(keys):
        mine.tofile(tmp_path / f"{number:06}.keys")
    monkeypatch.setattr(ncn.corpus.split, "AT_ONCE", 1 << 15)
    monkeypatch.setattr(ncn.text.repeats, "BUCKET", 1 << 16)
    text = AS_IT_IS.model_copy(update={"repeats": "exact"})
    corpus = Corpus([], [[] for _ in keys], [a_file] * files, {}, text)
    split = Split(unit="story", validation=0.1, tuning=0.0)
    tracemalloc.start()
    parts, found = choose_stories(corpus, split, 42, tmp_path, drawn=True)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.repeats, found.left_out, found.val_in_train) == (10, 10, 0)
    assert parts is not None
    assert np.bincount(parts).tolist()[:2] == [3_599_991, 399_999]
    assert taken < 4_000_000 + 12_000_000  # a bucket of keys, and a file of them
