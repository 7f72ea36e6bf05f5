"""Rows of token ids on disk, as `ncn.corpus.encode` lays them out, read by mapping the file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncn.common.errors import InputError
from ncn.common.files import read_json

TOKEN = np.dtype("<u2")

Rows = NDArray[np.uint16]  # [N, context_length + 1]


def read_meta(directory: str | Path) -> dict[str, Any]:
    """What meta.json says of the tokens in `directory`."""
    meta: dict[str, Any] = read_json(Path(directory) / "meta.json")
    return meta


def open_rows(directory: str | Path, part: str) -> Rows:
    """The rows of a part (train, val or tune), [N, context_length + 1] uint16, mapped read-only.

    Raises:
        InputError: the file is missing, not as long as meta.json says, or holds an id outside
            the vocabulary.
    """
    meta = read_meta(directory)
    shape = (meta[part]["rows"], meta["context_length"] + 1)
    return _opened(Path(directory) / f"{part}.bin", shape, meta["vocab_size"], "token id")


def open_tasks(directory: str | Path, part: str) -> NDArray[np.uint16]:
    """The number of the text file that each row of a part begins in, [N] uint16.

    Raises:
        InputError: as `open_rows`.
    """
    meta = read_meta(directory)
    path = Path(directory) / f"{part}.tasks"
    return _opened(path, (meta[part]["rows"],), meta.get("tasks", 0), "task")


def _opened(path: Path, shape: tuple[int, ...], allowed: int, what: str) -> NDArray[np.uint16]:
    """A file of numbers below `allowed`, of that shape, mapped read-only."""
    expected = math.prod(shape) * TOKEN.itemsize
    if not path.exists():
        raise InputError(f"{path} does not exist: run `dvc repro tokenize`, or `dvc pull`")
    if (found := path.stat().st_size) != expected:
        raise InputError(
            f"{path}: {found} bytes, but meta.json says {' x '.join(map(str, shape))} numbers"
            f" ({expected} bytes): run `dvc checkout` or `dvc repro tokenize`"
        )
    numbers = np.memmap(path, TOKEN, "r", shape=shape)  # "r": a linked output is the cache
    if (largest := int(numbers.max())) >= allowed:
        raise InputError(f"{path}: {what} {largest} is not below the {allowed} of meta.json")
    return numbers
