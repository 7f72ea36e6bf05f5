"""Sizes of one experiment: settings `at_size` and `sizes`; and how settings are laid over others.

The stages that make models declare this file, as no other of this room: it decides what they make.

A run is of one size, `at_size`: what `sizes` says of it is laid over `model` and `train` when
params.yaml is read, so that nothing else has to know of sizes.

No setting may be called `size` or `nfiles`: DVC leaves keys of these names out of what it knows a
run by, and would hand out the results of one size for those of another.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StrictStr, model_validator

from ncn.settings.model import Model
from ncn.settings.train import Train
from ncn.settings.values import Settings, name_length

# Size names become folder names and parts of an experiment's name.
SizeName = Annotated[
    StrictStr, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_]*$"), AfterValidator(name_length)
]

SECTIONS: dict[str, type[Settings]] = {"model": Model, "train": Train}
# What of them other stages than `tune` and `train` read: it cannot differ.
ALIKE = {"context_length", "threads", "kernels"}


class Size(Settings):
    """What of `model` and `train` is different in a size."""

    model: dict[StrictStr, Any] = Field(default_factory=dict)
    train: dict[StrictStr, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_laid_over(self) -> Self:
        for section, kind in SECTIONS.items():
            for key in getattr(self, section):
                if key in ALIKE:
                    raise ValueError(
                        f"{section}.{key}: all sizes read the same rows and are computed alike"
                    )
                if key not in kind.model_fields:
                    allowed = ", ".join(sorted(kind.model_fields.keys() - ALIKE))
                    raise ValueError(f"{section}.{key}: unknown key; allowed are {allowed}")
        return self


def laid_over(section: Settings, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a section with those of `changes` that are its own in place of them."""
    mine = {key: value for key, value in changes.items() if key in type(section).model_fields}
    return section.model_dump() | mine


def of_its_size(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of params.yaml with its size laid over `model` and `train`.

    Raises:
        ValueError: there is no such size.
    """
    chosen, sizes = content.get("at_size"), content.get("sizes")
    if not isinstance(chosen, str) or not isinstance(sizes, Mapping):
        return dict(content)  # at_size is null, or will be refused
    if chosen not in sizes:
        names = ", ".join(map(str, sizes)) or "none yet"
        raise ValueError(f"at_size: {chosen!r} is not in sizes; allowed are null and {names}")
    changes = sizes[chosen] or {}
    if not isinstance(changes, Mapping):
        return dict(content)
    laid = {
        section: {**content[section], **changes[section]}
        for section in SECTIONS
        if isinstance(content.get(section), Mapping) and isinstance(changes.get(section), Mapping)
    }
    return {**content, **laid}
