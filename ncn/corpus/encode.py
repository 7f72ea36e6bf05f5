"""From token ids to rows on disk, split into training, validation and tuning.

A row is context_length + 1 tokens; its last is the next row's first: the target of its last
position. train.bin, val.bin and tune.bin hold rows as little-endian uint16, in the order of the
corpus; train.tasks and so on the number of the text file that each row begins in, likewise.
The text between two delimiters is encoded as it stands, so decoding gives the corpus back.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ncn.common.errors import InputError
from ncn.common.files import replacing, write_json
from ncn.corpus.meta import Meta, Text, read_meta
from ncn.corpus.ranges import Corpus, Counts, encode_ranges, keys_files, stream_files
from ncn.corpus.rows import TOKEN, BlockDigests, Rows
from ncn.corpus.split import LEFT_OUT, PART_NAMES, PARTS, Parts, choose_parts
from ncn.corpus.tokenizer import load_tokenizer
from ncn.settings import MAX_TASKS, Split
from ncn.text.repeats import shared


def write_corpus(
    corpus: Corpus,
    parts: Parts | None,
    text: Text,
    vocabulary: Path,
    split: Split,
    context_length: int,
    seed: int,
    directory: Path,
    scratch: Path,
    workers: int = 1,
) -> Meta:
    """Encode the stories and write train.bin, val.bin, tune.bin, their tasks and meta.json.

    Args:
        corpus: the text, see `ncn.corpus.ranges`.
        parts: of each story, or LEFT_OUT; parts count under `split.unit: story` only.
        text: what meta.json says of the text.
        vocabulary: its folder.
        split: how rows come into the parts.
        context_length: targets a row.
        seed: of the split.
        directory: where the files go.
        scratch: where the ids lie until then.
        workers: processes that encode.

    Returns:
        What meta.json says.

    Raises:
        InputError: a part would have no row, or see `encode_ranges`.
    """
    by_story, n_stories = split.unit == "story", corpus.n_stories - text.left_out
    if parts is None and split.unit == "tail":
        parts = np.zeros(corpus.n_stories, dtype=np.uint8)
    if not by_story and parts is not None:
        parts = np.where(parts == LEFT_OUT, parts, 0).astype(np.uint8)
    counts = encode_ranges(corpus, parts, vocabulary, scratch, workers)
    by_file = _by_file(corpus, counts)
    names = PARTS if split.tuning else PARTS[:2]
    of_row = None
    if by_story:
        n_rows = _rows_in(by_file.sum(axis=0), context_length)
    else:
        of_row = choose_parts(int(_rows_in(by_file[:, 0].sum(), context_length)), split, seed)
        n_rows = np.bincount(of_row, minlength=len(PARTS))
    for part, number in zip(names, n_rows, strict=False):
        if number == 0:
            raise InputError(
                f"{PART_NAMES[part]} part: {by_file.sum()} tokens of {n_stories} stories"
                f" make no row of context_length {context_length} + 1"
                f" under split.unit {split.unit}, split.validation {split.validation}:"
                " more text, a shorter context or a larger share is needed, or split.unit: tail,"
                " which takes the end of the text"
            )
    tokenizer = load_tokenizer(vocabulary)
    if split.unit == "tail" and parts is not None:
        n_tokens, end = n_rows * context_length, tokenizer.end_of_text
        in_train = _in_train(corpus, parts, counts, n_tokens, end, scratch)
        text = text.model_copy(update=in_train)
    lengths = np.array([len(piece) for piece in tokenizer.token_bytes()], dtype=np.int32)
    meta: dict[str, Any] = {
        "stories": n_stories,
        "tasks": len(corpus.files),
        "tokens": int(by_file.sum()),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "context_length": context_length,
        "split": split.model_dump() | {"seed": seed},
        "text": text.model_dump(),
    }
    begins = by_file.cumsum(axis=0) - by_file
    with ExitStack() as opened:
        aside = opened.enter_context(ThreadPoolExecutor(1))
        written = [_Part(directory, part, lengths, context_length, opened, aside) for part in names]
        for number, part in enumerate(names if by_story else PARTS[:1]):
            first = 0
            for rows in _rows(stream_files(scratch, len(corpus.ranges), part), context_length):
                places = np.arange(first, first + len(rows))
                tasks = np.searchsorted(begins[:, number], places * context_length, "right") - 1
                for other, out in enumerate(written):
                    if of_row is not None:
                        mine = of_row[first : first + len(rows)] == other
                        out.add(rows[mine], tasks[mine])
                    elif number == other:
                        out.add(rows, tasks)
                first += len(rows)
        meta |= {part: out.said() for part, out in zip(names, written, strict=True)}
    digest = "".join(out.digests[kind].hexdigest() for kind in ("bin", "tasks") for out in written)
    meta["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    write_json(directory / "meta.json", meta)
    return read_meta(directory)


class _Part:
    """The files of a part while they are written, and digested on another thread meanwhile."""

    def __init__(
        self,
        directory: Path,
        part: str,
        lengths: NDArray[np.int32],
        context_length: int,
        opened: ExitStack,
        aside: Executor,
    ) -> None:
        self._files: dict[str, IO[bytes]] = {
            kind: opened.enter_context(replacing(directory / f"{part}.{kind}", "wb"))
            for kind in ("bin", "tasks")
        }
        self._lengths, self._context_length = lengths, context_length
        row_bytes = (context_length + 1) * TOKEN.itemsize
        self._blocks = {"bin": BlockDigests(row_bytes), "tasks": BlockDigests(TOKEN.itemsize)}
        self.digests = {kind: hashlib.sha256() for kind in self._files}
        self._rows = self._bytes = 0
        self._aside = aside
        self._digested: Future[None] = aside.submit(self._digest, {})

    def add(self, rows: Rows, tasks: NDArray[np.intp]) -> None:
        """Write rows behind those that are there."""
        limited = tasks.clip(max=MAX_TASKS - 1).astype(TOKEN)
        contents = {"bin": rows.tobytes(), "tasks": limited.tobytes()}
        self._digested.result()  # so that no more than one waits
        self._digested = self._aside.submit(self._digest, contents)
        for kind, content in contents.items():
            self._files[kind].write(content)
        self._rows += len(rows)
        self._bytes += int(self._lengths[rows[:, 1:]].sum(dtype=np.int64))

    def _digest(self, contents: Mapping[str, bytes]) -> None:
        for kind, content in contents.items():
            self.digests[kind].update(content)
            self._blocks[kind].update(content)

    def said(self) -> dict[str, Any]:
        """What meta.json says of the part."""
        self._digested.result()
        n_targets = self._rows * self._context_length
        return {
            "rows": self._rows,
            "tokens": n_targets,
            "bytes_per_token": self._bytes / n_targets,
            "digests": {kind: blocks.digests() for kind, blocks in self._blocks.items()},
        }


def _in_train(
    corpus: Corpus,
    parts: Parts,
    counts: Sequence[Counts],
    n_tokens: NDArray[np.int64],
    end_of_text: int,
    scratch: Path,
) -> dict[str, int]:
    """The stories of the parts of a tail that train too, by the key of meta.json.

    Args:
        corpus: the text.
        parts: 0 of each story, or LEFT_OUT.
        counts: of each range, see `encode_ranges`.
        n_tokens: of each of PARTS, whose order in the text is training, tuning, validation; a story
            is of the part that it begins in.
        end_of_text: the token that ends a story.
        scratch: where the ids and the keys lie.
    """
    of_story, n_ranges = parts.copy(), len(corpus.ranges)
    begins = np.cumsum([0, *(sum(each[0] for each in of_range) for of_range in counts)])
    training, _, tuning = map(int, n_tokens)
    for part, first in (("tune", training), ("val", training + tuning)):
        number = min(int(np.searchsorted(begins, first, "right")), n_ranges) - 1
        file = stream_files(scratch, n_ranges, PARTS[0])[number]
        before = np.fromfile(file, TOKEN, count=first - int(begins[number]))
        ends = before == end_of_text
        n_before = int(ends.sum()) + int(len(ends) > 0 and not ends[-1])  # the cut one too
        start = sum(corpus.stories[:number])
        there = of_story[start : start + corpus.stories[number]]
        kept = np.flatnonzero(there != LEFT_OUT)
        place = start + (int(kept[n_before]) if n_before < len(kept) else len(there))
        behind = of_story[place:]
        behind[behind != LEFT_OUT] = PARTS.index(part)
    keys = keys_files(scratch, n_ranges)
    return {
        f"{part}_in_train": shared(keys, of_story, PARTS.index(part), PARTS.index("train"))
        for part in PARTS[1:]
    }


def _by_file(corpus: Corpus, counts: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """The tokens of each file in each part, [files, parts]."""
    found = np.zeros((len(corpus.files), len(PARTS)), dtype=np.int64)
    for segments, of_range in zip(corpus.ranges, counts, strict=True):
        for segment, of_parts in zip(segments, of_range, strict=True):
            found[segment.file] += of_parts
    return found


def _rows_in(n_tokens: NDArray[np.int64], context_length: int) -> NDArray[np.int64]:
    return np.maximum(0, (n_tokens - 1) // context_length)


def _rows(stream: Sequence[Path], context_length: int) -> Iterator[Rows]:
    """The rows of a stream of ids, some at a time; what is left at its end makes none."""
    rest = np.empty(0, TOKEN)
    for path in stream:
        tokens = np.concatenate([rest, np.fromfile(path, TOKEN)])
        n_rows = max(0, (len(tokens) - 1) // context_length)
        if n_rows:
            yield sliding_window_view(tokens, context_length + 1)[::context_length][:n_rows]
        rest = tokens[n_rows * context_length :]
