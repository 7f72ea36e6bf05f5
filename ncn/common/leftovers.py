"""Runs that params.yaml no longer names, and what a kill left half written.

DVC leaves such runs in the folders that stages depend on.
DVC cannot list an arm with each seed as a stage's dependencies, only the folder that holds the runs
(dvc#5293). A run that stays there would be recorded in dvc.lock, which a clone could not follow.
"""

import shutil
import time
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from ncn.common.dvc_cache import holds
from ncn.common.files import md5_of, md5_of_directory
from ncn.common.paths import ADAPTED, CACHED_RUNS, COPIED_RUNS, RAW, run_name
from ncn.common.progress import say
from ncn.common.scratch import is_locked, scratch

WRITTEN = ("metrics", "plots", "studies")  # below data/ there may be texts of the user's
RECENT_S = 3600.0  # nothing says whose a half-written file is: this long it may be somebody's


class Leftovers(NamedTuple):
    """What was `removed`, and what was `kept` since DVC's cache has no copy of it."""

    removed: list[Path]
    kept: list[Path]


def unnamed(folders: Sequence[Path], names: Set[str]) -> list[Path]:
    """What the folders hold of other names; half-written files and hidden ones not."""
    return sorted(
        place
        for folder in folders
        for place in folder.glob("[!.]*")
        if (place.name if place.is_dir() else place.stem) not in names
    )


def remove_unnamed(arms: Iterable[str], seeds: Sequence[int], dry: bool = False) -> Leftovers:
    """Remove what is there of other arms and runs: copies, and what comes back from DVC's cache.

    A folder that the cache does not have whole stays. With `dry`, everything does.
    """
    arms = list(arms)
    names = {*arms, *(run_name(arm, seed) for arm in arms for seed in seeds)}
    return _removed(unnamed(CACHED_RUNS, names), unnamed(COPIED_RUNS, names), dry)


def _removed(folders: Sequence[Path], copies: Sequence[Path], dry: bool) -> Leftovers:
    kept = [folder for folder in folders if not (folder.is_dir() and holds(digests(folder)))]
    removed = [place for place in (*folders, *copies) if place not in kept]
    for place in () if dry else removed:
        _remove(place)
    return Leftovers(removed, kept)


def remove_half_written(dry: bool = False) -> Leftovers:
    """Remove what a kill left: files and folders of `ncn.common.files`, and parts of downloads.

    What changed within the last hour stays, as it may be being written; so do all parts while
    somebody downloads. With `dry`, everything does.
    """
    places = [
        *Path().glob(".params.yaml.new"),
        *(place for folder in (RAW.parent, *CACHED_RUNS) for place in folder.glob(".*.new")),
        *(place for top in WRITTEN for place in Path(top).rglob(".*.new")),
    ]
    inside = [place for place in places if any(each in place.parents for each in places)]
    download = scratch() / "download"
    parts = list(download.glob("*.part"))
    downloads = (download / "lock").exists() and is_locked(download / "lock")
    found = sorted({*places, *parts} - {*inside})
    kept = [place for place in found if _is_recent(place) or (downloads and place in parts)]
    removed = [place for place in found if place not in kept]
    for place in () if dry else removed:
        _remove(place)
    return Leftovers(removed, kept)


def _is_recent(place: Path) -> bool:
    """Whether it, or anything in it, changed within the last hour."""
    since = time.time() - RECENT_S
    return any(each.lstat().st_mtime > since for each in (place, *place.rglob("*")))


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def digests(folder: Path) -> list[str]:
    """The md5 of a folder and of each file in it."""
    files = [md5_of(file) for file in folder.rglob("*") if file.is_file()]
    return [md5_of_directory(folder), *files]


def clear_leftovers(arms: Iterable[str], seeds: Sequence[int]) -> None:
    """`remove_unnamed` before a stage reads the folders, with a line for what there was."""
    _say(remove_unnamed(arms, seeds))


def clear_adapted(runs: Iterable[str]) -> None:
    """The same for the models that were trained again, by their names."""
    _say(_removed(unnamed([ADAPTED], {*runs}), [], dry=False))


def _say(found: Leftovers) -> None:
    if found.removed:
        say(f"removed, as params.yaml names no such run: {', '.join(map(str, found.removed))}")
    for place in found.kept:
        say(
            f"{place} is no run of params.yaml, and DVC's cache has no copy: it stays, and dvc.lock"
            " will name it; move it elsewhere before you share this"
        )
