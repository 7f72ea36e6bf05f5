"""Sizes of one experiment: settings `at_size` and `sizes`.

A run is of one size, `at_size`: what `sizes` says of it is laid over `model` and `train` when
params.yaml is read, so that nothing else has to know of sizes.

No setting may be called `size` or `nfiles`: DVC leaves keys of these names out of what it knows a
run by, and would hand out the results of one size for those of another.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictStr

from ncn.settings.values import Settings

# Size names become folder names and parts of an experiment's name.
SizeName = Annotated[StrictStr, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_]*$")]


# What other stages than `tune` and `train` read: it cannot differ.
ALIKE = {"model": {"context_length"}, "train": {"threads", "kernels"}}


class Size(Settings):
    """What of `model` and `train` is different in a size."""

    model: dict[StrictStr, Any] = Field(default_factory=dict)
    train: dict[StrictStr, Any] = Field(default_factory=dict)


def of_its_size(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of params.yaml with its size laid over `model` and `train`.

    Raises:
        ValueError: there is no such size, or it changes what is the same for all: see `ALIKE`.
    """
    chosen, sizes = content.get("at_size"), content.get("sizes")
    if chosen is None or not isinstance(sizes, Mapping):
        return dict(content)
    if chosen not in sizes:
        names = ", ".join(map(str, sizes)) or "none yet"
        raise ValueError(f"at_size: {chosen!r} is not in sizes; allowed are null and {names}")
    changes = sizes[chosen] or {}
    for section, alike in ALIKE.items():
        if taken := alike & {*(changes.get(section) or {})}:
            key = f"sizes.{chosen}.{section}.{min(taken)}"
            raise ValueError(f"{key}: all sizes read the same rows and are computed alike")
    laid = {
        section: {**content[section], **(changes.get(section) or {})}
        for section in Size.model_fields
        if isinstance(content.get(section), Mapping)
    }
    return {**content, **laid}
