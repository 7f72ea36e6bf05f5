"""Tables as tab-separated text, written and read by the csv module."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ncn.common.errors import InputError
from ncn.common.files import replacing


def write_tsv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that share one set of columns as tab-separated text with a header.

    None is an empty cell: not measured. Without rows there is nothing to name the columns after,
    and the file is empty.
    """
    with replacing(path) as file:
        for number, row in enumerate(rows):
            if number == 0:
                file.write("\t".join(row) + "\n")
            cells = ("" if row[column] is None else str(row[column]) for column in rows[0])
            file.write("\t".join(cells) + "\n")


def read_tsv(path: str | Path) -> list[dict[str, str]]:
    """Read a tab-separated file with a header; raises InputError where it is missing or ragged."""
    try:
        header, *lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`, or `dvc pull`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError:
        raise InputError(f"{path} is empty: a header line was expected") from None
    columns = header.split("\t")
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise InputError(f"{path}: line {number} has {len(row)} of {len(columns)} columns")
    return [dict(zip(columns, row, strict=True)) for row in rows]
