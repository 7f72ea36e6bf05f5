"""Files that are either whole or absent: written beside their place, synced, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ncn.errors import InputError


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends, and not at all if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    try:
        with open(beside, mode, encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty directory that takes `path`'s place when the block ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        shutil.rmtree(path, ignore_errors=True)
        beside.replace(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON. NaN and infinity are refused: JSON has neither."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def rounded(value: Any, digits: int = 6) -> Any:
    """A JSON value with every fraction cut to `digits` significant digits.

    The last digits of a fit or a mean depend on the machine, and a file in git should not.
    """
    return json.loads(json.dumps(value), parse_float=lambda x: float(f"{float(x):.{digits}g}"))


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raises InputError where it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`, or `dvc pull`") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None


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


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: str | Path) -> str:
    """The md5 of a file as DVC records it, 32 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
