"""Tokens on disk: lossless, split without overlap, refused when damaged."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from ncn.common.errors import InputError
from ncn.corpus.encode import write_corpus
from ncn.corpus.rows import open_rows, open_tasks
from ncn.corpus.split import choose_validation
from ncn.corpus.text import read_stories
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.settings import END_OF_TEXT, Split
from tests.conftest import shared

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
    split = Split(unit=unit, validation=0.05)  # type: ignore[arg-type]
    held_out = choose_validation(sum(1 for _ in read_stories([file])), split, 42)
    tokenizer = load_tokenizer(vocabulary)
    return write_corpus([file], held_out, tokenizer, split, 16, 42, tmp_path)


def test_the_published_split_has_the_published_sizes() -> None:
    mask = choose_validation(1_069_776, Split(unit="sequence", validation=0.05), 42)
    assert ((~mask).sum(), mask.sum()) == (1_016_288, 53_488)


def test_tail_takes_the_last_units() -> None:
    mask = choose_validation(40, Split(unit="tail", validation=0.05), 42)
    assert np.flatnonzero(mask).tolist() == [38, 39]


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


def test_decoding_gives_the_text_back(vocabulary: Path) -> None:
    tokenizer = load_tokenizer(vocabulary)
    for text in (TEXT.split(END_OF_TEXT)[3], "  \t\n\n naïve 你好 🐉\r\n", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_special_token_in_a_prompt_is_plain_text(vocabulary: Path) -> None:
    tokenizer = load_tokenizer(vocabulary)
    assert tokenizer.end_of_text not in tokenizer.encode(END_OF_TEXT)


def test_bytes_per_token_counts_the_bytes_of_the_targets(tmp_path: Path, vocabulary: Path) -> None:
    meta = write(tmp_path, vocabulary, "tail")
    rows = open_rows(tmp_path, "val")
    text = load_tokenizer(vocabulary).decode(rows[:, 1:].ravel().tolist())
    validation = meta["val"]
    assert isinstance(validation, dict)
    assert validation["bytes_per_token"] == len(text.encode()) / rows[:, 1:].size


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
    for ids, other in zip(mine.encode_all(stories, 2), theirs.encode_batch(stories), strict=True):
        assert ids == other.ids


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"fine\n\xff\xfe", "byte 5 is not UTF-8"),
        (b"one<|endoftext|>two \xc3", "byte 20 is not UTF-8"),
    ],
)
def test_text_that_is_not_utf8_names_file_and_byte(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        list(read_stories([path]))
    assert "bad.txt" in str(error.value)


@pytest.mark.parametrize("unit", ["story", "sequence", "tail"])
def test_too_little_text_says_which_part_is_short(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    with pytest.raises(InputError, match=r"part: \d+ tokens of 1 stories make no row"):
        write(tmp_path, vocabulary, unit, "Too short.")


def test_a_truncated_bin_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"val\.bin: \d+ bytes, but meta\.json says"):
        open_rows(tmp_path, "val")
    path.unlink()
    with pytest.raises(InputError, match=r"val\.bin does not exist"):
        open_rows(tmp_path, "val")


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.bin"
    path.write_bytes(b"\xff\xff" + path.read_bytes()[2:])
    with pytest.raises(InputError, match=r"token id 65535 is not below the 300 of meta\.json"):
        open_rows(tmp_path, "val")


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
    split = Split(unit=unit, validation=0.3)  # type: ignore[arg-type]
    held_out = choose_validation(211, split, 42)
    tokenizer = load_tokenizer(vocabulary)
    meta = write_corpus(files, held_out, tokenizer, split, 16, 42, tmp_path)
    assert meta["tasks"] == 4
    # Which file a token of the corpus is of, counted anew: by the text before it.
    streams: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    held = iter(held_out)
    for number, text in enumerate(texts):
        for story in text.split(END_OF_TEXT)[:-1]:
            part = bool(next(held)) and unit == "story"
            ids = [*tokenizer.encode(story), tokenizer.end_of_text]
            streams[part] += [(token, number) for token in ids]
    for part in ("train", "val"):
        rows, tasks = open_rows(tmp_path, part), open_tasks(tmp_path, part)
        assert len(rows) == len(tasks)
        stream = streams[part == "val" and unit == "story"]
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
    split = Split(unit="story", validation=0.05)
    held_out = choose_validation(200, split, 42)
    twice = write_corpus(files, held_out, load_tokenizer(vocabulary), split, 16, 42, tmp_path)
    assert twice["tokens"] == once["tokens"]
    assert twice["digest"] != once["digest"]


def test_damaged_tasks_are_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.tasks"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(InputError, match=r"val\.tasks: \d+ bytes, but meta\.json says \d+ numbers"):
        open_tasks(tmp_path, "val")
    path.write_bytes(b"\x01\x00" + whole[2:])
    with pytest.raises(InputError, match=r"val\.tasks: task 1 is not below the 1 of meta\.json"):
        open_tasks(tmp_path, "val")
    path.unlink()
    with pytest.raises(InputError, match=r"val\.tasks does not exist: run `dvc repro tokenize`"):
        open_tasks(tmp_path, "val")
