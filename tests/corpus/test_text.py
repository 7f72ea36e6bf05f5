"""Stories out of text files."""

from pathlib import Path

import pytest

from ncn.common.errors import InputError
from ncn.corpus.text import read_stories


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"fine\n\xff\xfe", "byte 5 is not UTF-8"),
        (b"one<|endoftext|>two \xc3", "byte 20 is not UTF-8"),
    ],
)
def test_text_that_is_not_utf8_names_file_and_byte(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        list(read_stories([path]))
    assert "bad.txt" in str(error.value)
