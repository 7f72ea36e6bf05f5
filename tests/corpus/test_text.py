"""Stories out of text files."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncn.common.errors import InputError
from ncn.corpus.text import BOM, PIECE_BYTES, read_stories


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


@settings(deadline=None, max_examples=30)
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
