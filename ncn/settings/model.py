"""The transformer and the baseline's width: sections `model` and `baseline`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from ncn.settings.control import MAX_TASKS, ControlSettings
from ncn.settings.values import Count, Number, Settings
from ncn.signals import SIGNALS

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
    # A mixture of experts (`ncn.model.experts`); likewise.
    experts: Annotated[Count, Field(le=1000)] = Field(default=1, exclude_if=lambda n: n == 1)
    experts_per_token: Count = Field(default=1, exclude_if=lambda n: n == 1)
    # A baseline that is told the task; likewise.
    task_tokens: Annotated[StrictInt, Field(ge=0, le=MAX_TASKS)] = Field(
        default=0, exclude_if=lambda n: n == 0
    )
    balance: Annotated[Number, Field(ge=0)] = Field(default=0.01, exclude_if=lambda x: x == 0.01)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        return self

    @model_validator(mode="after")
    def _experts_are_equal_parts(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token {self.experts_per_token} are more than the experts"
                f" {self.experts}"
            )
        if self.d_ff % self.experts:
            raise ValueError(f"d_ff {self.d_ff} is not divisible by the experts {self.experts}")
        return self


class ModelConfig(Model):
    """All that rebuilds a model: the shape, the vocabulary and the control network, if any."""

    vocab_size: Count
    control: ControlSettings | None = None

    @property
    def tasks(self) -> int:
        """So many tasks it knows: by its tokens, by its control network, or by both; 0: it is told
        none.
        """
        own = (self.task_tokens, 0 if self.control is None else self.control.tasks)
        return min((n for n in own if n), default=0)

    @model_validator(mode="after")
    def _salience_heads_divide_the_width(self) -> Self:
        if self.control is not None:
            check_heads(self.d_model, self.control)
        return self

    @model_validator(mode="after")
    def _what_is_routed_has_experts(self) -> Self:
        if self.control is not None:
            check_routing(self.experts, self.control)
        return self


def check_heads(d_model: int, control: ControlSettings) -> None:
    """Raise ValueError unless the heads of the salience pooling, if any, divide the width."""
    if control.reads and d_model % control.heads:
        raise ValueError(
            f"d_model {d_model} is not divisible by the heads {control.heads} of the salience"
            " pooling"
        )


def check_routing(experts: int, control: ControlSettings) -> None:
    """Raise ValueError where a signal biases a routing that is not there."""
    for name in control.signals:
        if "routing" in SIGNALS[name].sites and experts == 1 and control.controller != "none":
            raise ValueError(f"the signal {name} needs model.experts of 2 or more, and it is 1")


class Baseline(Settings):
    """How an arm with less of a control network, or none, is made as large as that of `ncn`."""

    match: Literal["parameters", "non_embedding", "flops", "none"]
    multiple_of: Count
