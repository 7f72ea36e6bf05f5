"""Rows cut from the ids in scratch and put where they belong in their file, a block at a time.

What a block is made of and where it goes is known before, so that any process can write any block.
When it is in its place a note says so, and what has a note is not written again.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ncn.common.files import write_json
from ncn.corpus.ranges import ids_file
from ncn.corpus.rows import TOKEN, BlockDigests, Rows
from ncn.corpus.tokenizer import load_tokenizer

AT_ONCE = 1 << 19  # tokens of a stream that are looked at together

Numbers = NDArray[np.int64]


class Stream(NamedTuple):
    """The ids of a part, one range of text after another, as rows.

    Attributes:
        scratch: where they lie.
        part: whose they are.
        begins: how many stand before each range, and in all, [ranges + 1].
        context_length: targets a row.
    """

    scratch: Path
    part: str
    begins: Numbers
    context_length: int

    @property
    def n_rows(self) -> int:
        """How many rows they make; what is left at the end makes none."""
        return max(0, (int(self.begins[-1]) - 1) // self.context_length)

    def tokens(self, first: int, end: int) -> NDArray[np.uint16]:
        """The ids [first, end)."""
        pieces = [np.empty(0, TOKEN)]
        number = int(np.searchsorted(self.begins, first, side="right")) - 1
        while first < end:
            last = min(end, int(self.begins[number + 1]))
            skipped = (first - int(self.begins[number])) * TOKEN.itemsize
            file = ids_file(self.scratch, number, self.part)
            pieces.append(np.fromfile(file, TOKEN, count=last - first, offset=skipped))
            first, number = last, number + 1
        return np.concatenate(pieces)

    def rows(self, first: int, end: int) -> Iterator[tuple[int, Rows]]:
        """The rows [first, end), some at a time, and the number of the first of these."""
        length = self.context_length
        for begin in range(first, end, step := max(1, AT_ONCE // length)):
            stop = min(end, begin + step)
            ids = self.tokens(begin * length, stop * length + 1)
            yield begin, sliding_window_view(ids, length + 1)[::length]


class Block(NamedTuple):
    """Some rows that follow each other in the file of a part.

    Attributes:
        part: whose they are.
        number: of the block.
        first: how many of the part's rows stand before it.
        places: the numbers of the rows in the stream that they come from, ascending.
    """

    part: str
    number: int
    first: int
    places: Numbers


def write_block(folder: Path, block: Block, stream: Stream, vocabulary: Path) -> Block:
    """Put rows of a stream where they belong in the file of a part, and leave a note.

    Args:
        folder: where that file is, as long as it will be.
        block: which rows, and where.
        stream: where they come from.
        vocabulary: its folder.
    """
    row_bytes = (stream.context_length + 1) * TOKEN.itemsize
    lengths, digests, n_bytes = _token_lengths(vocabulary), BlockDigests(row_bytes), 0
    first, end = int(block.places[0]), int(block.places[-1]) + 1
    with open(folder / f"{block.part}.bin", "r+b") as file:
        file.seek(block.first * row_bytes)
        for number, rows in stream.rows(first, end):
            start, stop = np.searchsorted(block.places, [number, number + len(rows)])
            content = rows[block.places[start:stop] - number].tobytes()
            digests.update(content)
            file.write(content)
            mine = np.frombuffer(content, TOKEN).reshape(-1, stream.context_length + 1)
            n_bytes += int(lengths[mine[:, 1:]].sum(dtype=np.int64))
        file.flush()
        os.fsync(file.fileno())  # before the note that it is there
    write_json(note_of(folder, block), [*digests.digests(), n_bytes])
    return block


def note_of(folder: Path, block: Block) -> Path:
    """Where it is noted that a block is in its place: its digest, and the bytes of its targets."""
    return folder / f"{block.part}-{block.number:06}.json"


@cache
def _token_lengths(vocabulary: Path) -> NDArray[np.int32]:
    """How many bytes of text each token is."""
    pieces = load_tokenizer(vocabulary).token_bytes()
    return np.array([len(piece) for piece in pieces], dtype=np.int32)
