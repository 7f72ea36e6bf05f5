"""What lies in data/raw and is not the pipeline's: it stays, and is refused.

DVC empties an output before its stage runs, but not this one, which is `persist`: the stage itself
replaces it, as a whole.
"""

import json
from pathlib import Path

from ncn.common.dvc_cache import holds
from ncn.common.errors import InputError
from ncn.common.files import md5_of

MANIFEST = "manifest.json"


def foreign(directory: Path) -> list[Path]:
    """The files that its manifest does not name, and of which DVC's cache has no copy.

    The cache has one of what a `dvc pull` that broke off has left without a manifest.
    """
    try:
        fetched = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["files"]
        known = {MANIFEST, *(file["path"] for file in fetched)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = {MANIFEST}
    others = [
        file for file in _files(directory) if file.relative_to(directory).as_posix() not in known
    ]
    return [file for file in others if not (file.is_file() and holds([md5_of(file)]))]


def refuse_foreign(directory: Path) -> None:
    """Raise InputError where replacing `directory` would lose a file of the user's."""
    if found := foreign(directory):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise InputError(
            f"{found[0]}{more} was not fetched by the pipeline, which replaces {directory}: move"
            " it elsewhere"
        )


def clear(directory: Path) -> None:
    """Delete the files, the manifest last: killed on the way, the next run still knows them."""
    for file in _files(directory):
        if file != directory / MANIFEST:
            file.unlink()
    (directory / MANIFEST).unlink(missing_ok=True)


def _files(directory: Path) -> list[Path]:
    return sorted(file for file in directory.rglob("*") if not file.is_dir())
