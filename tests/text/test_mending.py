"""What is found in a story and mended, and that nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncn.text.mending import FAULTS, faults_of, mended

PLAIN = "Once, Tom said: \"It's a café – naïve…\"\n\n  He was Øystein's dog, 3 × 4.\nThe end."


@pytest.mark.parametrize(
    ("name", "story", "after"),
    [
        ("line_ends", "a\r\nb\rc\n", "a\nb\nc\n"),
        ("mojibake", "â€œItâ€™s a cafÃ©â€\x9d ðŸ˜€ Â£5", "“It’s a café” 😀 £5"),
        ("quotes", "“It’s ‘so’,” „he‟ said‚", "\"It's 'so',\" \"he\" said'"),
        ("blanks", "a  b \nc\t\n\n\n\n  d\t \te  ", "a b\nc\n\n  d e"),
    ],
)
def test_a_fault_is_found_and_mended_alone(name: str, story: str, after: str) -> None:
    assert name in faults_of(story)
    assert mended(story, [name]) == after
    assert mended(story, [other for other in FAULTS if other not in faults_of(story)]) == story
    assert faults_of(PLAIN) == []
    assert mended(PLAIN, list(FAULTS)) == PLAIN


def test_quotes_that_were_mojibake_become_plain() -> None:
    assert mended("â€œHiâ€\x9d", ["quotes", "mojibake"]) == '"Hi"'


@given(st.text())
def test_what_utf_8_read_as_windows_1252_was_comes_back(text: str) -> None:
    spoiled = "".join(
        bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte))
        for byte in text.encode("utf-8")
    )
    once_more = mended(text, ["mojibake"])  # by chance it may hold what looks spoiled already
    if once_more == text:
        assert mended(spoiled, ["mojibake"]) == text


ALPHABET = st.sampled_from("ab \t\r\n“’â€™Ã©\x9d")


@given(st.text(ALPHABET))
def test_found_is_what_mending_changes_and_once_is_enough(story: str) -> None:
    for name, fault in FAULTS.items():
        after = mended(story, [name])
        assert fault.found(story) == (after != story)
        if name != "mojibake":  # what was spoiled twice is mended once at a time
            assert not fault.found(after)


def test_long_runs_of_blanks_take_no_square_of_their_length() -> None:
    run = " \t" * 500_000  # a square would take hours
    assert mended(f"a{run}b{run}\n{run}", list(FAULTS)) == "a b\n"
