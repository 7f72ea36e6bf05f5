"""Files that are either whole or absent: written beside their place, synced, then renamed."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ncn.common.errors import InputError


@contextmanager
def replacing(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends, and not at all if it fails.

    Whoever else writes the same file waits: the workers of a process that was killed go on with
    what they are at, while the same command has begun again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with _alone(beside, mode) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _alone(path: Path, mode: str) -> IO[Any]:
    """An empty file that nobody else writes, as long as it is open."""
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    while True:
        file = open(  # noqa: SIM115 (the caller closes it)
            path, mode, encoding=encoding, newline=newline, opener=_as_it_is
        )
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            if path.stat().st_size:  # left by a process that was killed
                file.truncate(0)
            return file
        file.close()  # another has meanwhile renamed or deleted it


def _as_it_is(path: str, flags: int) -> int:
    """Opened as `open` would, but not emptied: somebody may be writing there."""
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


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


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raises InputError where it is missing or damaged."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `dvc repro`, or `dvc pull`") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """What `text` of `where` says; raises InputError where it is damaged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from None


@contextmanager
def as_written(
    *paths: str | Path, fix: str = "run `dvc repro`, or `dvc checkout`"
) -> Iterator[None]:
    """What is made of these files, taken for what a stage writes into them.

    Args:
        paths: of the files, as a message names them.
        fix: what helps where they are not so.

    Raises:
        InputError: the block fails as it does where a value is missing or of another type.
    """
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = ", ".join(map(str, paths))
        if isinstance(error, KeyError):
            raise InputError(f"{where} has no {str(error)[:120]}: {fix}") from error
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{where}: not as a stage writes it ({why[:120]}): {fix}") from error


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of_directory(path: str | Path) -> str:
    """The md5 of a folder as DVC records it: of a list of its files with theirs, and `.dir`."""
    folder = Path(path)
    folder.stat()  # raises where it is not there
    files = (file for file in folder.rglob("*") if file.is_file())
    return md5_of_listing({f.relative_to(folder).as_posix(): md5_of(f) for f in files})


def md5_of_listing(files: Mapping[str, str]) -> str:
    """The md5 of a folder as DVC records it, given those of its files by their path in it."""
    listed = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def md5_of(path: str | Path) -> str:
    """The md5 of a file as DVC records it, 32 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
