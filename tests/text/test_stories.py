"""Stories out of text files."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ncn.text.stories
from ncn.common.errors import InputError
from ncn.text.stories import BOM, PIECE_BYTES, ranges_of, read_stories, stories_in


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


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["word ", "a line\n", "paragraph\n\n", "€" * 900, "x" * 5000])))
def test_a_document_is_cut_into_pieces_that_make_it_up(parts: list[str]) -> None:
    text = "".join(parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "document.txt"
        path.write_text(text)
        pieces = list(read_stories([path]))
    assert "".join(pieces) == text
    sizes = [len(piece.encode()) for piece in pieces]
    assert max(sizes, default=0) <= PIECE_BYTES
    assert min(sizes[:-1], default=PIECE_BYTES) >= PIECE_BYTES // 2


def test_a_document_is_cut_where_it_pauses(tmp_path: Path) -> None:
    path = tmp_path / "document.txt"
    paragraph = "A line.\nAnother line.\n\n"
    path.write_text(paragraph * 500)
    assert {piece[-2:] for piece in read_stories([path])} == {"\n\n"}


def test_one_delimiter_makes_stories_of_a_file_however_long(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt"
    path.write_text("a" * 3 * PIECE_BYTES + "<|endoftext|>b")
    assert list(read_stories([path])) == ["a" * 3 * PIECE_BYTES, "b"]


@pytest.mark.parametrize("end", ["", "<|endoftext|>"])
def test_the_mark_of_an_editor_is_no_text(tmp_path: Path, end: str) -> None:
    path = tmp_path / "marked.txt"
    path.write_bytes(BOM + f"Once{end}".encode())
    assert list(read_stories([path])) == ["Once"]
    path.write_bytes(BOM + b"x\xff")
    with pytest.raises(InputError, match="byte 4 is not UTF-8"):
        list(read_stories([path]))


PIECES = [
    "Once. ",
    "<|endoftext|>",
    "<|endof",
    "text|>",
    "<|endoftext|>\n",
    " \n",
    "é" * 50,
    "x" * 300,
]


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=30), min_size=1, max_size=4),
    st.integers(1, 900),
    st.integers(1, 40),
)
def test_ranges_hold_every_story_once_in_order(
    contents: list[list[str]], size: int, block: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.text.stories, "READ_BYTES", block)
        patch.setattr(ncn.text.stories, "PIECE_BYTES", 64)
        files = [Path(folder) / f"{number}.txt" for number in range(len(contents))]
        for file, pieces in zip(files, contents, strict=True):
            file.write_text("".join(pieces))
        ranges = list(ranges_of(files, size))
        stories = list(read_stories(files))
        assert [story for each in ranges for story in stories_in(each, files)] == stories
        texts = [file.read_text() for file in files]
        delimited = [text.split("<|endoftext|>") for text in texts if "<|endoftext|>" in text]
        if len(delimited) == len(files):
            assert stories == [s for each in delimited for s in each if s and not s.isspace()]
        sizes = [sum(segment.end - segment.start for segment in each) for each in ranges]
        assert all(each >= size for each in sizes[:-1])
        assert sum(sizes) == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("block", [100, 1500, 9999])
def test_a_story_that_is_too_long_names_file_and_byte_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(ncn.text.stories, "MAX_STORY_BYTES", 1000)
    monkeypatch.setattr(ncn.text.stories, "READ_BYTES", block)
    path = tmp_path / "long.txt"
    path.write_text("One.<|endoftext|>" + "and then " * 112 + "<|endoftext|>")
    with pytest.raises(
        InputError, match=r"long\.txt: more than 1,000 bytes .* from byte 17 on: end"
    ):
        list(read_stories([path]))
