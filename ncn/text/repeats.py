"""Which stories stand in the corpus more than once: word for word, or nearly.

A story has a key of 8 bytes, the digest of its text without the white space around it; equal keys
are the same story (of 10^8 stories, two different ones share a key once in 3,000 corpora). For
near repeats it has BANDS more: the smallest hashes of its runs of RUN words, ROWS_A_BAND of them a
band (MinHash: A. Broder, "On the resemblance and containment of documents", 1997), so that two
stories that share the part J of their runs share a key with probability 1 - (1 - J^8)^4: 0.998 at
J = 0.97, 0.52 at 0.8, 0.02 at 0.5.

The keys lie on disk, and a bucket of them at a time is held.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KEY = np.dtype("<u8")
RUN = 5  # words
BANDS, ROWS_A_BAND = 4, 8
BUCKET = 1 << 20  # keys held at once, about 60 MB with their places
RUNS_AT_ONCE = 1 << 14  # of a story, 8 MB of hashes
_WORD = re.compile(r"\w+")
_DRAWN = np.random.default_rng(0).integers(1, 2**63, size=(3, BANDS * ROWS_A_BAND), dtype=np.uint64)
_FACTORS, _TERMS = _DRAWN[0] * np.uint64(2) + np.uint64(1), _DRAWN[1]
_PLACES = _DRAWN[2, :RUN] * np.uint64(2) + np.uint64(1)
_MIXED = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio


def key_of(story: str) -> int:
    """What a story has in common with its repeats."""
    return int.from_bytes(hashlib.blake2b(story.strip().encode(), digest_size=8).digest(), "little")


def near_keys(story: str) -> NDArray[np.uint64]:
    """What a story has in common with near repeats, one key a band, [BANDS]."""
    found = (zlib.crc32(word[0].encode()) for word in _WORD.finditer(story.lower()))
    words = np.fromiter(found, dtype=np.uint64)
    padded = np.pad(words, (0, max(0, RUN - len(words))))
    smallest = np.full(BANDS * ROWS_A_BAND, 2**64 - 1, dtype=np.uint64)
    for first in range(0, len(padded) - RUN + 1, RUNS_AT_ONCE):
        some = padded[first : first + RUNS_AT_ONCE + RUN - 1]
        n_runs = len(some) - RUN + 1
        runs = sum(some[i : i + n_runs] * _PLACES[i] for i in range(RUN))
        hashes = _mixed(np.asarray(runs)[:, None] * _FACTORS + _TERMS)  # [runs, len(smallest)]
        np.minimum(smallest, hashes.min(axis=0), out=smallest)
    keys = np.arange(BANDS, dtype=np.uint64)
    for of_row in smallest.reshape(BANDS, ROWS_A_BAND).T:
        keys = _mixed(keys ^ of_row)
    return keys


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """With every bit depending on every other, nearly."""
    values = (values ^ (values >> np.uint64(32))) * _MIXED
    values = (values ^ (values >> np.uint64(29))) * _MIXED
    return values ^ (values >> np.uint64(32))


def mark_repeats(files: Sequence[Path], repeats: NDArray[np.bool_], near: bool = False) -> None:
    """Mark each story of which an earlier one is the same.

    Args:
        files: the keys of the corpus, see `keys_bytes`, in order.
        repeats: of each story, [stories]; what is marked stays so.
        near: the keys of near repeats alone count; they have to be there.
    """
    for same in _groups(files, len(repeats), range(1, 1 + BANDS) if near else [0]):
        repeats[same.stories[1:][same.follows]] = True


def shared(files: Sequence[Path], parts: NDArray[np.uint8], ours: int, theirs: int) -> int:
    """How many stories of the part `ours` stand in the part `theirs` too, word for word."""
    total = 0
    for same in _groups(files, len(parts), [0]):
        group = np.cumsum(np.concatenate([[0], ~same.follows]))  # alike where the keys are
        of = parts[same.stories]
        there = np.zeros(group[-1] + 1, dtype=np.bool_)
        there[group[of == theirs]] = True
        total += int(there[group[of == ours]].sum())
    return total


def keys_bytes(key: int, near: Iterable[int] = ()) -> bytes:
    """The keys of a story, as `mark_repeats` and `shared` read those of a range of them."""
    return np.array([key, *near], dtype=KEY).tobytes()


class _Sorted(NamedTuple):
    """Some stories by their keys.

    Attributes:
        stories: their places in the corpus, ascending where keys are equal, [n].
        follows: whether each but the first has the key of the one before it, [n - 1].
    """

    stories: NDArray[np.int64]
    follows: NDArray[np.bool_]


def _groups(files: Sequence[Path], n_stories: int, columns: Iterable[int]) -> Iterator[_Sorted]:
    """The stories of each bucket of keys, one column of keys after another."""
    if not n_stories:
        return
    width = sum(file.stat().st_size for file in files) // KEY.itemsize // n_stories
    bits = (n_stories // BUCKET).bit_length()  # of a key, that say its bucket
    for column in columns:
        for bucket in range(1 << bits):
            keys, stories, first = [np.empty(0, KEY)], [np.empty(0, np.int64)], 0
            for file in files:
                mine = np.fromfile(file, KEY).reshape(-1, width)[:, column]
                # By two shifts, as one by all 64 bits is none.
                there = np.flatnonzero(mine >> np.uint64(1) >> np.uint64(63 - bits) == bucket)
                keys.append(mine[there])
                stories.append(first + there)
                first += len(mine)
            of_bucket = np.concatenate(keys)
            if not len(of_bucket):
                continue
            order = np.argsort(of_bucket, kind="stable")
            ordered = of_bucket[order]
            yield _Sorted(np.concatenate(stories)[order], ordered[1:] == ordered[:-1])
