"""The vocabulary: lossless, the ids of the tokenizers library, refused when damaged."""

import json
from pathlib import Path

import pytest
import tokenizers

from ncn.common.errors import InputError
from ncn.corpus.tokenizer import check_lengths, load_tokenizer, train_tokenizer
from ncn.settings import END_OF_TEXT
from ncn.text.stories import read_stories
from tests.conftest import shared
from tests.corpus.vocabulary import TEXT


def test_decoding_gives_the_text_back(vocabulary: Path) -> None:
    tokenizer = load_tokenizer(vocabulary)
    for text in (TEXT.split(END_OF_TEXT)[3], "  \t\n\n naïve 你好 🐉\r\n", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_special_token_in_a_prompt_is_plain_text(vocabulary: Path) -> None:
    tokenizer = load_tokenizer(vocabulary)
    assert tokenizer.end_of_text not in tokenizer.encode(END_OF_TEXT)


def test_ids_equal_those_of_the_tokenizers_library(vocabulary: Path) -> None:
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(
        str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt")
    )
    assert load_tokenizer(vocabulary).encode(TEXT) == theirs.encode(TEXT).ids


def test_gpt2_ids_equal_those_of_the_tokenizers_library_over_the_whole_sample() -> None:
    directory = shared("data/gpt2")
    sample = shared("data/tinystories_sample.txt")
    mine = load_tokenizer(directory)
    assert (mine.vocab_size, mine.end_of_text) == (50_257, 50_256)
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(
        str(directory / "vocab.json"), str(directory / "merges.txt")
    )
    stories = list(read_stories([sample]))
    assert len(stories) == 1092
    for ids, other in zip(map(mine.encode, stories), theirs.encode_batch(stories), strict=True):
        assert ids == other.ids


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v | {"extra": 300}, r"merges do not make"),
        (lambda v: v | {"extra": 7}, r"ids must be 0 to 300, each once"),
        (lambda v: {k: i for k, i in v.items() if k != END_OF_TEXT}, r"with <\|endoftext\|> in it"),
        (lambda v: {f"x{i}" if i < 256 else k: i for k, i in v.items()}, "no token for byte"),
        (lambda v: {("→" if i == 299 else k): i for k, i in v.items()}, "with <|"),
        (lambda v: v | {f"y{i}": i for i in range(300, 70_000)}, "at most 65536 fit in uint16"),
    ],
)
def test_a_damaged_vocabulary_is_refused(
    tmp_path: Path, vocabulary: Path, change: object, words: str
) -> None:
    content = json.loads((vocabulary / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(change(content)))  # type: ignore[operator]
    (tmp_path / "merges.txt").write_text((vocabulary / "merges.txt").read_text())
    with pytest.raises(InputError, match=words):
        load_tokenizer(tmp_path)


def test_a_vocabulary_larger_than_the_text_can_fill_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.vocab_size: 5000 tokens cannot be trained"):
        train_tokenizer(["a few words only"], 5000, tmp_path)


def test_a_text_longer_than_the_context_is_named_by_its_setting(vocabulary: Path) -> None:
    tokenizer = load_tokenizer(vocabulary)
    text = "Tom said, “Oh!” on day 9."
    length = len(tokenizer.encode(text))
    check_lengths({"generate.prompts": ["", text]}, tokenizer, length)
    words = rf"generate\.prompts\[1\]: .* has {length} tokens; at most .* {length - 1}$"
    with pytest.raises(InputError, match=words):
        check_lengths({"generate.prompts": ["", text]}, tokenizer, length - 1)


@pytest.mark.parametrize("run", ["x" * 10**6, " " * 10**6, "".join(map(chr, range(33, 50_000)))])
def test_training_on_a_long_run_takes_no_square_of_its_length(tmp_path: Path, run: str) -> None:
    train_tokenizer([*TEXT.split(END_OF_TEXT), run, "in time"], 300, tmp_path)  # a square: hours
    assert load_tokenizer(tmp_path).decode(load_tokenizer(tmp_path).encode(run)) == run
