"""What is done with trained models: sections `eval` to `adapt` of params.yaml."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, StrictStr, field_validator, model_validator

from ncn.settings.values import Count, Number, Positive, Settings, Share


class Eval(Settings):
    """Scoring on the validation part."""

    sequences: Count
    batch_size: Count
    bootstrap: Annotated[StrictInt, Field(ge=100)]
    equivalence: Positive
    leak_sequences: Count


class Compare(Settings):
    """What the comparison is about, declared before the run."""

    primary: StrictStr | None
    reference: StrictStr | None
    seed_sd: Positive


class Robustness(Settings):
    """What counts as a near duplicate of training text."""

    ngram: Annotated[StrictInt, Field(ge=2)]
    near_duplicate: Annotated[Number, Field(gt=0, le=1)]


class Convergence(Settings):
    """Windows of the convergence analysis (preprint 4.1.2 and 5.2)."""

    short_span: Share
    long_span: Share
    slope_share: Share
    smoothing_span: Annotated[StrictInt, Field(ge=2)]
    loss_targets: list[Positive]


class BrainScan(Settings):
    """On what the signals are read, and how many untrained networks they are compared with."""

    texts: list[Annotated[StrictStr, Field(min_length=1)]] = Field(min_length=1)
    sequences: Annotated[StrictInt, Field(ge=4)]
    initialisations: Annotated[StrictInt, Field(ge=2)]
    word: Annotated[StrictStr, Field(pattern=r"^\S+$")]


class Conditional(Settings):
    """What is left out of the first arm that has a gate, and in how many bits its caches are."""

    sequences: Annotated[StrictInt, Field(ge=2)]
    skip_below: list[Positive] = Field(min_length=1)
    bits: list[Annotated[StrictInt, Field(ge=2, le=8)]] = Field(min_length=1)
    low_share: Share

    @model_validator(mode="after")
    def _each_is_tried_once(self) -> Self:
        for name in ("skip_below", "bits"):
            values = getattr(self, name)
            if len({*values}) < len(values):
                raise ValueError(f"{name}: {values} name one value twice")
        return self


class Generate(Settings):
    """Sample texts, the same prompts for every run."""

    prompts: list[Annotated[StrictStr, Field(min_length=1)]] = Field(min_length=1)
    max_new_tokens: Count
    temperature: Annotated[Number, Field(ge=0)]
    top_k: Annotated[StrictInt, Field(ge=0)]
    top_p: Annotated[Number, Field(gt=0, le=1)]
    slider_values: list[Number] = Field(min_length=1)
    recall_sequences: Count

    @field_validator("slider_values")
    @classmethod
    def _none_is_neutral(cls, values: list[float]) -> list[float]:
        if 0 in values:
            raise ValueError("0 is what each value is compared with: it should be another")
        return values


Method = Literal["control", "lora", "bitfit", "full", "replay"]


class SecondText(Settings):
    """The text that trained models go on with."""

    source: Literal["dialect", "dialogue"]
    stories: Annotated[StrictInt, Field(ge=2)]
    validation: Share


class Adapt(Settings):
    """A second phase of training: trained models go on with another text."""

    start_from: list[StrictStr]  # arms
    train_only: list[Method]
    lr: dict[Method, Positive]
    control: dict[StrictStr, Any]  # what differs from `ncn`
    text: SecondText
    epochs: Positive
    replay: Share

    @model_validator(mode="after")
    def _each_once_and_with_a_learning_rate(self) -> Self:
        for key in ("start_from", "train_only"):
            named = getattr(self, key)
            if len(set(named)) < len(named):
                raise ValueError(f"{key} {named} names one twice")
        if lacking := [method for method in self.train_only if method not in self.lr]:
            raise ValueError(f"lr.{lacking[0]}: missing, and train_only names {lacking[0]}")
        return self
