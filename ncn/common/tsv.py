"""Tables as tab-separated text, as the csv module's dialect excel-tab has them, lines ended by \\n.

A cell with a tab, a quote or a line end stands in quotes, so whatever text is written comes back,
here and in every reader of that dialect (DVC's, pandas'). Numbers come back as text; None and ""
are the same empty cell.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ncn.common.errors import InputError
from ncn.common.files import replacing


class _Table(csv.excel_tab):
    lineterminator = "\n"
    strict = True


def write_tsv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that share one set of columns as tab-separated text with a header.

    None is an empty cell: not measured. Without rows there is nothing to name the columns after,
    and the file is empty.
    """
    columns = list(rows[0]) if rows else []
    with replacing(path) as file:
        write = csv.writer(file, _Table).writerow
        # Python 3.11 and 3.12 quote what is in `lineterminator`, and no other line end.
        write_quoted = csv.writer(file, _Table, quoting=csv.QUOTE_ALL).writerow
        for row in [dict(zip(columns, columns, strict=True)), *rows] if rows else ():
            cells = ["" if row[column] is None else str(row[column]) for column in columns]
            (write_quoted if any("\r" in cell for cell in cells) else write)(cells)


def read_tsv(path: str | Path) -> list[dict[str, str]]:
    """Read a tab-separated file with a header; raises InputError where it is missing or ragged."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
        lines = csv.reader(io.StringIO(text, newline=""), _Table)
        columns = next(lines, [])
        if not columns:
            raise InputError(f"{path} is empty: a header line was expected")
        rows = []
        for cells in lines:
            if len(cells) != len(columns):
                raise InputError(
                    f"{path}: line {lines.line_num} has {len(cells)} of {len(columns)} columns"
                )
            rows.append(dict(zip(columns, cells, strict=True)))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`, or `dvc pull`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}: {error}") from None
    return rows
