"""Profiles: files that hold only what differs, laid over params.yaml.

params.yaml is written in the form that DVC gives it: comments, order and number formats stay. It
is plain: where an alias (`*x`) or a merge (`<<`) stood is a copy of what it stood for, so that a
change of one place is a change of no other.
"""

import json
from collections.abc import Callable, Mapping, MutableMapping
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import Comment, CommentedMap, CommentedSeq, Format
from ruamel.yaml.error import YAMLError

from ncn.common.errors import InputError
from ncn.settings.whole import Params
from ncn.settings.yaml12 import read_yaml

PROFILES = Path("profiles")

# Sections whose keys are names that the user gives: a profile may bring new ones.
NAMED_FREELY = (("arms",), ("sizes",), ("train", "lr_scale"), ("adapt", "control"))


class Change(NamedTuple):
    """One setting that a profile changed; `before` is None where it is new."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """The change as a line, for example `train.lr: 0.002 -> 0.0006`."""
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def overlay(
    content: MutableMapping[str, Any],
    changes: Mapping[str, Any],
    in_place_of: Callable[[Any, Any], Any] = lambda before, after: after,
    above: tuple[str, ...] = (),
) -> list[Change]:
    """Lay `changes` over `content`, in place, and return the settings whose value is another now.

    Args:
        content: of params.yaml.
        changes: of a profile.
        in_place_of: what is written for a new value, given the old one and it.
        above: the sections around `content`.

    Raises:
        InputError: a key that `content` lacks, unless the user names what is there.
    """
    made: list[Change] = []
    for name, after in changes.items():
        path = (*above, str(name))
        key = ".".join(path)
        named_freely = any(above[: len(section)] == section for section in NAMED_FREELY)
        if name not in content and not named_freely:
            raise InputError(f"{key}: unknown key; allowed are {', '.join(map(str, content))}")
        before = content.get(name)
        if isinstance(before, MutableMapping) and isinstance(after, Mapping):
            made += overlay(before, after, in_place_of, path)
        elif name not in content or before != after:
            made.append(Change(key, before, after))
            content[name] = in_place_of(before, after)
    return made


def experiment(
    name: str, params_path: str | Path = "params.yaml", profiles: Path = PROFILES
) -> Params:
    """The experiment with profiles/NAME.yaml laid over it, in memory: no file changes."""
    content = read_yaml(params_path)
    overlay(content, read_yaml(profiles / f"{name}.yaml"))
    return Params.model_validate(content)


def _shown(value: Any) -> str:
    """A value in one line: text as it is, everything else as JSON, which is YAML too."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def read_commented(path: str | Path) -> Any:
    """The content of a YAML file with its comments; raises as `read_yaml` does."""
    read_yaml(path)  # for its one-line errors
    try:
        return _plain(_yaml().load(Path(path).read_text(encoding="utf-8")))
    except YAMLError as error:  # what only this reader refuses, as a tab within a word
        words = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read with its comments: {words}") from None


def written(content: Any) -> str:
    """`content` as the text of a YAML file."""
    text = StringIO()
    _yaml().dump(content, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.default_flow_style = False
    return yaml


def _plain(value: Any) -> Any:
    """`value` with a copy of its own at each place, and without anchors and merges."""
    copy: CommentedMap | CommentedSeq
    match value:
        case CommentedMap():
            copy = CommentedMap((_plain(key), _plain(each)) for key, each in value.items())
        case CommentedSeq():
            copy = CommentedSeq(map(_plain, value))
        case _:
            if getattr(value, "anchor", None) is not None:
                value.anchor.value = None
            return value
    for attribute in (Comment.attrib, Format.attrib):
        if hasattr(value, attribute):
            setattr(copy, attribute, deepcopy(getattr(value, attribute)))
    return copy
