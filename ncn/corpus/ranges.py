"""The corpus as token ids in scratch: range by range, each done once, by whichever process.

    SCRATCH/
        ranges.json         the ranges
        000000.keys         by which stories that repeat others are known
        000000.found        how many stories the range has, and what was found in them
        000000.train        ids of the range's stories in a part, each followed by the end of text;
        000000.val ...      all in `train` where stories are not split
        000000.json         written when they are whole: of each segment, the tokens in each part

What is there is not done again, so that whatever ends the work, the same command goes on.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ncn.common.errors import InputError
from ncn.common.files import read_json, replacing, write_json
from ncn.common.progress import SPOKEN_OF, byte_bar, say
from ncn.corpus.rows import TOKEN
from ncn.corpus.split import LEFT_OUT, PARTS, Parts
from ncn.corpus.tokenizer import load_tokenizer
from ncn.corpus.words import WordEncoder
from ncn.corpus.workers import spread
from ncn.settings import Text
from ncn.text.mending import faults_of, mended
from ncn.text.repeats import key_of, keys_bytes, near_keys
from ncn.text.stories import RANGE_BYTES, Segment, is_story, ranges_of, stories_in, texts_in

Range = Sequence[Segment]
Counts = list[list[int]]  # of tokens, by segment and part
MAX_WORDS = 1 << 18  # remembered by a process: some 50 MB
ALL_WORDS = 1 << 19  # by all together
EMPTY = "empty"  # in what was found: texts of white space only


class Corpus(NamedTuple):
    """Text files in ranges, how many stories each range has, and what is wrong in how many.

    The stories that it gives are mended, as `text` says.
    """

    files: list[Path]
    ranges: list[list[Segment]]
    stories: list[int]
    found: dict[str, int]
    text: Text

    @property
    def n_stories(self) -> int:
        """Of all ranges."""
        return sum(self.stories)

    def read(self) -> Iterator[str]:
        """Every story, in order, with a bar."""
        with byte_bar(_bytes(self.ranges), "read", delay=1) as bar:
            for segments in self.ranges:
                for story in stories_in(segments, self.files):
                    yield mended(story, self.text.mended)
                bar.update(_bytes([segments]))


def count_stories(
    files: Sequence[Path], text: Text, scratch: Path, workers: int = 1, size: int = RANGE_BYTES
) -> Corpus:
    """Cut the files into ranges of about `size` bytes and look through the stories of each.

    Raises:
        InputError: text that cannot be read; names the file and the byte.
    """
    noted = scratch / "ranges.json"
    if not noted.exists():
        write_json(noted, list(ranges_of(files, size)))
    ranges = [[Segment(*each) for each in range_] for range_ in read_json(noted)]
    numbers = range(len(ranges))
    todo = [number for number in numbers if not _found_file(scratch, number).exists()]
    tasks = (
        (number, ranges[number], _files_of(ranges[number], files), text, scratch) for number in todo
    )
    total, left = _bytes(ranges), _bytes([ranges[number] for number in todo])
    with byte_bar(total, "count stories", initial=total - left, delay=1) as bar:
        for number in spread(_count, tasks, min(workers, len(todo))):
            bar.update(_bytes([ranges[number]]))
    stories, faults = [], Counter[str]()
    for number in numbers:
        n_stories, found = read_json(_found_file(scratch, number))
        stories.append(n_stories)
        faults.update(found)
    return Corpus([*files], ranges, stories, dict(faults), text)


def encode_ranges(
    corpus: Corpus, parts: Parts | None, vocabulary: Path, scratch: Path, workers: int = 1
) -> list[Counts]:
    """Encode what is not yet encoded; returns the counts of each range.

    Args:
        corpus: see `count_stories`.
        parts: of each story, or LEFT_OUT; None: all into the first part.
        vocabulary: its folder.
        scratch: where the ids go, and what an earlier run left of them is.
        workers: processes.

    Raises:
        InputError: a story cannot be encoded, or there is no room; the same command goes on.
    """
    begins = np.cumsum([0, *corpus.stories])
    numbers = range(len(corpus.ranges))
    todo = [number for number in numbers if not _counts_file(scratch, number).exists()]
    workers = max(1, min(workers, len(todo)))
    tasks = (
        (
            number,
            corpus.ranges[number],
            None if parts is None else parts[begins[number] : begins[number + 1]].tobytes(),
            _files_of(corpus.ranges[number], corpus.files),
            corpus.text.mended,
            vocabulary,
            min(MAX_WORDS, ALL_WORDS // workers),
            scratch,
        )
        for number in todo
    )
    total, left = _bytes(corpus.ranges), _bytes([corpus.ranges[number] for number in todo])
    checked, start = False, time.monotonic()
    with byte_bar(total, "tokenize", initial=total - left) as bar:
        for number, n_tokens in spread(_encode, tasks, workers):
            size = _bytes([corpus.ranges[number]])
            if not checked:
                seconds = (time.monotonic() - start) * (left - size) / size / workers
                token_bytes = n_tokens * TOKEN.itemsize / size
                _check_room(token_bytes, total, left - size, seconds, scratch)
                checked = True
            bar.update(size)
    return [read_json(_counts_file(scratch, number)) for number in numbers]


def ids_file(scratch: Path, number: int, part: str) -> Path:
    """The ids of a part in the range of this number."""
    return scratch / f"{number:06}.{part}"


def keys_files(scratch: Path, n_ranges: int) -> list[Path]:
    """The keys of the stories, in order."""
    return [_keys_file(scratch, number) for number in range(n_ranges)]


def _count(
    number: int, segments: Range, files: Mapping[int, Path], text: Text, scratch: Path
) -> int:
    """Write the keys of a range, its stories and what was found in them; returns its number."""
    found: Counter[str] = Counter()
    n_stories, keys, near = 0, bytearray(), text.repeats == "near"
    for each in texts_in(segments, files):
        if not is_story(each):
            found[EMPTY] += 1
            continue
        found.update(faults_of(each))
        story = mended(each, text.mended)
        keys += keys_bytes(key_of(story), near_keys(story) if near else ())
        n_stories += 1
    with replacing(_keys_file(scratch, number), "wb") as file:
        file.write(keys)
    write_json(_found_file(scratch, number), [n_stories, found])
    return number


def _encode(
    number: int,
    segments: Range,
    parts: bytes | None,
    files: Mapping[int, Path],
    mend: Sequence[str],
    vocabulary: Path,
    words: int,
    scratch: Path,
) -> tuple[int, int]:
    """Write the ids of a range; returns its number and how many they are."""
    encoder, end = _encoder(vocabulary, words)
    counts = [[0] * len(PARTS) for _ in segments]
    story_parts = iter(parts) if parts is not None else None
    with ExitStack() as opened:
        ids = [
            opened.enter_context(replacing(ids_file(scratch, number, part), "wb")) for part in PARTS
        ]
        for segment, n_tokens in zip(segments, counts, strict=True):
            for story in stories_in([segment], files):
                place = next(story_parts) if story_parts else 0
                if place == LEFT_OUT:
                    continue
                try:
                    encoded = encoder.encode(mended(story, mend))
                except InputError as error:
                    raise InputError(
                        f"{files[segment.file]}: the story {story[:40]!r} has {error}"
                    ) from None
                ids[place].write(encoded)
                ids[place].write(end)
                n_tokens[place] += len(encoded) // TOKEN.itemsize + 1
    write_json(_counts_file(scratch, number), counts)
    return number, sum(map(sum, counts))


@cache
def _encoder(vocabulary: Path, words: int) -> tuple[WordEncoder, bytes]:
    """The encoder of this process, and the end of text as it writes it."""
    tokenizer = load_tokenizer(vocabulary)
    return WordEncoder(tokenizer, words), np.array([tokenizer.end_of_text], TOKEN).tobytes()


def _check_room(token_bytes: float, total: int, left: int, seconds: float, scratch: Path) -> None:
    """See that the ids have room, by what the first range took: once here and once as rows."""
    needed, free = round(token_bytes * (left + total)), shutil.disk_usage(scratch).free
    words = f"the ids of {total / 1e9:.1f} GB of text need about {needed / 1e9:.1f} GB of disk"
    if needed > free:
        raise InputError(f"{words}, {free / 1e9:.1f} GB are free: the same command goes on")
    if total > SPOKEN_OF:
        say(
            f"{words}, half of it until they are written as rows; {free / 1e9:.0f} GB are free;"
            f" encoding takes about {timedelta(seconds=round(seconds))}"
        )


def _files_of(segments: Range, files: Sequence[Path]) -> dict[int, Path]:
    """Those that a worker needs: of a corpus of many, it is told no others."""
    return {segment.file: files[segment.file] for segment in segments}


def _bytes(ranges: Sequence[Range]) -> int:
    """Of text."""
    return sum(segment.end - segment.start for segments in ranges for segment in segments)


def _keys_file(scratch: Path, number: int) -> Path:
    return scratch / f"{number:06}.keys"


def _found_file(scratch: Path, number: int) -> Path:
    return scratch / f"{number:06}.found"


def _counts_file(scratch: Path, number: int) -> Path:
    return scratch / f"{number:06}.json"
