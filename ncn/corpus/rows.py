"""Rows of token ids on disk, as `ncn.corpus.encode` lays them out, read by mapping the file.

meta.json has a digest of every BLOCK_ROWS rows. A block is compared with it before its first row is
handed out, so that a flipped bit is no text, and what nobody asks for is not read.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncn.common.errors import InputError
from ncn.corpus.meta import Meta, Part, read_meta

TOKEN = np.dtype("<u2")
BLOCK_ROWS = 1 << 14
DIGITS = 32  # of a block's sha256

Rows = NDArray[np.uint16]  # [N, context_length + 1]
Index = slice | Sequence[int] | NDArray[np.int64]  # of rows


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


class StoredRows:
    """Numbers on disk, one or several a row: read, and checked, where they are asked for.

    Args:
        path: the file, of the size that `shape` says.
        shape: (N,) or (N, context_length + 1).
        digests: of each block.
        allowed: every number has to be below.
        what: a number is, for people.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], digests: Sequence[str], allowed: int, what: str
    ) -> None:
        self.shape = shape
        self._path, self._digests, self._allowed, self._what = path, digests, allowed, what
        # To read only: a linked output is DVC's cache.
        self._numbers = np.memmap(path, TOKEN, "r", shape=shape)
        self._checked = np.zeros(math.ceil(shape[0] / BLOCK_ROWS), dtype=np.bool_)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Index) -> NDArray[np.uint16]:
        """Some rows: of a slice a view of the file, of row numbers a copy.

        Raises:
            InputError: a block that one lies in is not what meta.json says.
        """
        if not self._checked.all():
            for block in self._blocks(chosen):
                if not self._checked[block]:
                    self._check(block)
                    self._checked[block] = True
        rows: NDArray[np.uint16] = self._numbers[chosen]
        return rows

    def _blocks(self, chosen: Index) -> Iterable[int]:
        """Those that these rows lie in."""
        if isinstance(chosen, slice):
            rows = range(len(self))[chosen]
            if not rows:
                return ()
            first, last = sorted((rows[0], rows[-1]))
            return range(first // BLOCK_ROWS, last // BLOCK_ROWS + 1)
        places = np.asarray(chosen, dtype=np.int64) % len(self)  # -1 is the last
        blocks: list[int] = np.unique(places // BLOCK_ROWS).tolist()
        return blocks

    def _check(self, block: int) -> None:
        first = block * BLOCK_ROWS
        rows = self._numbers[first : first + BLOCK_ROWS]
        if hashlib.sha256(rows.tobytes()).hexdigest()[:DIGITS] != self._digests[block]:
            raise InputError(
                f"{self._path}: rows {first} to {first + len(rows) - 1} are not what meta.json"
                " says, a bit may have flipped: rm that file, run `dvc checkout`, or"
                " `dvc repro -f tokenize`"
            )
        if (largest := int(rows.max())) >= self._allowed:
            raise InputError(
                f"{self._path}: {self._what} {largest} is not below the {self._allowed} of"
                " meta.json"
            )


TokenRows = Rows | StoredRows  # in memory, or on disk


def open_rows(directory: str | Path, part: str) -> StoredRows:
    """The rows of a part (train, val or tune), [N, context_length + 1], mapped read-only.

    Raises:
        InputError: the file is missing, or not as long as meta.json says.
    """
    meta = read_meta(directory)
    mine = _part(meta, directory, part)
    path, shape = Path(directory) / f"{part}.bin", (mine.rows, meta.context_length + 1)
    return _opened(path, shape, mine.digests["bin"], meta.vocab_size, "token id")


def open_tasks(directory: str | Path, part: str) -> StoredRows:
    """The number of the text file that each row of a part begins in, [N].

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
    path: Path, shape: tuple[int, ...], digests: Sequence[str], allowed: int, what: str
) -> StoredRows:
    """See that the file is as long as meta.json says."""
    expected = math.prod(shape) * TOKEN.itemsize
    if not path.exists():
        raise InputError(f"{path} does not exist: run `dvc repro tokenize`, or `dvc pull`")
    if (found := path.stat().st_size) != expected:
        raise InputError(
            f"{path}: {found} bytes, but meta.json says {' x '.join(map(str, shape))} numbers"
            f" ({expected} bytes): run `dvc checkout` or `dvc repro tokenize`"
        )
    if len(digests) != (blocks := math.ceil(shape[0] / BLOCK_ROWS)):
        raise InputError(
            f"{path}: meta.json has {len(digests)} digests of its {blocks} blocks: run"
            " `dvc checkout` or `dvc repro tokenize`"
        )
    return StoredRows(path, shape, digests, allowed, what)
