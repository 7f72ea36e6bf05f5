"""What a stage started from, compared with what is there before it writes.

DVC notes settings and code when a stage ends. What changed while it ran would stand in dvc.lock
beside outputs that were made without it, and count as up to date for ever.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncn.common.errors import InputError
from ncn.common.files import sha256_of
from ncn.settings.yaml12 import read_yaml

DEFINITION = Path("dvc.yaml")
PARAMS = Path("params.yaml")
CODE = ("stages", "ncn", "kernels")
ABSENT = "absent"


class StageInputs:
    """The settings and files that dvc.yaml declares for a stage, as they are when this is made.

    To be made first, before settings are read. Code is told by its content, data by size and time
    of its last change: the data may be large, and DVC itself reads it whole afterwards.

    Args:
        stage: of dvc.yaml.
        item: what fills ${item.KEY} of a matrix stage, for example arm and seed.

    Raises:
        InputError: an output lies behind a link to a folder, where DVC keeps none.
    """

    def __init__(self, stage: str, **item: object) -> None:
        self._stage, self._item = stage, item
        self._refuse_links()
        self._before = self._there()

    @property
    def name(self) -> str:
        """As DVC calls the stage, for example train@ncn-1."""
        item = "-".join(map(str, self._item.values()))
        return f"{self._stage}@{item}" if item else self._stage

    def check(self) -> None:
        """Raise InputError where something has changed: what it is, and what to do."""
        now = self._there()
        changed = [
            f"{key} was {self._before.get(key, ABSENT)} and is {now.get(key, ABSENT)}"
            if key.startswith("params.yaml: ")
            else key
            for key in sorted(self._before.keys() | now.keys())
            if self._before.get(key) != now.get(key)
        ]
        if changed:
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise InputError(
                f"{self.name}: changed while the stage ran: {changed[0]}{more}; nothing was"
                " written. Put it back and run the same command: it goes on"
            )

    def _refuse_links(self) -> None:
        for out in read_yaml(DEFINITION)["stages"][self._stage].get("outs", ()):
            place = Path(self._filled(out if isinstance(out, str) else next(iter(out))))
            for folder in (*reversed(place.parents), place):
                if folder.is_symlink() and folder.is_dir():
                    raise InputError(
                        f"{self.name}: {folder} is a link to {folder.readlink()}, and DVC keeps no"
                        " output behind a link; for a bigger disk, put DVC's cache there instead:"
                        f" rm {folder}; dvc cache dir --local {folder.readlink()}/cache;"
                        " dvc config --local cache.type symlink"
                    )

    def _there(self) -> dict[str, str]:
        """What there is now, by what it is called in an error."""
        declared = read_yaml(DEFINITION)["stages"][self._stage]
        params = read_yaml(PARAMS)
        found = {
            f"params.yaml: {key}": json.dumps(_at(params, key), sort_keys=True, default=str)
            for key in map(self._filled, declared.get("params", ()))
        }
        for place in map(Path, map(self._filled, declared.get("deps", ()))):
            for file in _files(place):
                found[str(file)] = _state(file, whole=place.parts[0] in CODE)
        return found

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{item\.(\w+)\}", lambda found: str(self._item[found[1]]), text)


def stage_source(stage: str) -> dict[str, str]:
    """The sha256 of every module that `stage` declares, by file or by folder.

    That dvc.yaml declares all that computes is a test's business: DVC's view of what makes an
    output stale is then ours too.
    """
    deps = [Path(dep) for dep in read_yaml(DEFINITION)["stages"][stage]["deps"]]
    files = [file for dep in deps for file in ([dep] if dep.is_file() else dep.rglob("*.py"))]
    return {str(file): sha256_of(file) for file in sorted(files) if file.suffix == ".py"}


def _at(params: Mapping[str, Any], key: str) -> Any:
    """The value below a dotted key; ABSENT where there is none."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _files(place: Path) -> Iterator[Path]:
    """The files of a dependency, compiled Python left out."""
    if place.is_dir():
        yield from (
            file for file in sorted(place.rglob("*")) if file.is_file() and file.suffix != ".pyc"
        )
    elif place.exists():
        yield place


def _state(file: Path, whole: bool) -> str:
    """What tells two states of a file apart."""
    if whole:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    status = file.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns}"
