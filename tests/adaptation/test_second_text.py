"""The second text: stories of its own, in the first one's vocabulary, parted from each other."""

import re
from pathlib import Path

import numpy as np
import pytest

from ncn.adaptation.second_text import SecondRows, left_out, rows_of, second_text, with_replay
from ncn.common.errors import InputError
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from ncn.settings import END_OF_TEXT, SecondText, Text
from ncn.sources.stories import write_stories
from tests.corpus.vocabulary import AS_IT_IS

SETTINGS = SecondText(source="dialect", stories=20, validation=0.1)
SILENT = AS_IT_IS.model_copy(update={"dialogue": "without"})


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(write_stories(50, 42), 400, folder)
    return load_tokenizer(folder)


def made(
    tokenizer: Tokenizer,
    context_length: int = 48,
    seed: int = 42,
    text: Text = AS_IT_IS,
    raw: Path = Path(),
    **changes: object,
) -> SecondRows:
    settings = SETTINGS.model_copy(update=changes)
    return second_text(settings, text, raw, tokenizer, context_length, seed)


def test_it_is_the_second_dialect_of_other_stories(tokenizer: Tokenizer) -> None:
    rows = made(tokenizer)
    told = "".join(f"\n{story}\n{END_OF_TEXT}" for story in write_stories(20, 43, "second"))
    text = [tokenizer.decode(part[:, :-1].ravel().tolist()) for part in rows]
    assert told.startswith(text[0])
    assert text[1] in told
    assert told.index(text[1]) >= len(text[0])
    assert text[0].count(END_OF_TEXT) in (17, 18)
    assert not set(write_stories(20, 42, "second")) & set(re.split(END_OF_TEXT, told))


def test_rows_overlap_by_the_token_that_is_a_target_and_then_a_token(tokenizer: Tokenizer) -> None:
    rows = rows_of(["one two three", "four"], tokenizer, 4)
    assert rows.dtype == np.uint16
    assert rows.shape[1] == 5
    assert (rows[1:, 0] == rows[:-1, -1]).all()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_each_seed_has_a_neighbour(tokenizer: Tokenizer, seed: int) -> None:
    assert len(made(tokenizer, seed=seed).train)


def test_text_that_makes_no_row_is_refused_by_key(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"stories 2 \(2 are there\), .*: the training"):
        made(tokenizer, 4000, stories=2)


def test_real_text_is_cut_by_dialogue_and_no_story_is_in_both(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    silent = [f"\nDay {n}. It rained.\n" for n in range(30)]
    spoken = [f'\nDay {n}. "It rains," said Sam. We ran.\n' for n in range(30)]
    told = [story for pair in zip(silent, spoken, strict=True) for story in pair]
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text(END_OF_TEXT.join([*told, told[1]]))
    assert left_out(SILENT, tmp_path, 100) == spoken  # each once
    assert left_out(SILENT, tmp_path, 7) == spoken[:7]
    with_speech = SILENT.model_copy(update={"dialogue": "with"})
    assert left_out(with_speech, tmp_path, 100) == silent
    rows = made(tokenizer, 16, text=SILENT, raw=tmp_path, source="dialogue", stories=100)
    text = [tokenizer.decode(part[:, :-1].ravel().tolist()) for part in rows]
    assert all('"It rains," said Sam.' in each for each in text)
    assert "Day 26." in text[0]
    assert "Day 27." in text[1]  # the last tenth validates


def test_replay_takes_the_place_of_a_share_of_the_rows() -> None:
    first, second = np.arange(50, dtype=np.uint16)[:, None], np.arange(100, 120)[:, None]
    mixed = with_replay(second.astype(np.uint16), first, 0.25)
    assert len(mixed) == len(second)
    assert sorted(mixed[mixed < 50].tolist()) == [0, 12, 24, 37, 49]
    assert mixed[mixed >= 100].tolist() == list(range(100, 115))
