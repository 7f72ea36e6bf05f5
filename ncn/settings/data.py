"""The text and its tokens: sections `data`, `tokenizer` and `split`."""

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from ncn.common.errors import InputError
from ncn.common.paths import MODELS, RAW, SCORED, TOKENS, TUNED
from ncn.settings.values import Address, Count, Digest, Number, Settings, Share

MAX_VOCABULARY = 65_536  # tokens are stored as uint16
Dialogue = Literal["any", "without", "with"]
END_OF_TEXT = "<|endoftext|>"  # after each story, in text files and as a token


def expanded(path: str) -> Path:
    """A path as params.yaml has it, with ~ for somebody's folder.

    Raises:
        InputError: that somebody has none, or no path can be so.
    """
    if "\0" in path:
        raise InputError(f"path: {path!r}: no path has a NUL in it")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"path: {path}: {error}") from None


def refuse_outputs(path: str) -> None:
    """Refuse a path, links followed, that leads into a folder that the pipeline empties.

    Raises:
        ValueError: it lies in one, is a folder of the repository that holds one, or a glob that may
            match in one; says which.
    """
    root = Path(os.environ.get("DVC_ROOT", ".")).resolve()
    place = root / expanded(path)
    fixed = fixed_part(place)
    real = fixed.resolve()
    wanted = place.relative_to(fixed).parts  # of a glob
    for output in (RAW, TOKENS, TUNED, MODELS, SCORED):
        emptied = (root / output).resolve()
        if real.is_relative_to(emptied):
            how = "lies in"
        elif not wanted and emptied.is_relative_to(real) and root in real.parents:
            how = "holds"
        elif wanted and emptied.is_relative_to(real) and real.is_relative_to(root):
            if not _may_match_in(wanted, emptied.relative_to(real).parts):
                continue
            how = "may match in"
        else:
            continue
        raise ValueError(
            f"path: {path} {how} {output}, an output of the pipeline, which replaces what is"
            " there; keep your text elsewhere"
        )


def fixed_part(place: Path) -> Path:
    """The folder of a glob above its first sign; of another path, itself."""
    signs = (number for number, part in enumerate(place.parts) if glob.has_magic(part))
    return Path(*place.parts[: next(signs, None)])


def _may_match_in(wanted: Sequence[str], folder: Sequence[str]) -> bool:
    """Whether a file below `folder` may match a glob, both by their parts."""
    if not wanted or wanted[0] == "**" or not folder:
        return bool(wanted)
    return fnmatch(folder[0], wanted[0]) and _may_match_in(wanted[1:], folder[1:])


class HubFile(Settings):
    """One file of a hub repository, pinned by size and digest.

    first_bytes: how many of its bytes are asked for; `sha256` is then theirs, `bytes` is still the
    whole file's. None: all.
    """

    name: StrictStr
    bytes: Count
    sha256: Digest
    first_bytes: Count | None = None

    @field_validator("name")
    @classmethod
    def _a_file_of_the_repository(cls, name: str) -> str:
        path = PurePosixPath(name)
        if "\0" in name or not path.name or path.is_absolute() or ".." in path.parts:
            raise ValueError("a file of the repository is needed, by its path in it")
        return name

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Self:
        if self.first_bytes is not None and self.first_bytes > self.bytes:
            raise ValueError(f"first_bytes {self.first_bytes}: at most the file's {self.bytes}")
        return self


class Hub(Settings):
    """A hub repository at a pinned revision."""

    repo: StrictStr
    revision: StrictStr
    files: list[HubFile] = Field(min_length=1)


class Data(Settings):
    """Where the text comes from."""

    source: Literal["builtin", "tinystories-v2", "local", "url"]
    stories: Count
    path: StrictStr | None = None
    url: Address | None = None
    sha256: Digest | None = None
    bytes: Count | None = None
    hub: Hub

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        if self.source == "local" and self.path is None:
            raise ValueError("source: local needs path: a file, a folder or a glob")
        if self.source == "local" and self.path is not None:
            refuse_outputs(self.path)
        if self.source == "url" and (self.url is None or self.sha256 is None):
            raise ValueError("source: url needs url (http or https) and sha256 (64 hex digits)")
        return self


class Tokenizer(Settings):
    """The vocabulary: trained on the training part, GPT-2's, or a local one in its format."""

    vocabulary: Literal["trained", "gpt2", "local"]
    vocab_size: Annotated[StrictInt, Field(ge=258, le=MAX_VOCABULARY)]
    path: StrictStr | None = None
    hub: Hub

    @model_validator(mode="after")
    def _local_has_a_path(self) -> Self:
        if self.vocabulary == "local" and self.path is None:
            raise ValueError("vocabulary: local needs path: a folder with vocab.json, merges.txt")
        if self.path is not None:
            expanded(self.path)
        return self


class Text(Settings):
    """What is mended in the stories before they are tokenized, see `ncn.text.mending`, and which of
    them are left out.
    """

    line_ends: StrictBool
    mojibake: StrictBool
    quotes: StrictBool
    blanks: StrictBool
    repeats: Literal["keep", "exact", "near"]
    dialogue: Dialogue

    @property
    def mended(self) -> list[str]:
        """The names of what is mended."""
        return [name for name, value in self if value is True]


class Split(Settings):
    """How validation, and what learning rates are tuned on, are kept apart from training."""

    unit: Literal["story", "sequence", "tail"]
    validation: Share
    tuning: Annotated[Number, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.tuning >= 1:
            raise ValueError(
                f"validation {self.validation} and tuning {self.tuning} leave nothing to train on"
            )
        return self
