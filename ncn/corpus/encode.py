"""From token ids to rows on disk, split into training, validation and tuning.

A row is context_length + 1 tokens; its last is the next row's first: the target of its last
position. train.bin, val.bin and tune.bin hold rows as little-endian uint16, in the order of the
corpus; train.tasks and so on the number of the text file that each row begins in, likewise.
The text between two delimiters is encoded as it stands, so decoding gives the corpus back.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ncn.common.errors import InputError
from ncn.common.files import read_json, replacing, write_json
from ncn.common.progress import byte_bar
from ncn.corpus import rows
from ncn.corpus.blocks import Block, Stream, note_of, write_block
from ncn.corpus.meta import Meta, Text, read_meta
from ncn.corpus.ranges import Corpus, Counts, encode_ranges, ids_file, keys_files
from ncn.corpus.rows import TOKEN, BlockDigests
from ncn.corpus.split import LEFT_OUT, PART_NAMES, PARTS, Draw, Parts, draw_into
from ncn.corpus.tokenizer import load_tokenizer
from ncn.corpus.workers import spread
from ncn.settings import MAX_TASKS, Split
from ncn.text.repeats import shared

READ_BYTES = 1 << 20


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
        parts: of each story, or LEFT_OUT; parts count under `split.unit: story` only, and are
            overwritten under others. None: no story is left out.
        text: what meta.json says of the text.
        vocabulary: its folder.
        split: how rows come into the parts.
        context_length: targets a row.
        seed: of the split.
        directory: where the files go.
        scratch: where the ids and the rows lie until then, and what an earlier run left of them is.
        workers: processes.

    Returns:
        What meta.json says.

    Raises:
        InputError: a part would have no row, or see `encode_ranges`.
    """
    by_story, n_stories = split.unit == "story", corpus.n_stories - text.left_out
    if parts is None and split.unit == "tail":
        parts = np.zeros(corpus.n_stories, dtype=np.uint8)
    if not by_story and parts is not None:
        draw_into(parts, None)
    counts = encode_ranges(corpus, parts, vocabulary, scratch, workers)
    by_file = _by_file(corpus, counts)
    names = PARTS if split.tuning else PARTS[:2]
    streams = _streams(counts, scratch, context_length)
    draw = None if by_story else Draw(streams["train"].n_rows, split, seed)
    n_rows = draw.sizes if draw else {part: streams[part].n_rows for part in names}
    for part in names:
        if n_rows[part] == 0:
            raise InputError(
                f"{PART_NAMES[part]} part: {by_file.sum()} tokens of {n_stories} stories"
                f" make no row of context_length {context_length} + 1"
                f" under split.unit {split.unit}, split.validation {split.validation}:"
                " more text, a shorter context or a larger share is needed, or split.unit: tail,"
                " which takes the end of the text"
            )
    tokenizer = load_tokenizer(vocabulary)
    if split.unit == "tail" and parts is not None:
        n_tokens = {part: n * context_length for part, n in n_rows.items()}
        in_train = _in_train(corpus, parts, counts, n_tokens, tokenizer.end_of_text, scratch)
        text = text.model_copy(update=in_train)
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
    folder = scratch / f"rows-{context_length}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as opened:
        written = {
            part: _Part(folder, directory, part, n_rows[part], context_length, opened)
            for part in names
        }

        def todo() -> Iterator[tuple[Path, Block, Stream, Path]]:
            """Each block that is not yet in its place; beside, the tasks of all are written."""
            for part, out in written.items():
                source = part if by_story else "train"
                for block in _blocks(part, n_rows[part], draw):
                    first = block.places * context_length
                    of_source = begins[:, PARTS.index(source)]
                    out.add_tasks(np.searchsorted(of_source, first, "right") - 1)
                    if note_of(folder, block).exists():
                        out.add(block)
                    else:
                        yield folder, block, streams[source], vocabulary

        total = sum(out.n_bytes for out in written.values())
        with byte_bar(total, "write rows", delay=1) as bar:
            for block in spread(write_block, todo(), min(workers, total // READ_BYTES)):
                written[block.part].add(block)
                bar.update(len(block.places) * (context_length + 1) * TOKEN.itemsize)
    meta |= {part: out.said() for part, out in written.items()}
    digest = "".join(
        out.whole[kind].hexdigest() for kind in ("bin", "tasks") for out in written.values()
    )
    meta["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    write_json(directory / "meta.json", meta)
    for part in names:
        _place(folder / f"{part}.bin", directory / f"{part}.bin")
    return read_meta(directory)


class _Part:
    """The files of a part while they are written.

    Its rows come in blocks, in any order; the digest of the whole is made of them in theirs.
    """

    def __init__(
        self,
        folder: Path,
        directory: Path,
        part: str,
        n_rows: int,
        context_length: int,
        opened: ExitStack,
    ) -> None:
        self._folder, self._n_rows, self._context_length = folder, n_rows, context_length
        row_bytes = (context_length + 1) * TOKEN.itemsize
        self.n_bytes, self._block_bytes = n_rows * row_bytes, rows.BLOCK_ROWS * row_bytes
        path = folder / f"{part}.bin"
        if not path.exists() or path.stat().st_size != self.n_bytes:
            for note in folder.glob(f"{part}-*.json"):
                note.unlink()
            with open(path, "wb") as file:
                file.truncate(self.n_bytes)
        # Unbuffered: what is read ahead of a block may not be there yet.
        self._rows = opened.enter_context(path.open("rb", buffering=0))
        self._tasks: IO[bytes] = opened.enter_context(replacing(directory / f"{part}.tasks", "wb"))
        self._task_digests = BlockDigests(TOKEN.itemsize)
        self.whole = {kind: hashlib.sha256() for kind in ("bin", "tasks")}
        self._there: dict[int, Block] = {}  # blocks that are in their place, by number
        self._digests: list[str] = []  # of those that are in the digest of the whole
        self._text_bytes = 0  # that the targets of these are

    def add_tasks(self, tasks: NDArray[np.intp]) -> None:
        """Write the tasks of the next block."""
        content = tasks.clip(max=MAX_TASKS - 1).astype(TOKEN).tobytes()
        self._tasks.write(content)
        self._task_digests.update(content)
        self.whole["tasks"].update(content)

    def add(self, block: Block) -> None:
        """Take note of a block that is in its place."""
        self._there[block.number] = block
        while ready := self._there.pop(len(self._digests), None):
            digest, n_bytes = read_json(note_of(self._folder, ready))
            left = min(self._block_bytes, self.n_bytes - self._rows.tell())
            while left:
                content = self._rows.read(min(left, READ_BYTES))
                self.whole["bin"].update(content)
                left -= len(content)
            self._digests.append(digest)
            self._text_bytes += n_bytes

    def said(self) -> dict[str, Any]:
        """What meta.json says of the part."""
        n_targets = self._n_rows * self._context_length
        return {
            "rows": self._n_rows,
            "tokens": n_targets,
            "bytes_per_token": self._text_bytes / n_targets,
            "digests": {"bin": self._digests, "tasks": self._task_digests.digests()},
        }


def _place(path: Path, target: Path) -> None:
    """Put a file where it belongs: until all is recorded, it stays where it is too."""
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        shutil.move(path, target)


def _blocks(part: str, n_rows: int, draw: Draw | None) -> Iterator[Block]:
    """The rows of a part, a block at a time.

    Args:
        part: whose they are.
        n_rows: that it has.
        draw: of the rows of its stream; None: all are of this part.
    """
    size = rows.BLOCK_ROWS
    every = (np.arange(first, min(n_rows, first + size)) for first in range(0, n_rows, size))
    some = draw.units_of(part) if draw else every
    held, number = np.empty(0, np.int64), 0
    for places in some:
        held = np.concatenate([held, places])
        while len(held) >= size:
            yield Block(part, number, number * size, held[:size])
            held, number = held[size:], number + 1
    if len(held):
        yield Block(part, number, number * size, held)


def _streams(counts: Sequence[Counts], scratch: Path, context_length: int) -> dict[str, Stream]:
    """The ids of each part, given how many each segment of each range has."""
    by_range = np.array([np.sum(of_range, axis=0) for of_range in counts], dtype=np.int64)
    begins = np.concatenate([np.zeros((1, len(PARTS)), np.int64), by_range.cumsum(axis=0)])
    return {
        part: Stream(scratch, part, begins[:, number], context_length)
        for number, part in enumerate(PARTS)
    }


def _in_train(
    corpus: Corpus,
    parts: Parts,
    counts: Sequence[Counts],
    n_tokens: Mapping[str, int],
    end_of_text: int,
    scratch: Path,
) -> dict[str, int]:
    """The stories of the parts of a tail that train too, by the key of meta.json.

    Args:
        corpus: the text.
        parts: 0 of each story, or LEFT_OUT; afterwards that of each.
        counts: of each range, see `encode_ranges`.
        n_tokens: of each of PARTS, whose order in the text is training, tuning, validation; a story
            is of the part that it begins in.
        end_of_text: the token that ends a story.
        scratch: where the ids and the keys lie.
    """
    n_ranges = len(corpus.ranges)
    begins = np.cumsum([0, *(sum(each[0] for each in of_range) for of_range in counts)])
    first = 0
    for before, part in (("train", "tune"), ("tune", "val")):
        first += n_tokens[before]
        number = min(int(np.searchsorted(begins, first, "right")), n_ranges) - 1
        file = ids_file(scratch, number, PARTS[0])
        ends = np.fromfile(file, TOKEN, count=first - int(begins[number])) == end_of_text
        n_before = int(ends.sum()) + int(len(ends) > 0 and not ends[-1])  # the cut one too
        start = sum(corpus.stories[:number])
        there = parts[start : start + corpus.stories[number]]
        kept = np.flatnonzero(there != LEFT_OUT)
        place = start + (int(kept[n_before]) if n_before < len(kept) else len(there))
        behind = parts[place:]
        behind[behind != LEFT_OUT] = PARTS.index(part)
    keys = keys_files(scratch, n_ranges)
    return {
        f"{part}_in_train": shared(keys, parts, PARTS.index(part), PARTS.index("train"))
        for part in PARTS[1:]
    }


def _by_file(corpus: Corpus, counts: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """The tokens of each file in each part, [files, parts]."""
    found = np.zeros((len(corpus.files), len(PARTS)), dtype=np.int64)
    for segments, of_range in zip(corpus.ranges, counts, strict=True):
        for segment, of_parts in zip(segments, of_range, strict=True):
            found[segment.file] += of_parts
    return found
