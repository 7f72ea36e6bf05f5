"""Rows of token ids on disk, as `ncn.corpus.encode` lays them out, read by mapping the file.

meta.json has a digest of every BLOCK_ROWS rows. A part is compared with it when it is opened, so
that a flipped bit is no text, and what is not opened need not be read.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncn.common.errors import InputError
from ncn.common.progress import byte_bar
from ncn.corpus.meta import Meta, Part, read_meta

TOKEN = np.dtype("<u2")
BLOCK_ROWS = 1 << 14
DIGITS = 32  # of a block's sha256

Rows = NDArray[np.uint16]  # [N, context_length + 1]


class BlockDigests:
    """Of what is written, of each BLOCK_ROWS rows.

    Args:
        row_bytes: of a row.
    """

    def __init__(self, row_bytes: int) -> None:
        self._size = BLOCK_ROWS * row_bytes
        self._held = 0  # bytes of the block that is not whole
        self._block = hashlib.sha256()
        self._whole: list[str] = []

    def update(self, content: bytes) -> None:
        """Take what comes next."""
        view = memoryview(content)
        while len(view):
            part = view[: self._size - self._held]
            self._block.update(part)
            self._held += len(part)
            view = view[len(part) :]
            if self._held == self._size:
                self._whole.append(self._block.hexdigest()[:DIGITS])
                self._held, self._block = 0, hashlib.sha256()

    def digests(self) -> list[str]:
        """Of all blocks; the last one may be shorter."""
        rest = [self._block.hexdigest()[:DIGITS]] if self._held else []
        return [*self._whole, *rest]


def open_rows(directory: str | Path, part: str) -> Rows:
    """The rows of a part (train, val or tune), [N, context_length + 1] uint16, mapped read-only.

    Raises:
        InputError: the file is missing, or not what meta.json says.
    """
    meta = read_meta(directory)
    mine = _part(meta, directory, part)
    path, shape = Path(directory) / f"{part}.bin", (mine.rows, meta.context_length + 1)
    return _opened(path, shape, mine.digests["bin"], meta.vocab_size, "token id")


def open_tasks(directory: str | Path, part: str) -> NDArray[np.uint16]:
    """The number of the text file that each row of a part begins in, [N] uint16.

    Raises:
        InputError: as `open_rows`.
    """
    meta = read_meta(directory)
    mine = _part(meta, directory, part)
    path = Path(directory) / f"{part}.tasks"
    return _opened(path, (mine.rows,), mine.digests["tasks"], meta.tasks, "task")


def _part(meta: Meta, directory: str | Path, part: str) -> Part:
    found = meta.parts.get(part)
    if found is None:
        raise InputError(f"{directory}: no part {part}: run `dvc repro tokenize`")
    return found


def _opened(
    path: Path, shape: tuple[int, ...], known: list[str], allowed: int, what: str
) -> NDArray[np.uint16]:
    """A file of numbers below `allowed`, of that shape and those digests, mapped read-only."""
    expected = math.prod(shape) * TOKEN.itemsize
    if not path.exists():
        raise InputError(f"{path} does not exist: run `dvc repro tokenize`, or `dvc pull`")
    if (found := path.stat().st_size) != expected:
        raise InputError(
            f"{path}: {found} bytes, but meta.json says {' x '.join(map(str, shape))} numbers"
            f" ({expected} bytes): run `dvc checkout` or `dvc repro tokenize`"
        )
    numbers = np.memmap(path, TOKEN, "r", shape=shape)  # "r": a linked output is the cache
    with byte_bar(expected, f"check {path.name}", delay=1) as bar:
        for block, first in enumerate(range(0, shape[0], BLOCK_ROWS)):
            rows = numbers[first : first + BLOCK_ROWS]
            content = rows.tobytes()
            if known[block : block + 1] != [hashlib.sha256(content).hexdigest()[:DIGITS]]:
                raise InputError(
                    f"{path}: rows {first} to {first + len(rows) - 1} are not what meta.json says,"
                    " a bit may have flipped: rm that file, run `dvc checkout`, or"
                    " `dvc repro -f tokenize`"
                )
            if (largest := int(rows.max())) >= allowed:
                raise InputError(
                    f"{path}: {what} {largest} is not below the {allowed} of meta.json"
                )
            bar.update(len(content))
    return numbers
