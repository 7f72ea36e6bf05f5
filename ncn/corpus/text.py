"""Text files as stories: the text before each `<|endoftext|>`, verbatim."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ncn.common.errors import InputError
from ncn.settings import END_OF_TEXT

READ_BYTES = 1 << 24


def text_files(raw: str | Path) -> list[Path]:
    """The text files that the download stage fetched, in corpus order."""
    files = sorted((Path(raw) / "text").iterdir()) if (Path(raw) / "text").is_dir() else []
    if not files:
        raise InputError(f"{raw}/text holds no text: run `dvc repro download`")
    return files


def read_stories(files: Sequence[Path]) -> Iterator[str]:
    """The text before each `<|endoftext|>`, verbatim; pieces of white space only are no stories.

    The end of a file ends its last story.

    Raises:
        InputError: a story is not UTF-8; names the file and the byte.
    """
    return chain.from_iterable(stories_of(path) for path in files)


def stories_of(path: Path) -> Iterator[str]:
    """The stories of one file, see `read_stories`."""
    delimiter = END_OF_TEXT.encode()
    start = 0  # of the piece at hand, in bytes from the beginning of the file
    rest = b""
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            *pieces, rest = (rest + block).split(delimiter)
            for piece in pieces:
                yield from _decoded(piece, path, start)
                start += len(piece) + len(delimiter)
    yield from _decoded(rest, path, start)


def _decoded(piece: bytes, path: Path, start: int) -> Iterator[str]:
    try:
        story = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {start + error.start} is not UTF-8 ({error.reason}); only UTF-8 text"
        ) from None
    if not story.isspace() and story:
        yield story
