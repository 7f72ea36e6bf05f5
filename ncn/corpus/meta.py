"""meta.json of data/tokens: what the rows are made of, how many there are, and their digests."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, StrictStr, model_validator

from ncn.common.files import read_json
from ncn.settings import MAX_VOCABULARY, Digest, Settings, Split, validated
from ncn.settings.data import Dialogue
from ncn.settings.values import Count, Positive

Kind = Literal["bin", "tasks"]  # of a part's files: the rows, and the task of each
Number = Annotated[StrictInt, Field(ge=0)]


class Part(Settings):
    """What a part has: rows, their targets, and digests of each block of its files."""

    rows: Count
    tokens: Count
    bytes_per_token: Positive
    digests: dict[Kind, list[StrictStr]]

    @model_validator(mode="after")
    def _both_files_have_digests(self) -> Self:
        if len(self.digests) < 2:
            raise ValueError("digests: those of bin and of tasks are needed")
        return self


class Text(Settings):
    """What was found in the text, in stories.

    Attributes:
        files_with_bom: that begin with an editor's mark, which is no text.
        empty: of white space only, left out.
        found: with each fault, see `ncn.text.mending`.
        mended: the faults that were mended.
        repeats: that an earlier story is, word for word.
        near_repeats: that an earlier one nearly is, those included; null where not looked for.
        left_out: of these, as `text.repeats` says, and those that `dialogue` does not want.
        dialogue: which stories there are, see `text.dialogue`.
        val_in_train: stories of the validation part that train too, word for word, and
        tune_in_train: of the tuning part; null where rows are drawn, which cut
            stories.
    """

    files_with_bom: Number
    empty: Number
    found: dict[StrictStr, Number]
    mended: list[StrictStr]
    repeats: Number
    near_repeats: Number | None
    left_out: Number
    # Not written where it leaves none out: tokens made before it was there are the same.
    dialogue: Dialogue = Field(default="any", exclude_if=lambda name: name == "any")
    val_in_train: Number | None
    tune_in_train: Number | None


class SplitOf(Split):
    """The section `split` and the seed that drew it."""

    seed: StrictInt


class Meta(Settings):
    """All of meta.json."""

    stories: Count
    tasks: Count
    tokens: Count
    vocab_size: Annotated[StrictInt, Field(ge=2, le=MAX_VOCABULARY)]
    end_of_text: Annotated[StrictInt, Field(ge=0, lt=MAX_VOCABULARY)]
    context_length: Annotated[StrictInt, Field(ge=2)]
    split: SplitOf
    text: Text
    train: Part
    val: Part
    tune: Part | None = None
    digest: Digest

    @property
    def parts(self) -> dict[str, Part]:
        """Those that there are."""
        return {"train": self.train, "val": self.val} | ({"tune": self.tune} if self.tune else {})


def read_meta(directory: str | Path) -> Meta:
    """What meta.json says of the tokens in `directory`.

    Raises:
        InputError: it is missing, or not what the stage tokenize writes.
    """
    path = Path(directory) / "meta.json"
    return validated(Meta, read_json(path), str(path))
