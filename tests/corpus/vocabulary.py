"""What the tests of the corpus share: a text, a vocabulary of its own, and the corpus of both."""

from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ncn.corpus.choice import choose_stories
from ncn.corpus.encode import write_corpus
from ncn.corpus.meta import Meta
from ncn.corpus.ranges import count_stories
from ncn.corpus.tokenizer import train_tokenizer
from ncn.settings import END_OF_TEXT, Split, Text
from ncn.text.stories import RANGE_BYTES

AS_IT_IS = Text(
    line_ends=False, mojibake=False, quotes=False, blanks=False, repeats="keep", dialogue="any"
)
TEXT = "".join(
    f"Story {n}: it’s day {sha256(bytes([n])).hexdigest()}.\n\n“Oh!” said Tom {n}.\n{END_OF_TEXT}\n"
    for n in range(200)
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(TEXT.split(END_OF_TEXT), 300, directory)
    return directory


def write(tmp_path: Path, vocabulary: Path, unit: str, text: str = TEXT) -> Meta:
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    split = Split(unit=unit, validation=0.05, tuning=0.0)  # type: ignore[arg-type]
    return write_files([file], vocabulary, split, 16, 42, tmp_path)


def write_files(
    files: list[Path],
    vocabulary: Path,
    split: Split,
    context_length: int,
    seed: int,
    directory: Path,
    size: int = RANGE_BYTES,
    workers: int = 1,
    scratch: Path | None = None,
    text: Text = AS_IT_IS,
) -> Meta:
    """What the stage does with files and a vocabulary; ranges of `size` bytes."""
    with TemporaryDirectory() as temporary:
        scratch = scratch or Path(temporary)
        corpus = count_stories(files, text, scratch, workers, size)
        parts, found = choose_stories(corpus, split, seed, scratch, drawn=split.unit == "story")
        return write_corpus(
            corpus,
            parts,
            found,
            vocabulary,
            split,
            context_length,
            seed,
            directory,
            scratch,
            workers,
        )  # fmt: skip
