"""The model of an arm: with its control network, or plain and widened to as many parameters."""

import math
from collections.abc import Callable

import torch

from ncn.model.flops import flops_per_token
from ncn.model.initialisation import initialise
from ncn.model.language_model import LanguageModel
from ncn.settings import ModelConfig, Params


def build_model(
    params: Params, arm: str, vocab_size: int, seed: int | None = None
) -> LanguageModel:
    """The initialised model of an arm.

    Args:
        params: the experiment.
        arm: a name from params.arms.
        vocab_size: of the tokenizer in use.
        seed: of the initialisation; the experiment's own seed where not given.

    Raises:
        InputError: the arm is not in params.
    """
    model = LanguageModel(model_config(params, arm, vocab_size))
    initialise(model, params.seed if seed is None else seed)
    return model


def model_config(params: Params, arm: str, vocab_size: int) -> ModelConfig:
    """What `arm` builds: its feed-forward as wide as gives it the size of the model of `ncn`.

    An arm without a control network, or with less of one, is widened; one with more is narrowed. So
    is one with a rival of it (`model.modulator`), by the difference.
    """
    shape = params.model_of(arm).model_dump() | {"vocab_size": vocab_size}
    matched = params.model.model_dump() | {"vocab_size": vocab_size, "control": params.ncn}
    control = params.control_network(arm)
    own = ModelConfig(**shape, control=None if control.controller == "none" else control)
    matching = params.baseline_of(arm)
    if matching.match == "none":
        return own
    size = SIZES[matching.match]
    missing = size(ModelConfig(**matched)) - size(own)
    if missing == 0:
        return own
    widening = missing / (size(_widened(own, own.d_ff + 1)) - size(own))
    multiple = math.lcm(matching.multiple_of, own.experts)
    return _widened(own, max(1, round((own.d_ff + widening) / multiple)) * multiple)


def _widened(config: ModelConfig, d_ff: int) -> ModelConfig:
    return config.model_copy(update={"d_ff": d_ff})


def non_embedding_count(config: ModelConfig) -> int:
    """The number of parameters but for the embeddings of tokens and positions."""
    return parameter_count(config) - config.d_model * (config.vocab_size + config.context_length)


def parameter_count(config: ModelConfig) -> int:
    """The number of parameters, counted on a model without storage (tied weights once)."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LanguageModel(config).parameters())


# What `baseline.match` makes equal.
SIZES: dict[str, Callable[[ModelConfig], int]] = {
    "parameters": parameter_count,
    "non_embedding": non_embedding_count,
    "flops": flops_per_token,
}
