"""Stories to token ids with each distinct word encoded once.

GPT-2's pattern never puts a token across the border between a character and the white space behind
it, and takes no heed of what stands before. So a story that is cut in front of blanks has the ids
of its pieces, one after another. A text of few distinct words, as stories are, then costs a lookup
a word, about half of what tiktoken takes. Where words hardly come again, tiktoken encodes stories
whole. A long story is cut, at such borders too, so that its words are not all held at once.
"""

import re
from collections.abc import Iterator

import numpy as np

from ncn.common.errors import InputError
from ncn.corpus.rows import TOKEN
from ncn.corpus.tokenizer import Tokenizer

# White space as the pattern's \s means it; Python's own also holds U+001C to U+001F.
WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
MAX_WORD = 64  # characters; a longer one hardly comes again
RARE = 0.2  # the share of words unknown to a full memory from which on it does not pay
PAUSE = 16  # stories that are then encoded whole before the next is tried
# tiktoken fails in a run of white space of some 300,000, and takes a second for a word of 10^6.
MAX_RUN = 100_000
PIECE = 1 << 16  # characters, more to the next border
_WHITE = "".join(sorted(WHITE_SPACE))
_RUNS = re.compile(f"[{_WHITE}]+|[^{_WHITE}]+")
_BORDER = re.compile(f"(?<=[^{_WHITE}])(?=[{_WHITE}])")


class WordEncoder:
    """What `tokenizer` makes of stories, as bytes of little-endian uint16.

    Args:
        tokenizer: that encodes what is not known.
        words: that are remembered at most, some 200 bytes each.
    """

    def __init__(self, tokenizer: Tokenizer, words: int) -> None:
        self._tokenizer = tokenizer
        self._words = _Words(self, words)
        self._pause = 0

    def encode(self, story: str) -> bytes:
        """The ids of a story.

        Raises:
            InputError: it has a run of characters that is too long to be a word or a gap.
        """
        return b"".join(map(self._piece, _pieces(story)))

    def _piece(self, story: str) -> bytes:
        first, *words = story.split(" ")
        if not words or _ends_white(first) or self._pause:
            self._pause = max(0, self._pause - 1)
            return self.ids(story)
        *between, last = words
        unknown = self._words.unknown
        try:
            middle = b"".join(map(self._words.__getitem__, between))
        except _GapError:
            return self.ids(story)
        if self._words.unknown - unknown > RARE * len(between):
            self._pause = PAUSE
        return self.ids(first) + middle + self.ids(" " + last)

    def ids(self, text: str) -> bytes:
        """The ids of a text, by tiktoken."""
        if len(text) > MAX_RUN:
            start, end = max((run.span() for run in _RUNS.finditer(text)), key=_length)
            if end - start > MAX_RUN:
                what = "of white space" if text[start] in WHITE_SPACE else "without white space"
                raise InputError(
                    f"a run of {end - start:,} characters {what}, beginning"
                    f" {text[start : min(end, start + 20)]!r}; at most {MAX_RUN:,} are encoded:"
                    " break it up, or leave it out"
                )
        return np.array(self._tokenizer.encode(text), dtype=TOKEN).tobytes()


class _GapError(Exception):
    """More white space than one blank, so that a cut in front of the blank would be in a gap."""


class _Words(dict[str, bytes]):
    """The ids of a word with a blank before it."""

    def __init__(self, encoder: WordEncoder, most: int) -> None:
        super().__init__()
        self._encoder, self._most = encoder, most
        self.unknown = 0  # words asked for that were not there, and had no room

    def __missing__(self, word: str) -> bytes:
        if not word or _ends_white(word):
            raise _GapError
        ids = self._encoder.ids(" " + word)
        if len(self) < self._most and len(word) <= MAX_WORD:
            self[word] = ids
        else:
            self.unknown += 1
        return ids


def _pieces(story: str) -> Iterator[str]:
    start = 0
    while border := _BORDER.search(story, start + PIECE):
        yield story[start : border.start()]
        start = border.start()
    yield story[start:]


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _ends_white(text: str) -> bool:
    return text[-1:] in WHITE_SPACE
