"""Tokens on disk: lossless, split without overlap, refused when damaged."""

import os
import re
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ncn.corpus.encode
import ncn.corpus.rows
from ncn.common.errors import InputError
from ncn.corpus import ranges
from ncn.corpus.meta import read_meta
from ncn.corpus.rows import open_rows, open_tasks
from ncn.corpus.split import PARTS, Draw
from ncn.corpus.tokenizer import load_tokenizer
from ncn.settings import END_OF_TEXT, Split
from ncn.text.stories import read_stories
from tests.corpus.vocabulary import TEXT, write, write_files


@pytest.mark.parametrize("unit", ["sequence", "tail"])
def test_rows_are_the_text_and_train_and_validation_share_none(
    tmp_path: Path, vocabulary: Path, unit: str
) -> None:
    meta = write(tmp_path, vocabulary, unit)
    train, validation = open_rows(tmp_path, "train")[:], open_rows(tmp_path, "val")[:]
    tokenizer = load_tokenizer(vocabulary)
    stream = [i for s in read_stories([tmp_path / "text.txt"])
              for i in [*tokenizer.encode(s), tokenizer.end_of_text]]  # fmt: skip
    assert meta.tokens == len(stream)
    every = {tuple(stream[i : i + 17]) for i in range(0, len(stream) - 16, 16)}
    mine = [tuple(row) for part in (train, validation) for row in part.tolist()]
    assert len(mine) == (len(stream) - 1) // 16
    assert set(mine) == every
    assert not set(map(tuple, train.tolist())) & set(map(tuple, validation.tolist()))


def test_a_story_split_keeps_whole_stories_on_one_side(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    tokenizer = load_tokenizer(vocabulary)

    def stories(part: str) -> set[str]:
        rows = open_rows(tmp_path, part)[:]
        text = tokenizer.decode(rows[:, :-1].ravel().tolist())
        return {line for line in text.split("\n") if line.startswith("Story")}

    train, validation = stories("train"), stories("val")
    assert len(validation) in (9, 10)  # the last one may be cut by the last whole row
    assert len(train | validation) >= 198
    assert not train & validation


def test_bytes_per_token_counts_the_bytes_of_the_targets(tmp_path: Path, vocabulary: Path) -> None:
    meta = write(tmp_path, vocabulary, "tail")
    rows = open_rows(tmp_path, "val")[:]
    text = load_tokenizer(vocabulary).decode(rows[:, 1:].ravel().tolist())
    assert meta.val.bytes_per_token == len(text.encode()) / rows[:, 1:].size


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
    parts = Draw(211, split, 42).between(0, 211)
    tokenizer = load_tokenizer(vocabulary)
    meta = write_files(files, vocabulary, split, 16, 42, tmp_path)
    assert meta.tasks == 4
    # Which file a token of the corpus is of, counted anew: by the text before it.
    streams: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
    of_story = iter(parts)
    for number, text in enumerate(texts):
        for story in text.split(END_OF_TEXT)[:-1]:
            part = PARTS[next(of_story) if unit == "story" else 0]
            ids = [*tokenizer.encode(story), tokenizer.end_of_text]
            streams[part] += [(token, number) for token in ids]
    for part in PARTS:
        rows, tasks = open_rows(tmp_path, part)[:], open_tasks(tmp_path, part)[:]
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
    twice = write_files(files, vocabulary, split, 16, 42, tmp_path)
    assert twice.tokens == once.tokens
    assert twice.digest != once.digest


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_digests(folder: Path) -> None:
    """Those of meta.json are those of the files."""
    meta, found = read_meta(folder), contents(folder)
    digests = [sha256(found[f"{p}.{k}"]).hexdigest() for k in ("bin", "tasks") for p in meta.parts]
    assert meta.digest == sha256("".join(digests).encode()).hexdigest()
    for part in meta.parts:  # each block's
        assert len(open_rows(folder, part)) == len(open_tasks(folder, part))


@settings(max_examples=5)
@given(
    unit=st.sampled_from(["story", "sequence", "tail"]),
    sizes=st.tuples(st.integers(700, 9000), st.integers(700, 9000)),
    lost=st.sets(st.integers(0, 60), max_size=30),
    blocks=st.sampled_from([7, 100]),
)
def test_ranges_of_any_size_and_work_lost_anywhere_give_the_same_bytes(
    vocabulary: Path, unit: str, sizes: tuple[int, int], lost: set[int], blocks: int
) -> None:
    split = Split(unit=unit, validation=0.1, tuning=0.1)  # type: ignore[arg-type]
    with TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.rows, "BLOCK_ROWS", blocks)
        folder = Path(temporary)
        files = [folder / "a.txt", folder / "b.txt", folder / "document.txt"]
        for file, text in zip(files, (TEXT[:9000], TEXT[9000:12000], "word " * 3000), strict=True):
            file.write_text(text, encoding="utf-8")
        whole, first, second = (folder / name for name in ("whole", "first", "second"))
        for out in (whole, first, second):
            out.mkdir()
        write_files(files, vocabulary, split, 16, 42, whole)
        write_files(files, vocabulary, split, 16, 42, first, sizes[0])
        scratch = folder / "scratch"
        scratch.mkdir()
        write_files(files, vocabulary, split, 16, 42, second, sizes[1], scratch=scratch)
        for number in lost:  # as if killed before these were whole
            for kind in ("json", "train") if number % 2 else ("found", "keys"):
                (scratch / f"{number:06}.{kind}").unlink(missing_ok=True)
        write_files(files, vocabulary, split, 16, 42, second, sizes[1], scratch=scratch)
        assert contents(whole) == contents(first) == contents(second)
        assert_digests(whole)


class Killed(BaseException):
    """What ends the process of a test."""


@settings(max_examples=8)
@given(
    unit=st.sampled_from(["story", "sequence", "tail"]),
    size=st.integers(900, 9000),
    block=st.sampled_from([7, 100]),
    workers=st.sampled_from([1, 1, 2]),
    cuts=st.lists(st.integers(0, 90), min_size=1, max_size=3),
)
def test_killed_before_any_of_its_files_is_whole_the_work_goes_on_to_the_same_bytes(
    vocabulary: Path, unit: str, size: int, block: int, workers: int, cuts: list[int]
) -> None:
    split = Split(unit=unit, validation=0.1, tuning=0.1)  # type: ignore[arg-type]
    with TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.rows, "BLOCK_ROWS", block)
        patch.setattr(ncn.corpus.encode, "READ_BYTES", 1000)
        folder, left = Path(temporary), 0

        def killed(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        file, whole, scratch = folder / "a.txt", folder / "whole", folder / "scratch"
        file.write_text(TEXT, encoding="utf-8")
        for place in (whole, scratch):
            place.mkdir()
        write_files([file], vocabulary, split, 16, 42, whole)
        for number, cut in enumerate(cuts):
            left = cut
            (out := folder / f"{number}").mkdir()
            with patch.context() as once, suppress(Killed):
                once.setattr(os, "fsync", killed)  # each file is synced before it takes its place
                write_files([file], vocabulary, split, 16, 42, out, size + number, workers, scratch)
        (out := folder / "out").mkdir()
        notes = {path: path.stat().st_mtime_ns for path in scratch.rglob("*.json")}
        write_files([file], vocabulary, split, 16, 42, out, size, workers, scratch)
        assert contents(out) == contents(whole)
        assert notes.items() <= {path: path.stat().st_mtime_ns for path in notes}.items()


@pytest.mark.parametrize("unit", ["story", "sequence"])
def test_two_processes_write_the_same_bytes(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    split = Split(unit=unit, validation=0.1, tuning=0.0)  # type: ignore[arg-type]
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir(), together.mkdir()
    write_files([file], vocabulary, split, 16, 42, alone)
    monkeypatch.setattr(ncn.corpus.encode, "READ_BYTES", 1000)  # else it is little for two
    write_files([file], vocabulary, split, 16, 42, together, size=3000, workers=2)
    assert contents(alone) == contents(together)
    assert_digests(together)


@pytest.mark.parametrize(
    ("lost", "kinds"), [("json", {"json", *PARTS}), ("found", {"found", "keys"})]
)
def test_what_is_whole_is_not_done_again(
    tmp_path: Path, vocabulary: Path, lost: str, kinds: set[str]
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    split = Split(unit="story", validation=0.1, tuning=0.0)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_files([file], vocabulary, split, 16, 42, tmp_path, 3000, scratch=scratch)
    before = {path: path.stat().st_mtime_ns for path in scratch.iterdir()}
    (scratch / f"000002.{lost}").unlink()
    write_files([file], vocabulary, split, 16, 42, tmp_path, 3000, scratch=scratch)
    anew = {path.name for path in scratch.iterdir() if path.stat().st_mtime_ns != before[path]}
    assert anew == {f"000002.{kind}" for kind in kinds}


@pytest.mark.parametrize("run", ["x" * 200_000, "a" + " " * 200_000 + "b", "\n" * 200_000 + "."])
def test_a_run_that_no_encoder_takes_is_refused_by_name(
    tmp_path: Path, vocabulary: Path, run: str
) -> None:
    words = r"text\.txt: the story .* has a run of 200,00\d characters"
    with pytest.raises(InputError, match=words) as no:
        write(tmp_path, vocabulary, "story", f"{TEXT}Once upon{run}{END_OF_TEXT}")
    assert "\n" not in str(no.value)


def test_no_room_is_said_after_the_first_range(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(InputError, match=r"need about .* GB of disk, 0\.0 GB are free: the same"):
        write(tmp_path, vocabulary, "story")


def test_what_a_large_text_takes_is_said(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(ranges, "SPOKEN_OF", 0)
    write(tmp_path, vocabulary, "story")
    assert re.search(
        r"need about .* GB of disk, .* GB are free; encoding takes about 0:0",
        capsys.readouterr().err,
    )
