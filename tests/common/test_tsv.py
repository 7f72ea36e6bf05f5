"""Tables: whatever text is written comes back, here and in DVC, and damage is one line."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dvc.repo.plots import _load_sv
from hypothesis import example, given
from hypothesis import strategies as st

from ncn.common.errors import InputError
from ncn.common.tsv import read_tsv, write_tsv

AWKWARD = [
    '"',
    '"x"',
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\u0085",
    "\x0b",
    "\x1c",
    "\x00",
    " ",
    "",
]
CELLS = st.none() | st.text() | st.lists(st.sampled_from(AWKWARD)).map("".join)
TABLES = st.lists(st.text(), min_size=1, max_size=4, unique=True).flatmap(
    lambda columns: st.lists(st.fixed_dictionaries(dict.fromkeys(columns, CELLS)), min_size=1)
)


def one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(TABLES)
@example([{"token": each} for each in AWKWARD])
@example([{"": None}])
def test_every_cell_comes_back_here_and_in_dvc(rows: list[dict[str, str | None]]) -> None:
    """But for None, which comes back as "": the two are one empty cell."""
    expected = [{name: cell or "" for name, cell in row.items()} for row in rows]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.tsv"
        write_tsv(path, rows)
        with open(path, encoding="utf-8", newline="") as file:
            standard = list(csv.DictReader(file, dialect="excel-tab"))
        assert read_tsv(path) == standard == expected
        # DVC opens the file as text, which makes every line end, in a cell too, a \n.
        as_text = _load_sv(path.read_text(encoding="utf-8"), "\t")
    columns = list(rows[0])
    assert as_text == [
        {one_line_end(name): one_line_end(row[name]) for name in columns} for row in expected
    ]


def test_ordinary_tables_are_plain_lines(tmp_path: Path) -> None:
    write_tsv(tmp_path / "t.tsv", [{"arm": "a b", "loss": 1e-17}, {"arm": "·x", "loss": None}])
    assert (tmp_path / "t.tsv").read_bytes() == "arm\tloss\na b\t1e-17\n·x\t\n".encode()


def test_no_rows_are_an_empty_file(tmp_path: Path) -> None:
    write_tsv(tmp_path / "t.tsv", [])
    assert (tmp_path / "t.tsv").read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\tb\n1\n", "line 2 has 1 of 2 columns"),
        (b"a\tb\n1\t2\n\n", "line 3 has 0 of 2 columns"),
        (b'a\tb\n"1\t2\n', "line 2: unexpected end of data"),
        (b"a\n\xff\n", "is not UTF-8: invalid start byte at byte 2"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "t.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as refused:
        read_tsv(path)
    assert "\n" not in str(refused.value)
