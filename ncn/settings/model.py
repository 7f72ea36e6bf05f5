"""The transformer and the baseline's width: sections `model` and `baseline`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from ncn.settings.control import ControlSettings
from ncn.settings.values import Count, Number, Settings

Modulator = Literal["none", "gated_attention", "transponder", "rezero", "layerscale", "temperature"]
Width = Annotated[StrictInt, Field(ge=1, le=1_000_000)]  # above: beyond any machine


class Model(Settings):
    """The transformer that every arm shares."""

    d_model: Width
    n_layers: Annotated[StrictInt, Field(ge=1, le=10_000)]
    n_heads: Width
    d_ff: Width
    context_length: Annotated[StrictInt, Field(ge=2, le=1_000_000)]
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    # A rival of the control network (`ncn.model.rivals`). Not written where there is none: a model
    # saved before it was there is the same model.
    modulator: Modulator = Field(default="none", exclude_if=lambda name: name == "none")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        return self


class ModelConfig(Model):
    """All that rebuilds a model: the shape, the vocabulary and the control network, if any."""

    vocab_size: Count
    control: ControlSettings | None = None

    @model_validator(mode="after")
    def _salience_heads_divide_the_width(self) -> Self:
        if self.control is not None:
            check_heads(self.d_model, self.control)
        return self


def check_heads(d_model: int, control: ControlSettings) -> None:
    """Raise ValueError unless the heads of the salience pooling, if any, divide the width."""
    if control.reads and d_model % control.heads:
        raise ValueError(
            f"d_model {d_model} is not divisible by the heads {control.heads} of the salience"
            " pooling"
        )


class Baseline(Settings):
    """How an arm with less of a control network, or none, is made as large as that of `ncn`."""

    match: Literal["parameters", "non_embedding", "flops", "none"]
    multiple_of: Count
