"""From text files to rows of token ids on disk, split into training and validation.

A row is context_length + 1 tokens; its last is the next row's first: the target of its last
position. train.bin, val.bin and tune.bin hold rows as little-endian uint16, in the order of the
corpus; train.tasks and so on the number of the text file that each row begins in, likewise.
The text between two delimiters is encoded as it stands, so decoding gives the corpus back.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ncn.common.errors import InputError
from ncn.common.files import replacing, sha256_of, write_json
from ncn.corpus.rows import TOKEN, Rows
from ncn.corpus.split import PART_NAMES, PARTS, Parts, choose_parts
from ncn.corpus.text import stories_of
from ncn.corpus.tokenizer import Tokenizer
from ncn.settings import END_OF_TEXT, MAX_TASKS, Split

ENCODE_STORIES = 2048  # handed to the encoder's threads at once
WRITE_ROWS = 4096


def write_corpus(
    files: Sequence[Path],
    parts: Parts,
    tokenizer: Tokenizer,
    split: Split,
    context_length: int,
    seed: int,
    directory: Path,
) -> dict[str, Any]:
    """Encode the stories and write train.bin, val.bin, tune.bin, their tasks and meta.json.

    Args:
        files: of the corpus, in order.
        parts: of each story, under `split.unit: story`.
        tokenizer: of the ids.
        split: how rows come into the parts.
        context_length: targets a row.
        seed: of the split.
        directory: where the files go.

    Returns:
        What meta.json says.

    Raises:
        InputError: a part would have no row.
    """
    by_story = split.unit == "story"
    streams, begins = _encode(files, parts if by_story else None, tokenizer, directory)
    names = PARTS if split.tuning else PARTS[:2]
    n_rows = _rows_in(streams["train"], context_length)
    of_row = None if by_story else choose_parts(n_rows, split, seed)
    lengths = np.array([len(piece) for piece in tokenizer.token_bytes()])
    meta: dict[str, Any] = {
        "stories": len(parts),
        "tasks": len(files),
        "tokens": sum(len(stream) for stream in streams.values()),
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "context_length": context_length,
        "split": split.model_dump() | {"seed": seed},
    }
    for number, part in enumerate(names):
        source = part if of_row is None else "train"
        tokens = streams[source]
        chosen = (
            np.arange(_rows_in(tokens, context_length))
            if of_row is None
            else np.flatnonzero(of_row == number)
        )
        if len(chosen) == 0:
            raise InputError(
                f"{PART_NAMES[part]} part: {len(tokens)} tokens of"
                f" {len(parts)} stories make no row of context_length {context_length} + 1"
                f" under split.unit {split.unit}, split.validation {split.validation}:"
                " more text, a shorter context or a larger share is needed, or split.unit: tail,"
                " which takes the end of the text"
            )
        meta[part] = _write_rows(directory / f"{part}.bin", tokens, chosen, context_length, lengths)
        begun = np.searchsorted(begins[source], chosen * context_length, side="right") - 1
        with replacing(directory / f"{part}.tasks", "wb") as file:
            file.write(begun.clip(max=MAX_TASKS - 1).astype(TOKEN).tobytes())
    for path in directory.glob("*.stream"):
        path.unlink()
    written = [f"{part}.{kind}" for kind in ("bin", "tasks") for part in names]
    digest = "".join(sha256_of(directory / name) for name in written)
    meta["digest"] = hashlib.sha256(digest.encode()).hexdigest()
    write_json(directory / "meta.json", meta)
    return meta


def _encode(
    files: Sequence[Path], parts: Parts | None, tokenizer: Tokenizer, directory: Path
) -> tuple[dict[str, Rows], dict[str, NDArray[np.int64]]]:
    """Every story's ids, each followed by the end of text: one stream a part, or all in `train`.

    Returns:
        The streams, and where in each of them each file begins.
    """
    stories = ((number, s) for number, path in enumerate(files) for s in stories_of(path))
    lengths = {part: np.zeros(len(files), dtype=np.int64) for part in PARTS}
    paths = {part: directory / f"{part}.stream" for part in PARTS}
    end = np.array([tokenizer.end_of_text], dtype=TOKEN)
    total = sum(path.stat().st_size for path in files)
    progress = tqdm(total=total, unit="B", unit_scale=True, desc="tokenize", disable=None)
    with progress, ExitStack() as opened:
        outs = {part: opened.enter_context(open(path, "wb")) for part, path in paths.items()}
        number = 0
        while batch := list(islice(stories, ENCODE_STORIES)):
            origins, texts = zip(*batch, strict=True)
            encoded = tokenizer.encode_all(texts, threads=os.cpu_count() or 1)
            for origin, ids in zip(origins, encoded, strict=True):
                part = PARTS[0 if parts is None else parts[number]]
                outs[part].write(np.array(ids, dtype=TOKEN).tobytes() + end.tobytes())
                lengths[part][origin] += len(ids) + 1
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
