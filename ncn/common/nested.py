"""Values as JSON and YAML nest them: by dotted key, and whether one is a finite number."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def leaves(value: Any, key: str = "", into_lists: bool = False) -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, with its dotted key; key "" for a value that is none itself.

    Args:
        value: of JSON or YAML.
        key: where it stands.
        into_lists: the entries of a list too, `key[0]`, instead of the list.
    """
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from leaves(each, f"{key}.{name}" if key else str(name), into_lists)
    elif isinstance(value, list) and into_lists:
        for place, each in enumerate(value):
            yield from leaves(each, f"{key}[{place}]", into_lists)
    else:
        yield key, value


def changed_keys(one: Any, other: Any) -> list[str]:
    """The dotted keys whose value differs, or that only one of the two has."""
    mine, theirs = dict(leaves(one)), dict(leaves(other))
    absent = object()
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return [key for key in keys if mine.get(key, absent) != theirs.get(key, absent)]


def numbers(value: Any) -> dict[str, float]:
    """Every number of a nested JSON value, by dotted key."""
    return {
        key: each
        for key, each in leaves(value)
        if isinstance(each, int | float) and not isinstance(each, bool)
    }


def differences(mine: Any, other: Any, called: str) -> str:
    """`identical`, or the largest relative difference and what only one side has.

    Args:
        mine: called `here`.
        other: of the same kind.
        called: what the other is called.
    """
    here, there = numbers(mine), numbers(other)
    if here == there:
        return "identical"
    parts = []
    if shared := {key for key in here.keys() & there.keys() if here[key] != there[key]}:
        largest = max(
            sorted(shared),
            key=lambda k: abs(here[k] - there[k]) / max(abs(here[k]), abs(there[k])),
        )
        parts.append(
            f"{len(shared)} numbers differ, most {largest}:"
            f" {here[largest]!r} here, {there[largest]!r} {called}"
        )
    parts += [f"only here: {key}" for key in sorted(here.keys() - there.keys())[:3]]
    parts += [f"only {called}: {key}" for key in sorted(there.keys() - here.keys())[:3]]
    return "; ".join(parts)
