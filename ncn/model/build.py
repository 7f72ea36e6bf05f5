"""The model of an arm: with its control network, or plain and widened to as many parameters."""

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
    """What `arm` builds: with a control network, or plain with its feed-forward widened."""
    shape = params.model.model_dump() | {"vocab_size": vocab_size}
    control = params.control_network(arm)
    if control.controller != "none":
        return ModelConfig(**shape, control=control)
    plain = ModelConfig(**shape)
    baseline = params.baseline_of(arm)
    if baseline.match == "none":
        return plain
    size = parameter_count if baseline.match == "parameters" else flops_per_token
    missing = size(ModelConfig(**shape, control=params.ncn)) - size(plain)
    widening = missing / (size(_widened(plain, plain.d_ff + 1)) - size(plain))
    multiple = baseline.multiple_of
    return _widened(plain, round((plain.d_ff + widening) / multiple) * multiple)


def _widened(config: ModelConfig, d_ff: int) -> ModelConfig:
    return config.model_copy(update={"d_ff": d_ff})


def parameter_count(config: ModelConfig) -> int:
    """The number of parameters, counted on a model without storage (tied weights once)."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LanguageModel(config).parameters())
