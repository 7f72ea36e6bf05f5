"""From text files to rows of token ids on disk, split into training and validation.

A row is context_length + 1 tokens; its last is the next row's first: the target of its last
position. train.bin and val.bin hold rows as little-endian uint16, in the order of the corpus;
train.tasks and val.tasks the number of the text file that each row begins in, likewise.
The text between two delimiters is encoded as it stands, so decoding gives the corpus back.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ncn.config import END_OF_TEXT, MAX_TASKS, Split
from ncn.errors import InputError
from ncn.files import read_json, replacing, sha256_of, write_json
from ncn.tokenizer import Tokenizer

TOKEN = np.dtype("<u2")
READ_BYTES = 1 << 24
ENCODE_STORIES = 2048  # handed to the encoder's threads at once
WRITE_ROWS = 4096

Rows = NDArray[np.uint16]  # [N, context_length + 1]
Mask = NDArray[np.bool_]


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
    return chain.from_iterable(_stories_of(path) for path in files)


def _stories_of(path: Path) -> Iterator[str]:
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


def choose_validation(n: int, split: Split, seed: int) -> Mask:
    """Which of n units are validation: floor(n * split.validation) of them, [n] bool.

    `tail` takes the last ones; otherwise a seeded permutation decides, drawn as
    torch.utils.data.random_split draws it: the first ones train.
    """
    n_validation = int(n * split.validation)
    order = (
        np.arange(n)
        if split.unit == "tail"
        else torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    )
    mask = np.zeros(n, dtype=bool)
    mask[order[n - n_validation :]] = True
    return mask


def write_corpus(
    files: Sequence[Path],
    held_out: Mask,
    tokenizer: Tokenizer,
    split: Split,
    context_length: int,
    seed: int,
    directory: Path,
) -> dict[str, Any]:
    """Encode the stories and write train.bin, val.bin, their tasks and meta.json.

    Args:
        files: of the corpus, in order.
        held_out: which stories are validation under `split.unit: story`.
        tokenizer: of the ids.
        split: how rows become validation.
        context_length: targets a row.
        seed: of the split.
        directory: where the files go.

    Returns:
        What meta.json says.

    Raises:
        InputError: a part would have no row.
    """
    by_story = split.unit == "story"
    stream, begins = _encode(files, held_out if by_story else None, tokenizer, directory)
    train, validation = stream["train"], stream["val"] if by_story else stream["train"]
    tasks = {"train": begins["train"], "val": begins["val" if by_story else "train"]}
    if by_story:
        chosen = {
            "train": np.arange(_rows_in(train, context_length)),
            "val": np.arange(_rows_in(validation, context_length)),
        }
    else:
        mask = choose_validation(_rows_in(train, context_length), split, seed)
        chosen = {"train": np.flatnonzero(~mask), "val": np.flatnonzero(mask)}
    lengths = np.array([len(piece) for piece in tokenizer.token_bytes()])
    meta: dict[str, Any] = {
        "stories": len(held_out),
        "tasks": len(files),
        "tokens": sum(len(part) for part in stream.values()),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "context_length": context_length,
        "split": split.model_dump() | {"seed": seed},
    }
    for part, tokens in (("train", train), ("val", validation)):
        if len(chosen[part]) == 0:
            raise InputError(
                f"{'training' if part == 'train' else 'validation'} part: {len(tokens)} tokens of"
                f" {len(held_out)} stories make no row of context_length {context_length} + 1"
                f" under split.unit {split.unit}, split.validation {split.validation}:"
                " more text, a shorter context or a larger share is needed"
            )
        meta[part] = _write_rows(
            directory / f"{part}.bin", tokens, chosen[part], context_length, lengths
        )
        begun = np.searchsorted(tasks[part], chosen[part] * context_length, side="right") - 1
        with replacing(directory / f"{part}.tasks", "wb") as file:
            file.write(begun.clip(max=MAX_TASKS - 1).astype(TOKEN).tobytes())
    for path in directory.glob("*.stream"):
        path.unlink()
    parts = [f"{part}.{kind}" for kind in ("bin", "tasks") for part in ("train", "val")]
    digest = "".join(sha256_of(directory / name) for name in parts)
    meta["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    write_json(directory / "meta.json", meta)
    return meta


def _encode(
    files: Sequence[Path], held_out: Mask | None, tokenizer: Tokenizer, directory: Path
) -> tuple[dict[str, Rows], dict[str, NDArray[np.int64]]]:
    """Every story's ids, each followed by the end of text: one stream a part.

    Returns:
        The streams, and where in each of them each file begins.
    """
    stories = ((number, s) for number, path in enumerate(files) for s in _stories_of(path))
    lengths = {part: np.zeros(len(files), dtype=np.int64) for part in ("train", "val")}
    paths = {part: directory / f"{part}.stream" for part in ("train", "val")}
    end = np.array([tokenizer.end_of_text], dtype=TOKEN)
    total = sum(path.stat().st_size for path in files)
    progress = tqdm(total=total, unit="B", unit_scale=True, desc="tokenize", disable=None)
    with progress, open(paths["train"], "wb") as train, open(paths["val"], "wb") as validation:
        number = 0
        while batch := list(islice(stories, ENCODE_STORIES)):
            origins, texts = zip(*batch, strict=True)
            encoded = tokenizer.encode_all(texts, threads=os.cpu_count() or 1)
            for origin, ids in zip(origins, encoded, strict=True):
                held = held_out is not None and held_out[number]
                into = validation if held else train
                into.write(np.array(ids, dtype=TOKEN).tobytes() + end.tobytes())
                lengths["val" if held else "train"][origin] += len(ids) + 1
                number += 1
            progress.update(sum(len(text) + len(END_OF_TEXT) for text in texts))
    streams = {part: _mapped(path) for part, path in paths.items()}
    return streams, {part: counts.cumsum() - counts for part, counts in lengths.items()}


def _mapped(path: Path) -> Rows:
    """A file of token ids, mapped read-only; an empty file cannot be mapped."""
    return np.memmap(path, TOKEN, "r") if path.stat().st_size else np.empty(0, TOKEN)


def _rows_in(tokens: Rows, context_length: int) -> int:
    return max(0, (len(tokens) - 1) // context_length)


def _write_rows(
    path: Path, tokens: Rows, chosen: NDArray[np.intp], context_length: int, lengths: NDArray[Any]
) -> dict[str, Any]:
    """Write the chosen rows of a stream; returns what meta.json says of the part."""
    places = np.arange(context_length + 1)
    n_bytes = 0
    with replacing(path, "wb") as file:
        for first in range(0, len(chosen), WRITE_ROWS):
            starts = chosen[first : first + WRITE_ROWS] * context_length
            rows = tokens[starts[:, None] + places]
            n_bytes += int(lengths[rows[:, 1:]].sum())
            file.write(rows.tobytes())
    n_targets = len(chosen) * context_length
    return {"rows": len(chosen), "tokens": n_targets, "bytes_per_token": n_bytes / n_targets}


def read_meta(directory: str | Path) -> dict[str, Any]:
    """What meta.json says of the tokens in `directory`."""
    meta: dict[str, Any] = read_json(Path(directory) / "meta.json")
    return meta


def open_rows(directory: str | Path, part: str) -> Rows:
    """The rows of `train` or `val`, [N, context_length + 1] uint16, mapped read-only.

    Raises:
        InputError: the file is missing, not as long as meta.json says, or holds an id outside
            the vocabulary.
    """
    meta = read_meta(directory)
    shape = (meta[part]["rows"], meta["context_length"] + 1)
    return _opened(Path(directory) / f"{part}.bin", shape, meta["vocab_size"], "token id")


def open_tasks(directory: str | Path, part: str) -> NDArray[np.uint16]:
    """The number of the text file that each row of `train` or `val` begins in, [N] uint16.

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
