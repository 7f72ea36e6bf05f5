"""What controls an arm: section `ncn`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from ncn.settings.values import Count, Number, Settings
from ncn.signals import SIGNALS

MAX_TASKS = 65_536  # task labels are stored as uint16

Salience = Literal["global", "causal", "reactive", "none"]
Slider = Literal["dialogue", "token_bytes"]


class ControlSettings(Settings):
    """The control of an arm: a network, one with a state, static scalars, or none (a plain
    transformer).
    """

    controller: Literal["network", "recurrent", "static", "none"]
    hidden: Count
    heads: Count
    salience: Salience
    signals: list[StrictStr] = Field(min_length=1)  # of `ncn.signals`
    gain: StrictStr  # which of the transformations of the signal gain
    activation: Literal["tanh", "relu", "gelu"]
    init: Literal["identity", "zero"]
    frozen: StrictBool
    precision_max: Annotated[Number, Field(gt=0, le=1e30)]  # fp32 has no number above 3.4e38
    penalty: Literal["mean", "sum"]
    homeostatic_lambda: Annotated[Number, Field(ge=0)]
    # A model saved before this was there started as `small`.
    salience_start: Literal["published", "small"] = "small"
    # Further inputs. With defaults: a model saved before they were there has none of them.
    tasks: Annotated[StrictInt, Field(ge=0, le=MAX_TASKS)] = 0
    sliders: list[Slider] = Field(default_factory=list)
    attention_entropy: StrictBool = False
    # What eq. 2 integrates. Not written where it is the embedding: a model saved before there was a
    # choice is the same model.
    phasic: Literal["embedding", "layer"] = Field(
        default="embedding", exclude_if=lambda name: name == "embedding"
    )
    # One of `signals`, likewise.
    plasticity: StrictStr = Field(default="none", exclude_if=lambda name: name == "none")

    @property
    def reads(self) -> bool:
        """Whether the controller reads the text: a network."""
        return self.controller in ("network", "recurrent")

    @property
    def by_layer(self) -> bool:
        """Whether a layer's signals are made there, of what the layers before it computed.

        Then no layer's can be set beforehand, and to know them is to run the layers.
        """
        return self.reads and (self.attention_entropy or self.phasic == "layer")

    @field_validator("signals")
    @classmethod
    def _signals_are_declared(cls, names: list[str]) -> list[str]:
        if unknown := [name for name in names if name not in SIGNALS]:
            raise ValueError(f"{unknown[0]!r} is no signal; allowed are {', '.join(SIGNALS)}")
        return names

    @field_validator("gain")
    @classmethod
    def _gain_has_this_transformation(cls, name: str) -> str:
        if name not in (known := SIGNALS["gain"].transformations):
            raise ValueError(f"it should be {' or '.join(map(repr, known))}, not {name!r}")
        return name

    @model_validator(mode="after")
    def _lists_are_sets(self) -> Self:
        if len(set(self.signals)) < len(self.signals):
            raise ValueError(f"signals {self.signals} name one signal twice")
        if len(set(self.sliders)) < len(self.sliders):
            raise ValueError(f"sliders {self.sliders} name one slider twice")
        if self.plasticity not in (allowed := ["none", *self.signals]):
            raise ValueError(
                f"plasticity {self.plasticity!r}: allowed are {', '.join(allowed)}, the arm's own"
            )
        return self

    @model_validator(mode="after")
    def _one_state_is_of_the_embeddings(self) -> Self:
        if self.controller == "recurrent" and self.phasic == "layer":
            raise ValueError(
                "phasic: layer, but the state of a recurrent controller is of the embeddings;"
                " allowed is embedding"
            )
        return self
