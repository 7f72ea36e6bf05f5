"""YAML files, read by PyYAML with the meaning that DVC gives them: that of ruamel.yaml, YAML 1.2.

PyYAML by itself follows YAML 1.1, in which `on` is true, 1:30 is 90 and 1e-5 is text. Here a file
means what ruamel makes of it, or it is refused. Refused here only: a key that is a list, or given
twice beside a merge (`<<`), an anchor given twice, `!!omap`, `%YAML 1.1` (by which ruamel turns to
the old rules), and what libyaml's parser takes for malformed, such as `[:a]` or `a: [b:]`.
Refused by ruamel only: a tab inside plain text, a comment right behind `|`. Different in meaning:
a `!` with nothing behind it (text here, null there), and what else fuzzing found: `{&a: 1}`,
`{? :: 1}`.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from yaml import (
    CollectionEndEvent,
    CollectionStartEvent,
    CSafeLoader,
    MappingNode,
    Node,
    ScalarNode,
    YAMLError,
)
from yaml.constructor import ConstructorError

from ncn.common.errors import InputError
from ncn.settings.values import shown

TAG = "tag:yaml.org,2002:"

# What plain text is, the first that matches: the patterns of ruamel.yaml.resolver for YAML 1.2,
# and the characters that each may begin with.
PLAIN = {
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "int": ("[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
    "merge": ("<<", "<"),
    "null": ("|~|null|Null|NULL", ["", "~", "n", "N"]),
    "timestamp": (
        "[0-9]{4}-[0-9]{2}-[0-9]{2}"
        r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
        r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?",
        "0123456789",
    ),
    "value": ("=", "="),
}
BASES = {"0b": 2, "0o": 8, "0x": 16}  # else 10, also behind a leading 0


class Yaml12Loader(CSafeLoader):
    """libyaml's parser, with the meaning that YAML 1.2 gives to what it finds.

    Not PyYAML's own parser: it takes 6 times as long (dvc.lock: 120 ms, libyaml 20, ruamel 180) and
    reads `[a:]` as a mapping.
    """

    def construct_yaml_int(self, node: ScalarNode) -> int:
        """No base of 60, octal only as 0o17, and none so long that Python would not write it."""
        text = self.construct_scalar(node).replace("_", "")
        number = int(text, BASES.get(text.lstrip("+-")[:2], 10))
        str(number)  # raises where a decimal of that length does: in another base none is too long
        return number

    def construct_yaml_float(self, node: ScalarNode) -> float:
        """No base of 60."""
        text = self.construct_scalar(node).replace("_", "").lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_yaml_timestamp(self, node: ScalarNode) -> date:
        """Rounded to a microsecond, which PyYAML by itself cuts off."""
        moment = super().construct_yaml_timestamp(node)
        more = re.search(r"\.[0-9]{6}([5-9])", node.value)
        return moment + timedelta(microseconds=1) if more else moment

    def flatten_mapping(self, node: MappingNode) -> None:
        """Lay merged mappings below `node`'s own entries, none of which may be there twice."""
        n_own = sum(key.tag != f"{TAG}merge" for key, _ in node.value)
        if len(node.value) > n_own + 1:
            raise ConstructorError(None, None, "found << twice in a mapping", node.start_mark)
        super().flatten_mapping(node)
        n_merged = len(node.value) - n_own
        entries = {self._key(key): (key, value) for key, value in node.value[:n_merged]}
        mine = set()
        for key_node, value in node.value[n_merged:]:
            key = self._key(key_node)
            if key in mine:
                problem = f"found the key {shown(key)} twice"
                raise ConstructorError(None, None, problem, key_node.start_mark)
            mine.add(key)
            entries[key] = (key_node, value)
        node.value = list(entries.values())

    def _key(self, node: Node) -> Hashable:
        key = self.construct_object(node, deep=True)
        if not isinstance(key, Hashable):
            raise ConstructorError(None, None, "found a key that is a collection", node.start_mark)
        return key


def _refusing(name: str) -> Callable[[Any, Any], Any]:
    """A constructor of the loader whose failure is the file's: a 13th month, `!!int ten`, `-_`."""
    construct = getattr(Yaml12Loader, f"construct_yaml_{name}")

    def construct_or_refuse(loader: Yaml12Loader, node: ScalarNode) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, OverflowError, KeyError, AttributeError):
            problem = f"{shown(node.value)} is no usable {name}"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    return construct_or_refuse


for _name in ("bool", "int", "float", "timestamp"):
    Yaml12Loader.add_constructor(TAG + _name, _refusing(_name))
del Yaml12Loader.yaml_constructors[f"{TAG}omap"]  # pairs there, a dictionary in ruamel
Yaml12Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
for _name, (_pattern, _firsts) in PLAIN.items():
    Yaml12Loader.add_implicit_resolver(TAG + _name, re.compile(f"(?:{_pattern})$"), _firsts)


DEEPEST = 100  # collections in each other: the loader takes stack for each, and has no limit
MOST_COPIES = 1_000_000  # a few aliases of aliases can stand for more than memory holds


def parse_yaml(text: str) -> Any:
    """The one document in `text`; what would execute something is refused.

    Where an alias stands is a copy of its own: who changes one place changes no other.

    Raises:
        YAMLError: it is no YAML 1.2, more than one document, or nested too deep; an alias stands in
            what it stands for, or all of them stand for too much.
    """
    depth = 0
    for event in yaml.parse(text, CSafeLoader):
        if getattr(event, "version", None) not in (None, (1, 2)):
            raise YAMLError("its %YAML directive asks for another version than 1.2")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise YAMLError("it is nested too deep")
    try:
        return _unshared(yaml.load(text, Yaml12Loader), count(1))
    except RecursionError:  # by aliases of aliases
        raise YAMLError("it is nested too deep") from None


def _unshared(value: Any, copies: Iterator[int], around: tuple[int, ...] = ()) -> Any:
    """`value` with a copy of its own at each place; `copies` counts them."""
    if not isinstance(value, dict | list):
        return value
    if id(value) in around:
        raise YAMLError("an alias stands in what it stands for")
    if next(copies) > MOST_COPIES:
        raise YAMLError(f"it has more than {MOST_COPIES:,} mappings and lists, aliases written out")
    around = (*around, id(value))
    if isinstance(value, list):
        return [_unshared(each, copies, around) for each in value]
    return {key: _unshared(each, copies, around) for key, each in value.items()}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        InputError: one line that names the file, the place in it and what is wrong there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not YAML: {_in_one_line(error)}") from None
    return parse_sections(text, str(path))


def parse_sections(text: str, where: str) -> dict[str, Any]:
    """The mapping in `text`; raises as `read_yaml` does, with `where` in place of the file."""
    try:
        content = parse_yaml(text)
    except YAMLError as error:
        raise InputError(f"{where} is not YAML: {_in_one_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected sections (a mapping), found {type(content).__name__}")
    return content


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    what = " ".join(filter(None, (getattr(error, "context", ""), getattr(error, "problem", ""))))
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}"
