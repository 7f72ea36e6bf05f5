"""Lay a profile, which holds only what differs, over params.yaml, and show what changed.

python -m ncn profile NAME [--params params.yaml]

Nested sections merge; lists and single values replace. Comments, order and number formats of
params.yaml stay, in the form that `dvc exp run -S` writes too; an alias becomes a copy of what it
stands for. A result that the pipeline would refuse is never written.
"""

import argparse
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.tokens import CommentToken

from ncn.common.errors import InputError
from ncn.common.files import replacing
from ncn.monitoring.cost import experiment_cost
from ncn.settings import load_params
from ncn.settings.profiles import PROFILES, Change, overlay, read_commented, written


def apply_profile(
    name: str, params_path: str | Path = "params.yaml", profiles: Path = PROFILES
) -> list[Change]:
    """Lay `profiles/NAME.yaml` over `params_path` and return what changed.

    The file is replaced as a whole, after its new content has passed `load_params`; where nothing
    changes, or anything is wrong, not one byte of it does.

    Raises:
        InputError: no such profile, a file that is not YAML, an unknown key, or settings that the
            pipeline would refuse.
    """
    available = sorted(path.stem for path in profiles.glob("*.yaml"))
    if name not in available:
        raise InputError(f"no profile {name!r} in {profiles}/; there are {', '.join(available)}")
    profile = profiles / f"{name}.yaml"
    content, laid = read_commented(params_path), read_commented(profile)
    try:
        changes = overlay(content, laid, _in_place_of)
    except InputError as error:
        raise InputError(f"{profile}: {error}") from None
    if not changes:
        return changes
    with replacing(params_path) as file:
        file.write(written(content))
        file.flush()
        try:
            load_params(file.name)
        except InputError as error:
            problem = str(error).removeprefix(f"{file.name}: ")
            raise InputError(f"{params_path} with {profile} over it: {problem}") from None
    return changes


def _in_place_of(before: Any, after: Any) -> Any:
    """`after`; as a list it keeps the blank line or comment that follows the list `before`.

    ruamel holds that text on the list's last entry, with which it would go away.
    """
    if not isinstance(after, CommentedSeq):
        return after
    entries = CommentedSeq(after)  # without the profile's own comments and blank lines
    if isinstance(before, CommentedSeq) and before and entries:
        last, *_ = before.ca.items.get(len(before) - 1, [None])
        if last is not None:
            _own_comment, line_end, following = last.value.partition("\n")
            text = CommentToken(line_end + following, last.start_mark)
            entries.ca.items[len(entries) - 1] = [text, None, None, None]
    return entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("name", metavar="NAME", help="a file of profiles/, without .yaml")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")


def run(arguments: argparse.Namespace) -> None:
    """Lay profiles/NAME.yaml over params.yaml; print each changed key, the cost, the way back."""
    changes = apply_profile(arguments.name, arguments.params)
    print("\n".join(map(str, changes)) or "nothing changed")
    print(f"back to the committed settings: git checkout {arguments.params}")
    print(experiment_cost(load_params(arguments.params)))
