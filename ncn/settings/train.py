"""Training: sections `train` and `saving`."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

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

    @property
    def threads_of_a_process(self) -> int:
        """Threads are shared by the processes, at least one each."""
        return max(1, self.threads // self.processes)


class Saving(Settings):
    """When a resumable state is saved, whichever comes first. It changes no result."""

    every_steps: Count
    every_minutes: Positive
