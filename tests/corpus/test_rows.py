"""Rows and tasks on disk: refused when they are not what meta.json says."""

from pathlib import Path

import pytest

from ncn.common.errors import InputError
from ncn.corpus.rows import open_rows, open_tasks
from tests.corpus.vocabulary import write


def test_a_truncated_bin_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match=r"val\.bin: \d+ bytes, but meta\.json says"):
        open_rows(tmp_path, "val")
    path.unlink()
    with pytest.raises(InputError, match=r"val\.bin does not exist"):
        open_rows(tmp_path, "val")


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.bin"
    path.write_bytes(b"\xff\xff" + path.read_bytes()[2:])
    with pytest.raises(InputError, match=r"token id 65535 is not below the 300 of meta\.json"):
        open_rows(tmp_path, "val")


def test_damaged_tasks_are_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.tasks"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(InputError, match=r"val\.tasks: \d+ bytes, but meta\.json says \d+ numbers"):
        open_tasks(tmp_path, "val")
    path.write_bytes(b"\x01\x00" + whole[2:])
    with pytest.raises(InputError, match=r"val\.tasks: task 1 is not below the 1 of meta\.json"):
        open_tasks(tmp_path, "val")
    path.unlink()
    with pytest.raises(InputError, match=r"val\.tasks does not exist: run `dvc repro tokenize`"):
        open_tasks(tmp_path, "val")
