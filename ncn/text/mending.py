r"""What is found in a story as people have it, always counted, and mended where that is asked.

| name      | what is found                                    | what it becomes     |
|-----------|--------------------------------------------------|---------------------|
| line_ends | \r\n, \r                                         | \n                  |
| mojibake  | UTF-8 that was read as Windows-1252: â€™, Ã©     | what was meant: ’ é |
| quotes    | ‘ ’ ‚ ‛ “ ” „ ‟                                  | ' and "             |
| blanks    | blanks behind a line, or several within one;     | none, one;          |
|           | several empty lines                              | one                 |

In this order, so that quotes that were mojibake are quotes. Indentation stays.
"""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

# Byte to character as browsers read Windows-1252: the five bytes that it leaves out are themselves.
_READ_AS = {
    bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)): byte
    for byte in range(128, 256)
}
_LEADS = {2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}
_CHARACTERS = {byte: character for character, byte in _READ_AS.items()}


def _any_of(numbers: range) -> str:
    return f"[{''.join(re.escape(_CHARACTERS[byte]) for byte in numbers)}]"


_CONTINUATION = _any_of(range(0x80, 0xC0))
MOJIBAKE = re.compile(
    "|".join(f"{_any_of(lead)}{_CONTINUATION}{{{n - 1}}}" for n, lead in _LEADS.items())
)
QUOTES = str.maketrans("‘’‚‛“”„‟", "''''\"\"\"\"")
_QUOTE = re.compile("[‘’‚‛“”„‟]")
# Of a run of blanks only its first begins a match: else a long run takes the square of its length.
_BEHIND = re.compile(r"(?<![ \t])[ \t]+(?=\n|\Z)")
_WITHIN = re.compile(r"(?<=\S)[ \t]{2,}(?=\S)")
_EMPTY_LINES = re.compile(r"\n{3,}")


def has_line_ends(story: str) -> bool:
    """Whether a line ends otherwise than with \\n."""
    return "\r" in story


def has_mojibake(story: str) -> bool:
    """Whether something in it is a character of UTF-8 that was read as Windows-1252."""
    return not story.isascii() and mended_mojibake(story) != story


def has_quotes(story: str) -> bool:
    """Whether it has other quotation marks than ' and "."""
    return not story.isascii() and _QUOTE.search(story) is not None


def has_blanks(story: str) -> bool:
    """Whether it has stray blanks."""
    if " \n" in story or "\t\n" in story or "\n\n\n" in story or story.endswith((" ", "\t")):
        return True
    return ("  " in story or "\t" in story) and _WITHIN.search(story) is not None


def mended_line_ends(story: str) -> str:
    """With \\n at the end of each line."""
    return story.replace("\r\n", "\n").replace("\r", "\n")


def mended_mojibake(story: str) -> str:
    """With the characters that were meant."""
    return MOJIBAKE.sub(_meant, story)


def _meant(found: re.Match[str]) -> str:
    try:
        return bytes(_READ_AS[character] for character in found[0]).decode("utf-8")
    except UnicodeDecodeError:  # a surrogate, or longer than it has to be: it was meant so
        return found[0]


def mended_quotes(story: str) -> str:
    """With ' and " for quotation marks."""
    return story.translate(QUOTES)


def mended_blanks(story: str) -> str:
    """Without stray blanks."""
    return _EMPTY_LINES.sub("\n\n", _WITHIN.sub(" ", _BEHIND.sub("", story)))


class Fault(NamedTuple):
    """What may be wrong with a story: whether it is, and the story without it."""

    found: Callable[[str], bool]
    mended: Callable[[str], str]


FAULTS = {
    "line_ends": Fault(has_line_ends, mended_line_ends),
    "mojibake": Fault(has_mojibake, mended_mojibake),
    "quotes": Fault(has_quotes, mended_quotes),
    "blanks": Fault(has_blanks, mended_blanks),
}


def faults_of(story: str) -> list[str]:
    """The names of what is found in a story."""
    return [name for name, fault in FAULTS.items() if fault.found(story)]


def mended(story: str, names: Collection[str]) -> str:
    """The story without the faults of these names."""
    for name, fault in FAULTS.items():
        if name in names and fault.found(story):
            story = fault.mended(story)
    return story
