"""Tokens on disk: lossless, split without overlap, refused when damaged."""

from hashlib import sha256
from pathlib import Path

import pytest

from ncn.common.errors import InputError
from ncn.corpus.encode import write_corpus
from ncn.corpus.rows import open_rows, open_tasks
from ncn.corpus.split import PARTS, choose_parts
from ncn.corpus.text import read_stories
from ncn.corpus.tokenizer import load_tokenizer
from ncn.settings import END_OF_TEXT, Split
from tests.corpus.vocabulary import TEXT, write


@pytest.mark.parametrize("unit", ["sequence", "tail"])
def test_rows_are_the_text_and_train_and_validation_share_none(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    meta = write(tmp_path, vocabulary, unit)
    train, validation = open_rows(tmp_path, "train"), open_rows(tmp_path, "val")
    tokenizer = load_tokenizer(vocabulary)
    stream = [i for s in read_stories([tmp_path / "text.txt"])
              for i in [*tokenizer.encode(s), tokenizer.end_of_text]]  # fmt: skip
    assert meta["tokens"] == len(stream)
    every = {tuple(stream[i : i + 17]) for i in range(0, len(stream) - 16, 16)}
    mine = [tuple(row) for part in (train, validation) for row in part.tolist()]
    assert len(mine) == (len(stream) - 1) // 16
    assert set(mine) == every
    assert not set(map(tuple, train.tolist())) & set(map(tuple, validation.tolist()))


def test_a_story_split_keeps_whole_stories_on_one_side(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    tokenizer = load_tokenizer(vocabulary)

    def stories(part: str) -> set[str]:
        rows = open_rows(tmp_path, part)
        text = tokenizer.decode(rows[:, :-1].ravel().tolist())
        return {line for line in text.split("\n") if line.startswith("Story")}

    train, validation = stories("train"), stories("val")
    assert len(validation) in (9, 10)  # the last one may be cut by the last whole row
    assert len(train | validation) >= 198
    assert not train & validation


def test_bytes_per_token_counts_the_bytes_of_the_targets(tmp_path: Path, vocabulary: Path) -> None:
    meta = write(tmp_path, vocabulary, "tail")
    rows = open_rows(tmp_path, "val")
    text = load_tokenizer(vocabulary).decode(rows[:, 1:].ravel().tolist())
    validation = meta["val"]
    assert isinstance(validation, dict)
    assert validation["bytes_per_token"] == len(text.encode()) / rows[:, 1:].size


@pytest.mark.parametrize("unit", ["story", "sequence", "tail"])
def test_too_little_text_says_which_part_is_short(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    with pytest.raises(InputError, match=r"part: \d+ tokens of 1 stories make no row"):
        write(tmp_path, vocabulary, unit, "Too short.")


@pytest.mark.parametrize("unit", ["story", "sequence", "tail"])
def test_a_rows_task_is_the_file_that_it_begins_in(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    texts = [
        "".join(f"{name} {n} {sha256(bytes([n])).hexdigest()}.{END_OF_TEXT}" for n in range(count))
        for name, count in (("One", 90), ("Two", 0), ("Three", 1), ("Four", 120))
    ]
    files = [tmp_path / f"{number}.txt" for number in range(4)]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    split = Split(unit=unit, validation=0.3, tuning=0.2)  # type: ignore[arg-type]
    parts = choose_parts(211, split, 42)
    tokenizer = load_tokenizer(vocabulary)
    meta = write_corpus(files, parts, tokenizer, split, 16, 42, tmp_path)
    assert meta["tasks"] == 4
    # Which file a token of the corpus is of, counted anew: by the text before it.
    streams: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    of_story = iter(parts)
    for number, text in enumerate(texts):
        for story in text.split(END_OF_TEXT)[:-1]:
            part = PARTS[next(of_story) if unit == "story" else 0]
            ids = [*tokenizer.encode(story), tokenizer.end_of_text]
            streams[part] += [(token, number) for token in ids]
    for part in PARTS:
        rows, tasks = open_rows(tmp_path, part), open_tasks(tmp_path, part)
        assert len(rows) == len(tasks)
        stream = streams[part if unit == "story" else "train"]
        beginnings = {
            (tuple(token for token, _ in stream[i : i + 17]), stream[i][1])
            for i in range(0, len(stream) - 16, 16)
        }
        assert {(tuple(r), t) for r, t in zip(rows.tolist(), tasks, strict=True)} <= beginnings
        assert len(set(tasks.tolist())) > 1 or unit == "tail"


def test_the_digest_of_the_tokens_covers_their_tasks(tmp_path: Path, vocabulary: Path) -> None:
    once = write(tmp_path, vocabulary, "story")
    halves = TEXT.partition("\nStory 100:")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text(halves[0], encoding="utf-8")
    files[1].write_text(halves[1] + halves[2], encoding="utf-8")
    split = Split(unit="story", validation=0.05, tuning=0.0)
    parts = choose_parts(200, split, 42)
    twice = write_corpus(files, parts, load_tokenizer(vocabulary), split, 16, 42, tmp_path)
    assert twice["tokens"] == once["tokens"]
    assert twice["digest"] != once["digest"]
