"""Text files as stories: the text before each `<|endoftext|>`, verbatim.

A file without any is a document. One longer than PIECE_BYTES is cut into pieces, each a story, so
that a few long documents have some to validate on: behind the last blank line of so many bytes,
else the last line's end, else the last blank, but not in their first half.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ncn.common.errors import InputError
from ncn.settings import END_OF_TEXT

READ_BYTES = 1 << 24
DELIMITER = END_OF_TEXT.encode()
PIECE_BYTES = 4096
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()  # what some editors begin a file with: no text


def text_files(raw: str | Path) -> list[Path]:
    """The text files that the download stage fetched, in corpus order."""
    files = sorted((Path(raw) / "text").iterdir()) if (Path(raw) / "text").is_dir() else []
    if not files:
        raise InputError(f"{raw}/text holds no text: run `dvc repro download`")
    return files


def read_stories(files: Sequence[Path]) -> Iterator[str]:
    """The text before each `<|endoftext|>`, verbatim; pieces of white space only are no stories.

    The end of a file ends its last story. Of a document, its pieces.

    Raises:
        InputError: a story is not UTF-8; names the file and the byte.
    """
    return chain.from_iterable(stories_of(path) for path in files)


def stories_of(path: Path) -> Iterator[str]:
    """The stories of one file, see `read_stories`."""
    with open(path, "rb") as file:
        begin = len(BOM) if file.read(len(BOM)) == BOM else 0
    cut = _stories if _has_delimiter(path) else _pieces
    for piece, start in cut(path, begin):
        yield from _decoded(piece, path, start)


def _has_delimiter(path: Path) -> bool:
    last = b""
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            if DELIMITER in last + block:
                return True
            last = block[-len(DELIMITER) :]
    return False


def _stories(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """What stands before each delimiter, and where it begins, in bytes from the file's start."""
    rest = b""
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(READ_BYTES):
            *pieces, rest = (rest + block).split(DELIMITER)
            for piece in pieces:
                yield piece, start
                start += len(piece) + len(DELIMITER)
    yield rest, start


def _pieces(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """The pieces of a document, and where each begins."""
    with open(path, "rb") as file:
        file.seek(start)
        rest = file.read(PIECE_BYTES + 1)
        while len(rest) > PIECE_BYTES:
            end = _end_of_piece(rest)
            yield rest[:end], start
            start, rest = start + end, rest[end:]
            rest += file.read(PIECE_BYTES + 1 - len(rest))
    yield rest, start


def _end_of_piece(text: bytes) -> int:
    for separator in (b"\n\n", b"\n", b" "):
        if (place := text.rfind(separator, PIECE_BYTES // 2, PIECE_BYTES)) >= 0:
            return place + len(separator)
    end = PIECE_BYTES
    while end > PIECE_BYTES // 2 and text[end] & 0xC0 == 0x80:  # inside a character
        end -= 1
    return end


def _decoded(piece: bytes, path: Path, start: int) -> Iterator[str]:
    try:
        story = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {start + error.start} is not UTF-8 ({error.reason}); only UTF-8 text"
        ) from None
    if not story.isspace() and story:
        yield story
