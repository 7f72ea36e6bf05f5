"""Stories word by word: the ids that tiktoken gives, whatever the text."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ncn.corpus.words
from ncn.corpus.rows import TOKEN
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.corpus.words import WHITE_SPACE, WordEncoder

WORDS = [
    "Tom",
    "'s",
    "don't",
    "it’s",
    "12",
    "é",
    "漢字",
    "!?",
    "🙂",
    "\x1c",
    "\x00",
    "x\x1c!",
    "\u200b",
]
PIECES = st.sampled_from([*WORDS, *sorted(WHITE_SPACE), " ", " ", "  ", "\n\n", " \n"])
TEXTS = st.lists(PIECES | st.characters(exclude_categories=["Cs"]), max_size=40).map("".join)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> WordEncoder:
    folder = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer([" ".join(WORDS), " Tom\n\n Tom's  \t12 12", "\n \n  don't"] * 3, 290, folder)
    return WordEncoder(load_tokenizer(folder), 1 << 18)


def check(encoder: WordEncoder, text: str) -> None:
    whole = encoder._tokenizer.encode(text)
    assert np.frombuffer(encoder.encode(text), TOKEN).tolist() == whole


@settings(max_examples=1500)
@given(TEXTS)
@example(" ")
@example("  ")
@example("a ")
@example("a  b c")
@example("a\n b c")
@example("a \x1c! b")
@example("a! \u2028 b c")
def test_a_story_in_words_has_the_ids_of_the_whole(encoder: WordEncoder, text: str) -> None:
    check(encoder, text)
    check(encoder, text)  # from memory


@given(TEXTS, st.integers(1, 5))
def test_a_long_story_in_pieces_has_the_ids_of_the_whole(
    encoder: WordEncoder, text: str, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.words, "PIECE", piece)
        check(encoder, text)


def test_words_that_never_come_again_are_left_to_tiktoken(encoder: WordEncoder) -> None:
    fresh = WordEncoder(encoder._tokenizer, 10)
    texts = [" ".join(f"{row}.{word}" for word in range(30)) for row in range(40)]
    for text in texts:
        check(fresh, text)
    assert len(fresh._words) == 10
    assert fresh._words.unknown < 30 * 8  # one story in seventeen is tried
