"""Text files as stories: the text before each `<|endoftext|>`, verbatim.

A file without any is a document. One longer than PIECE_BYTES is cut into pieces, each a story, so
that a few long documents have some to validate on: behind the last blank line of so many bytes,
else the last line's end, else the last blank, but not in their first half.

A corpus is read range by range: about so many bytes that begin and end with a story, of one file or
of several. Nothing longer is held, however long the corpus is.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ncn.common.errors import InputError
from ncn.settings import END_OF_TEXT

READ_BYTES = 1 << 20
MAX_STORY_BYTES = 1 << 24
RANGE_BYTES = 1 << 24
DELIMITER = END_OF_TEXT.encode()
PIECE_BYTES = 4096
Files = Sequence[Path] | Mapping[int, Path]  # by their number in the corpus
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


def is_story(text: str) -> bool:
    """Whether there is more than white space in it."""
    return bool(text) and not text.isspace()


def begins_with_mark(path: Path) -> bool:
    """Whether an editor has put a byte order mark before the text."""
    with open(path, "rb") as file:
        return file.read(len(BOM)) == BOM


def stories_of(path: Path) -> Iterator[str]:
    """The stories of one file, see `read_stories`."""
    return stories_in([_whole(0, path)], [path])


class Segment(NamedTuple):
    """A part of a file that begins and ends with a story: bytes [start, end)."""

    file: int  # its number in the corpus
    start: int
    end: int
    delimited: bool  # else it is of a document


def ranges_of(files: Sequence[Path], size: int = RANGE_BYTES) -> Iterator[list[Segment]]:
    """The corpus in ranges of at least `size` bytes each but for the last one."""
    gathered: list[Segment] = []
    room = size
    for number, path in enumerate(files):
        whole = _whole(number, path)
        start = whole.start
        while start < whole.end:
            end = _next_end(path, whole, start, room)
            gathered.append(whole._replace(start=start, end=end))
            room -= end - start
            start = end
            if room <= 0:
                yield gathered
                gathered, room = [], size
    if gathered:
        yield gathered


def stories_in(segments: Sequence[Segment], files: Files) -> Iterator[str]:
    """The stories of a range, see `read_stories`."""
    return filter(is_story, texts_in(segments, files))


def texts_in(segments: Sequence[Segment], files: Files) -> Iterator[str]:
    """What stands before each delimiter, or piece of a document, of white space only or not."""
    for segment in segments:
        path = files[segment.file]
        cut = _stories if segment.delimited else _pieces
        for piece, start in cut(path, segment.start, segment.end):
            yield _decoded(piece, path, start)


def _whole(number: int, path: Path) -> Segment:
    """All of a file but an editor's mark."""
    start = len(BOM) if begins_with_mark(path) else 0
    first = _find_delimiter(path, start)
    return Segment(number, start, path.stat().st_size, delimited=first is not None)


def _find_delimiter(path: Path, start: int) -> int | None:
    """Where the first delimiter at or after `start` ends; None where there is none."""
    last = b""
    with open(path, "rb") as file:
        file.seek(start)
        while block := file.read(READ_BYTES):
            place = (last + block).find(DELIMITER)
            if place >= 0:
                return start - len(last) + place + len(DELIMITER)
            start += len(block)
            last = (last + block)[1 - len(DELIMITER) :]
    return None


def _next_end(path: Path, whole: Segment, start: int, size: int) -> int:
    """Where the first story ends that reaches `size` bytes behind `start`, or the file."""
    if not whole.delimited:
        pieces = (place + len(piece) for piece, place in _pieces(path, start, whole.end))
        return next((end for end in pieces if end >= start + size), whole.end)
    # A delimiter that `size` would cut in two counts: it ends no earlier than there.
    behind = max(start, start + size - len(DELIMITER))
    return (_find_delimiter(path, behind) or whole.end) if behind < whole.end else whole.end


def _stories(path: Path, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """What stands before each delimiter, and where it begins, in bytes from the file's start.

    Raises:
        InputError: one is too long to be a story; names the file and where it begins.
    """
    rest = b""
    with open(path, "rb") as file:
        file.seek(start)
        left = end - start
        while block := file.read(min(READ_BYTES, left)):
            left -= len(block)
            *pieces, rest = (rest + block).split(DELIMITER)
            for piece in pieces:
                _check_length(piece, path, start)
                yield piece, start
                start += len(piece) + len(DELIMITER)
            _check_length(rest, path, start)
    if rest.strip():  # else nothing that a delimiter would end
        yield rest, start


def _check_length(story: bytes, path: Path, start: int) -> None:
    if len(story) > MAX_STORY_BYTES:
        raise InputError(
            f"{path}: more than {MAX_STORY_BYTES:,} bytes without {END_OF_TEXT} from byte"
            f" {start} on: end each story with it; a file without any is cut into pieces"
        )


def _pieces(path: Path, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """The pieces of a document that begin before `end`, and where each begins."""
    with open(path, "rb") as file:
        file.seek(start)
        rest = file.read(PIECE_BYTES + 1)
        while len(rest) > PIECE_BYTES and start < end:
            length = _end_of_piece(rest)
            yield rest[:length], start
            start, rest = start + length, rest[length:]
            rest += file.read(PIECE_BYTES + 1 - len(rest))
    if start < end:
        yield rest, start


def _end_of_piece(text: bytes) -> int:
    for separator in (b"\n\n", b"\n", b" "):
        if (place := text.rfind(separator, PIECE_BYTES // 2, PIECE_BYTES)) >= 0:
            return place + len(separator)
    end = PIECE_BYTES
    while end > PIECE_BYTES // 2 and text[end] & 0xC0 == 0x80:  # inside a character
        end -= 1
    return end


def _decoded(piece: bytes, path: Path, start: int) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {start + error.start} is not UTF-8 ({error.reason}); only UTF-8 text"
        ) from None
