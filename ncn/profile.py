"""Lay a profile, which holds only what differs, over params.yaml, and show what changed.

python -m ncn.profile NAME [--params params.yaml]

Nested sections merge; lists and single values replace. Comments, order and number formats of
params.yaml stay, and a result that the pipeline would refuse is never written.
"""

import argparse
import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from ncn.config import Params, load_params, read_yaml
from ncn.errors import InputError, run_command
from ncn.estimate import experiment_cost
from ncn.files import replacing

PROFILES = Path("profiles")

# Sections whose keys are names that the user gives: a profile may bring new ones.
NAMED_FREELY = ("arms",)


class Change(NamedTuple):
    """One setting that a profile changed; `before` is None where it is new."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """The change as a line, for example `train.lr: 0.002 -> 0.0006`."""
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def overlay(content: MutableMapping[str, Any], changes: Mapping[str, Any]) -> list[Change]:
    """Lay `changes` over `content`, in place, and return the settings whose value is another now.

    Raises:
        InputError: a key that `content` lacks, unless below `arms`.
    """
    return _overlay(content, changes, ())


def _overlay(
    content: MutableMapping[str, Any], changes: Mapping[str, Any], above: tuple[str, ...]
) -> list[Change]:
    made: list[Change] = []
    for name, after in changes.items():
        path = (*above, str(name))
        key = ".".join(path)
        if name not in content and above[:1] != NAMED_FREELY:
            raise InputError(f"{key}: unknown key; allowed are {', '.join(map(str, content))}")
        before = content.get(name)
        if isinstance(before, MutableMapping) and isinstance(after, Mapping):
            made += _overlay(before, after, path)
        elif name not in content or before != after:
            made.append(Change(key, before, after))
            content[name] = _in_place_of(before, after)
    return made


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
    content, laid = _read(params_path), _read(profile)
    try:
        changes = overlay(content, laid)
    except InputError as error:
        raise InputError(f"{profile}: {error}") from None
    if not changes:
        return changes
    with replacing(params_path) as file:
        _yaml().dump(content, file)
        file.flush()
        try:
            load_params(file.name)
        except InputError as error:
            problem = str(error).removeprefix(f"{file.name}: ")
            raise InputError(f"{params_path} with {profile} over it: {problem}") from None
    return changes


class _Representer(RoundTripRepresenter):
    """Writes null as `null`; ruamel by itself leaves the place empty."""


_Representer.add_representer(
    type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _yaml() -> YAML:
    """Reads and writes params.yaml in its own style, so that only what changed differs in git."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 10_000  # never folds a long text
    return yaml


def _read(path: str | Path) -> Any:
    read_yaml(path)  # for its one-line errors
    return _yaml().load(Path(path).read_text(encoding="utf-8"))


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


def _shown(value: Any) -> str:
    """A value in one line: text as it is, everything else as JSON, which is YAML too."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def experiment(name: str, params_path: str | Path = "params.yaml") -> Params:
    """The experiment with profiles/NAME.yaml laid over it, in memory: no file changes."""
    content = read_yaml(params_path)
    overlay(content, read_yaml(Path(params_path).parent / PROFILES / f"{name}.yaml"))
    return Params.model_validate(content)


def main() -> None:
    """Apply the profile named on the command line; print each changed key and the way back."""
    parser = argparse.ArgumentParser(description="Lay profiles/NAME.yaml over params.yaml.")
    parser.add_argument("name", metavar="NAME", help="a file of profiles/, without .yaml")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    options = parser.parse_args()
    changes = apply_profile(options.name, options.params)
    print("\n".join(map(str, changes)) or "nothing changed")
    print(f"back to the committed settings: git checkout {options.params}")
    print(experiment_cost(load_params(options.params)))


if __name__ == "__main__":
    run_command(main)
