"""Values of nested mappings by dotted key: `ncn.val_ppl`, `train.lr`."""

from collections.abc import Iterator, Mapping
from typing import Any


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
