"""Text of the user's: which files a path names, by one rule.

A file is taken whatever its name. Of a folder, every `.txt` file in it and below, in any case of
the letters, links to folders followed; of a glob, what it matches. Left out of both, and counted:

    hidden              names that begin with a dot, as of checkpoints and of other systems' copies
    of other names      in a folder: no .txt
    empty               nothing but white space and delimiters
    the same text       a file whose bytes another one has already given

A folder that holds this repository, or belongs to the system, is refused, and so is a glob of all
that lies below one. So are more than MOST_FILES, which would take memory that grows with them.
"""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ncn.common.errors import InputError
from ncn.settings import END_OF_TEXT
from ncn.settings.data import expanded, fixed_part

SUFFIX = ".txt"
MOST_FILES = 100_000  # of some 1 kB each in the memory of download and of tokenize
SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/sbin",
    "/sys", "/tmp", "/usr", "/var",
)  # fmt: skip
# nor anything below these
NEVER = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/sbin", "/sys", "/usr")

Found = TypeVar("Found")


def find_texts(path: str, root: Path) -> tuple[list[Path], Counter[str]]:
    """The files that `data.path` names, in the order of the corpus, and how many it leaves out.

    Args:
        path: the setting; a relative one starts at `root`.
        root: of the repository.

    Raises:
        InputError: nothing is there, nothing of it is text, or it is no place for text.
    """
    place = root / expanded(path)
    left_out: Counter[str] = Counter()
    if place.is_file():
        return [place], left_out
    if place.is_dir():
        _refuse(path, place, root)
        found = _no_more(path, _below(path, place, set(), left_out))
    elif glob.has_magic(path):
        folder = fixed_part(place)
        if "**" in place.parts or any(folder.resolve().is_relative_to(each) for each in NEVER):
            _refuse(path, folder, root)
        matched = map(Path, _no_more(path, glob.iglob(str(place), recursive=True)))  # noqa: PTH207
        by_place = {file.resolve(): file for file in sorted(matched, key=_depth, reverse=True)}
        found = [file for file in by_place.values() if file.is_file()]
    elif place.exists():
        raise InputError(f"data.path: {path} is neither a file nor a folder")
    else:
        raise InputError(f"data.path: {path} does not exist (looked in {place.absolute()})")
    if not found:
        raise no_text(path, left_out)
    return sorted(found, key=lambda file: file.parts), left_out


def no_text(path: str, left_out: Mapping[str, int]) -> InputError:
    """What is said where nothing is left."""
    return InputError(f"data.path: {path} has no text: a {SUFFIX} file is needed{said(left_out)}")


def said(left_out: Mapping[str, int]) -> str:
    """What was left out, in words; nothing where nothing was."""
    counts = ", ".join(f"{number} {what}" for what, number in sorted(left_out.items()))
    return f" (left out: {counts})" if counts else ""


def _no_more(path: str, found: Iterable[Found]) -> list[Found]:
    """What is found, in a list, of at most MOST_FILES."""
    some = list(islice(found, MOST_FILES + 1))
    if len(some) > MOST_FILES:
        raise InputError(
            f"data.path: {path} holds more than {MOST_FILES:,} files: join them into fewer, with"
            f" {END_OF_TEXT} between two texts"
        )
    return some


def _below(
    path: str, folder: Path, seen: set[tuple[int, int]], left_out: Counter[str]
) -> Iterator[Path]:
    """The text files of a folder and those below; each folder once, whatever links lead to it."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        entries = sorted(_no_more(path, folder.iterdir()))
    except PermissionError as error:
        raise InputError(f"data.path: {folder}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            left_out["hidden"] += 1
        elif entry.is_dir():
            yield from _below(path, entry, seen, left_out)
        elif entry.is_file() and entry.suffix.lower() == SUFFIX:
            yield entry
        else:
            left_out["of other names"] += 1


def _depth(place: Path) -> int:
    """How far down: of a file that links lead to again and again, the shortest path counts."""
    return len(place.parts)


def _refuse(path: str, folder: Path, root: Path) -> None:
    """Refuse a folder that takes in more than somebody's text."""
    real = folder.resolve()
    if root.resolve().is_relative_to(real):
        owner = "this repository"
    elif real.is_relative_to(root.resolve()):
        return
    elif str(real) in SYSTEM or any(real.is_relative_to(each) for each in NEVER):
        owner = "the system"
    else:
        return
    raise InputError(
        f"data.path: {path} holds what belongs to {owner}: name a folder of your text alone"
    )
