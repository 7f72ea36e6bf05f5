"""What the tests of the corpus share: a text, a vocabulary of its own, and the corpus of both."""

from hashlib import sha256
from pathlib import Path

import pytest

from ncn.corpus.encode import write_corpus
from ncn.corpus.split import choose_parts
from ncn.corpus.text import read_stories
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.settings import END_OF_TEXT, Split

TEXT = "".join(
    f"Story {n}: it’s day {sha256(bytes([n])).hexdigest()}.\n\n“Oh!” said Tom {n}.\n{END_OF_TEXT}\n"
    for n in range(200)
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(TEXT.split(END_OF_TEXT), 300, directory)
    return directory


def write(tmp_path: Path, vocabulary: Path, unit: str, text: str = TEXT) -> dict[str, object]:
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    split = Split(unit=unit, validation=0.05, tuning=0.0)  # type: ignore[arg-type]
    parts = choose_parts(sum(1 for _ in read_stories([file])), split, 42)
    tokenizer = load_tokenizer(vocabulary)
    return write_corpus([file], parts, tokenizer, split, 16, 42, tmp_path)
