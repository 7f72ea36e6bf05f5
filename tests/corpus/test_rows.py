"""Rows and tasks on disk: refused when they are not what meta.json says."""

import hashlib
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ncn.corpus.rows
from ncn.common.errors import InputError
from ncn.common.files import read_json, write_json
from ncn.corpus.rows import TOKEN, BlockDigests, StoredRows, open_rows, open_tasks
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


def forge(tmp_path: Path, name: str, content: bytes) -> None:
    """Change a file, and what meta.json says of it too."""
    (tmp_path / name).write_bytes(content)
    part, kind = name.split(".")
    meta = read_json(tmp_path / "meta.json")
    digests = BlockDigests(len(content) // meta[part]["rows"])
    digests.update(content)
    meta[part]["digests"][kind] = digests.digests()
    write_json(tmp_path / "meta.json", meta)


@pytest.mark.parametrize("kind", ["bin", "tasks"])
def test_a_flipped_bit_is_refused_where_it_is_read_and_nowhere_else(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(ncn.corpus.rows, "BLOCK_ROWS", 100)
    write(tmp_path, vocabulary, "story")
    opened = open_rows if kind == "bin" else open_tasks
    path = tmp_path / f"train.{kind}"
    whole = path.read_bytes()
    row_bytes = 34 if kind == "bin" else 2
    n_rows = len(whole) // row_bytes
    assert len(opened(tmp_path, "train")) == n_rows > 300
    for place in (0, 99 * row_bytes, 100 * row_bytes, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        row = place // row_bytes
        first = row // 100 * 100
        last = min(first + 99, n_rows - 1)
        rows = opened(tmp_path, "train")
        for others in (slice(first), slice(last + 1, None), [*range(first)]):
            rows[others]
        refusal = rf"train\.{kind}: rows {first} to {last} are not what"
        for damaged_too in (slice(None), slice(row, row + 1), [0, row], [row - n_rows]):
            with pytest.raises(InputError, match=refusal):
                rows[damaged_too]
        opened(tmp_path, "val")[:]


@given(st.data())
def test_rows_on_disk_are_taken_as_rows_in_memory(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    n_rows, block = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 50))
    content = np.arange(3 * n_rows, dtype=TOKEN).reshape(n_rows, 3)
    path = tmp_path_factory.mktemp("rows") / "train.bin"
    path.write_bytes(content.tobytes())
    row_numbers = st.lists(st.integers(-n_rows, n_rows - 1), max_size=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.rows, "BLOCK_ROWS", block)
        digests = BlockDigests(6)
        digests.update(content.tobytes())
        rows = StoredRows(path, content.shape, digests.digests(), 3 * n_rows, "token id")
        for _ in range(3):
            chosen = data.draw(st.one_of(st.slices(n_rows), row_numbers))
            np.testing.assert_array_equal(rows[chosen], content[chosen])


@given(st.lists(st.integers(0, 700), max_size=9))
def test_a_block_has_the_same_digest_however_it_came(lengths: list[int]) -> None:
    content = bytes(index % 251 for index in range(sum(lengths)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncn.corpus.rows, "BLOCK_ROWS", 10)
        digests = BlockDigests(34)
        for begin, length in zip(accumulate([0, *lengths]), lengths, strict=False):
            digests.update(content[begin : begin + length])
    blocks = [content[at : at + 340] for at in range(0, len(content), 340)]
    assert digests.digests() == [hashlib.sha256(block).hexdigest()[:32] for block in blocks]


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.bin"
    forge(tmp_path, "val.bin", b"\xff\xff" + path.read_bytes()[2:])
    with pytest.raises(InputError, match=r"token id 65535 is not below the 300 of meta\.json"):
        open_rows(tmp_path, "val")[:1]


def test_damaged_tasks_are_refused(tmp_path: Path, vocabulary: Path) -> None:
    write(tmp_path, vocabulary, "story")
    path = tmp_path / "val.tasks"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(InputError, match=r"val\.tasks: \d+ bytes, but meta\.json says \d+ numbers"):
        open_tasks(tmp_path, "val")
    forge(tmp_path, "val.tasks", b"\x01\x00" + whole[2:])
    with pytest.raises(InputError, match=r"val\.tasks: task 1 is not below the 1 of meta\.json"):
        open_tasks(tmp_path, "val")[:1]
    path.unlink()
    with pytest.raises(InputError, match=r"val\.tasks does not exist: run `dvc repro tokenize`"):
        open_tasks(tmp_path, "val")
