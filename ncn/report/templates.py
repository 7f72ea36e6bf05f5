"""Jinja templates: a name that is missing is an error, and no line is blank for a tag's sake."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from ncn.common.errors import InputError
from ncn.common.files import as_written


def environment(folder: Path, autoescape: bool = False) -> Environment:
    """Where the templates of a folder are read and filled; `autoescape` for HTML."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@contextmanager
def filled_from(*paths: str | Path) -> Iterator[None]:
    """A template is filled from these files, taken for what stages write into them.

    Raises:
        InputError: a value is missing in them, or of another type.
    """
    try:
        with as_written(*paths):
            yield
    except UndefinedError as error:
        where = ", ".join(map(str, paths))
        why = " ".join(str(error).split())[:120]
        raise InputError(f"{where}: {why}: run `dvc repro`, or `dvc checkout`") from error
