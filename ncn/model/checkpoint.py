"""Trained models on disk: model.safetensors and config.json, nothing that executes on load."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ncn.common.errors import InputError
from ncn.common.files import read_json, replacing, replacing_directory, write_json
from ncn.model.language_model import LanguageModel
from ncn.settings import ModelConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_model(model: LanguageModel, directory: str | Path) -> None:
    """Write the model's weights and configuration; the directory appears whole or not at all."""
    with replacing_directory(directory) as beside:
        write_json(beside / CONFIG, json.loads(model.config.model_dump_json()))
        tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
        with replacing(beside / WEIGHTS, "wb") as file:
            file.write(save(tensors))


def load_model(directory: str | Path) -> LanguageModel:
    """The model that `save_model` wrote, on the CPU, in evaluation mode.

    Raises:
        InputError: a file is missing or damaged, or the weights are of another shape than
            config.json says.
    """
    directory = Path(directory)
    content = read_json(directory / CONFIG)
    try:
        config = ModelConfig.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{directory / CONFIG}: {key}: {problem['msg']}") from None
    path = directory / WEIGHTS
    if not path.exists():
        raise InputError(f"{path} does not exist: run `dvc repro train`, or `dvc pull`")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}: run `dvc checkout`") from None
    return assemble(config, weights, str(path))


def assemble(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> LanguageModel:
    """The model of `config` around a copy of `weights`, in evaluation mode.

    Raises:
        InputError: a tensor is missing, too many or of another shape; names it and `source`.
    """
    with torch.device("meta"):  # load_state_dict(assign=True) brings the storage
        model = LanguageModel(config)
    check_shapes(weights, _shapes(model.state_dict()), source, CONFIG)
    # A copy lies where torch aligns it. safetensors' own buffers lie anywhere, and the last bits
    # of a matrix product depend on it.
    aligned = {name: tensor.clone() for name, tensor in weights.items()}
    model.load_state_dict(aligned, assign=True)
    model.requires_grad_(True)
    if model.control is not None and config.control is not None and config.control.frozen:
        model.control.requires_grad_(False)
    return model.eval()


def check_shapes(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    source: str,
    authority: str,
) -> None:
    """Raise InputError unless `weights` have the `expected` names and shapes.

    Args:
        weights: what was found.
        expected: the shape of each name.
        source: where `weights` come from.
        authority: what says which are expected.
    """
    found = _shapes(weights)
    names = sorted(expected.keys() | found.keys())
    if wrong := [name for name in names if expected.get(name) != found.get(name)]:
        name, more = wrong[0], f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InputError(
            f"{source}: {name} has shape {found.get(name, 'none')},"
            f" but {authority} says {expected.get(name, 'none')}{more}"
        )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
