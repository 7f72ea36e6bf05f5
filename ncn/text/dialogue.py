"""Whether somebody speaks in a story: what a real text is cut in two by, docs/adaptation.md."""

from ncn.settings.data import Dialogue

MARKS = ('"', "\u201c", "\u201d")  # straight and curly; of single ones most are apostrophes


def has_dialogue(story: str) -> bool:
    """Whether a double quotation mark stands in it."""
    return any(mark in story for mark in MARKS)


def is_of(story: str, wanted: Dialogue) -> bool:
    """Whether a story is of those that `text.dialogue` wants: any, without or with."""
    return wanted == "any" or has_dialogue(story) == (wanted == "with")
