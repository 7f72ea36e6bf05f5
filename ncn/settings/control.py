"""What controls an arm: section `ncn`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from ncn.settings.values import Count, Number, Positive, Settings

MAX_TASKS = 65_536  # task labels are stored as uint16

Salience = Literal["global", "causal", "reactive", "none"]
Slider = Literal["dialogue", "token_bytes"]


class ControlSettings(Settings):
    """The control of an arm: a network, static scalars, or none (a plain transformer)."""

    controller: Literal["network", "static", "none"]
    hidden: Count
    heads: Count
    salience: Salience
    signals: list[Literal["gain", "precision", "ffn_gate"]] = Field(min_length=1)
    gain: Literal["2sigmoid", "shifted"]
    activation: Literal["tanh", "relu", "gelu"]
    init: Literal["identity", "zero"]
    frozen: StrictBool
    precision_max: Positive
    penalty: Literal["mean", "sum"]
    homeostatic_lambda: Annotated[Number, Field(ge=0)]
    # A model saved before this was there started as `small`.
    salience_start: Literal["published", "small"] = "small"
    # Further inputs. With defaults: a model saved before they were there has none of them.
    tasks: Annotated[StrictInt, Field(ge=0, le=MAX_TASKS)] = 0
    sliders: list[Slider] = Field(default_factory=list)
    attention_entropy: StrictBool = False

    @model_validator(mode="after")
    def _lists_are_sets(self) -> Self:
        if len(set(self.signals)) < len(self.signals):
            raise ValueError(f"signals {self.signals} name one signal twice")
        if len(set(self.sliders)) < len(self.sliders):
            raise ValueError(f"sliders {self.sliders} name one slider twice")
        return self
