"""The code as a process found it, before it loaded what computes.

DVC notes code when a stage ends. A file that is edited between being imported and being looked at
would be taken for what ran, so `stages/__init__.py`, which Python loads before any stage, looks
first. It reads every file, a megabyte, in a hundredth of the time that importing torch takes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ncn.common.files import sha256_of

PACKAGES = ("stages", "ncn", "kernels")

_noted: dict[Path, Mapping[str, str]] = {}  # by project


def note_code() -> None:
    """Keep what `code_now` finds, for `code_at_start`. To be called before ours is imported."""
    _noted[Path.cwd()] = code_now()


def code_at_start() -> Mapping[str, str]:
    """As `code_now`, of when it was noted; where nothing was noted, of now."""
    return _noted.get(Path.cwd()) or code_now()


def code_now() -> dict[str, str]:
    """The sha256 of every file of code, by its path from the project's root."""
    return {str(file): sha256_of(file) for package in PACKAGES for file in files_of(Path(package))}


def files_of(place: Path) -> Iterator[Path]:
    """A file, or the files below a folder, in order; compiled Python left out."""
    if place.is_dir():
        yield from (
            file for file in sorted(place.rglob("*")) if file.is_file() and file.suffix != ".pyc"
        )
    elif place.exists():
        yield place
