"""requirements.lock as it reads: every package at one version."""

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from ncn.common.errors import InputError

PINNED = re.compile(r"^[A-Za-z0-9][\w.-]*==")


def locked(path: Path) -> list[Requirement]:
    """The packages that a lock file pins, with their markers, in its order.

    Raises:
        InputError: there is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: git checkout {path}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    # A comment, or the backslash before a line of hashes, is no part of it.
    pinned = [re.split(r"\s[#\\]", line)[0] for line in lines if PINNED.match(line)]
    try:
        return [Requirement(each) for each in pinned]
    except InvalidRequirement as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path}: {why}: git checkout {path}") from None
