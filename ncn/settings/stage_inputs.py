"""What a stage started from, compared with what is there before it writes.

DVC notes settings and code when a stage ends. What changed while it ran would stand in dvc.lock
beside outputs that were made without it, and count as up to date for ever.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncn.code_at_start import PACKAGES, code_at_start, code_now, files_of
from ncn.common.errors import InputError
from ncn.settings.yaml12 import read_yaml

DEFINITION = Path("dvc.yaml")
PARAMS = Path("params.yaml")
ABSENT = "absent"


class StageInputs:
    """The settings and files that dvc.yaml declares for a stage, as they are when this is made.

    To be made first, before settings are read. Code is told by its content, as it was before it was
    imported (`ncn.code_at_start`); data by size and time of its last change: it may be large, and
    DVC itself reads it whole afterwards.

    Args:
        stage: of dvc.yaml.
        item: what fills ${item.KEY} of a matrix stage, for example arm and seed.

    Raises:
        InputError: an output lies behind a link to a folder, where DVC keeps none.
    """

    def __init__(self, stage: str, **item: object) -> None:
        self._stage, self._item = stage, item
        self._refuse_links()
        self._before = self._there(code_at_start())

    @property
    def name(self) -> str:
        """As DVC calls the stage, for example train@ncn-1."""
        item = "-".join(map(str, self._item.values()))
        return f"{self._stage}@{item}" if item else self._stage

    def check(self) -> None:
        """Raise InputError where something has changed: what it is, and what to do."""
        now = self._there(code_now())
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

    def _there(self, code: Mapping[str, str]) -> dict[str, str]:
        """What there is now, with this code, by what it is called in an error."""
        declared = read_yaml(DEFINITION)["stages"][self._stage]
        params = read_yaml(PARAMS)
        found = {
            f"params.yaml: {key}": json.dumps(_at(params, key), sort_keys=True, default=str)
            for key in map(self._filled, declared.get("params", ()))
        }
        for place in map(Path, map(self._filled, declared.get("deps", ()))):
            if place.parts[0] in PACKAGES:
                found |= _below(str(place), code)
            else:
                found |= {str(file): _state(file) for file in files_of(place)}
        return found

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{item\.(\w+)\}", lambda found: str(self._item[found[1]]), text)


def stage_source(stage: str) -> dict[str, str]:
    """The sha256 of every module that `stage` declares and was started with, by file.

    That dvc.yaml declares all that computes is a test's business: DVC's view of what makes an
    output stale is then ours too.
    """
    code, deps = code_at_start(), read_yaml(DEFINITION)["stages"][stage]["deps"]
    declared = [_below(dep, code) for dep in deps]
    return {
        file: digest for files in declared for file, digest in files.items() if file.endswith(".py")
    }


def _below(place: str, code: Mapping[str, str]) -> dict[str, str]:
    """Of `code`, what is that file or lies in that folder."""
    return {
        file: digest
        for file, digest in code.items()
        if file == place or file.startswith(f"{place}/")
    }


def _at(params: Mapping[str, Any], key: str) -> Any:
    """The value below a dotted key; ABSENT where there is none."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _state(file: Path) -> str:
    """What tells two states of a file of data apart."""
    status = file.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns}"
