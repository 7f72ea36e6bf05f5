"""Files are whole or absent, whoever else writes them and whatever an earlier process left."""

import threading
from pathlib import Path

import pytest

from ncn.common.files import replacing


def test_two_writers_of_one_file_come_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"

    def write_again() -> None:
        with replacing(path, "wb") as file:
            file.write(b"second")

    with replacing(path, "wb") as file:
        file.write(b"the first, ")
        other = threading.Thread(target=write_again)
        other.start()
        other.join(0.3)
        assert other.is_alive()
        file.write(b"to its end")
        file.flush()
        assert (tmp_path / ".ids.bin.new").read_bytes() == b"the first, to its end"
    other.join(30)
    assert path.read_bytes() == b"second"
    assert [*tmp_path.iterdir()] == [path]


def test_a_writer_that_fails_leaves_the_next_ones_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    def write_again() -> None:
        with replacing(path) as file:
            file.write("second")

    other = threading.Thread(target=write_again)
    with pytest.raises(KeyError), replacing(path) as file:
        file.write("first")
        other.start()
        other.join(0.1)
        raise KeyError
    other.join(30)
    assert path.read_text() == "second"


def test_what_a_killed_process_left_beside_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".a.json.new").write_text("longer than what comes now")
    with replacing(tmp_path / "a.json") as file:
        file.write("short")
    assert (tmp_path / "a.json").read_text() == "short"
