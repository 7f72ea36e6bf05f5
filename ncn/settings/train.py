"""Training: sections `tune`, `train` and `saving`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from ncn.settings.values import Count, Number, Positive, Settings


class Validation(Settings):
    """What is measured on the validation part while training goes on."""

    every: Count
    sequences: Count


class Train(Settings):
    """The optimiser and its schedule; steps are optimiser steps."""

    lr: Positive
    lr_scale: dict[StrictStr, Positive]  # by part of the model: see `ncn.settings.parameters`
    betas: Annotated[list[Annotated[Number, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    weight_decay: Annotated[Number, Field(ge=0)]
    decay: Literal["all", "matrices"]
    grad_clip: Positive
    schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: Annotated[StrictInt, Field(ge=0)]
    micro_batch_size: Count
    grad_accum_steps: Count
    epochs: Positive
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    checkpointing: StrictBool
    compile: StrictBool
    threads: Count
    processes: Count
    sharding: Literal["none", "fsdp"]
    kernels: Literal["auto", "reference", "chunked", "triton"]
    log_every: Count
    validation: Validation


class Tune(Settings):
    """The learning rate of each arm: found on a part of the text that nothing else sees."""

    lr: list[Positive]
    seeds: list[Annotated[StrictInt, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    epochs: Positive
    extensions: Annotated[StrictInt, Field(ge=0)]

    @model_validator(mode="after")
    def _a_grid(self) -> Self:
        if self.lr != sorted(set(self.lr)):
            raise ValueError(f"lr {self.lr}: each value once, ascending")
        return self

    @property
    def on(self) -> bool:
        """Whether there is something to choose from."""
        return len(self.lr) > 1


class Saving(Settings):
    """When a resumable state is saved, whichever comes first. It changes no result."""

    every_steps: Count
    every_minutes: Positive
