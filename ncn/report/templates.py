"""Jinja templates: a name that is missing is an error, and no line is blank for a tag's sake."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


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
