"""Trained models on disk: model.safetensors and config.json, nothing that executes on load."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ncn.common.errors import InputError
from ncn.common.files import read_json, replacing, replacing_directory, write_json
from ncn.common.nested import leaves
from ncn.model.language_model import LanguageModel
from ncn.settings import ModelConfig, validated

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
            config.json says, of another type than float32, or not finite.
    """
    directory = Path(directory)
    read = read_json(directory / CONFIG)
    if isinstance(read, dict) and "ncn" in read:  # of a hub: beside what transformers reads
        read = read["ncn"]
    config = validated(ModelConfig, read, str(directory / CONFIG))
    path = directory / WEIGHTS
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}: run `dvc repro train`, or `dvc pull`")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            _check_header(slices, config, path)
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}: run `dvc checkout`") from None
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name} has values that are not finite")
    return assemble(config, weights, str(path))


def _check_header(slices: Mapping[str, Any], config: ModelConfig, path: Path) -> None:
    """See that the file can hold such a model, before one is built.

    Raises:
        InputError: a tensor is of another type than float32; or config.json speaks of more layers
            than there are tensors, or of a size above that of all tensors together.
    """
    for name, each in slices.items():
        if (dtype := each.get_dtype()) != "F32":
            raise InputError(f"{path}: {name} is of type {dtype}; models are kept in F32")
    numbers = sum(math.prod(each.get_shape()) for each in slices.values())
    sizes = dict(leaves(config.model_dump(), into_lists=True))
    for key, size in sizes.items():
        most = len(slices) if key == "n_layers" else numbers
        if isinstance(size, int) and size > most:
            what = "tensors" if key == "n_layers" else "numbers"
            raise InputError(
                f"{path.with_name(CONFIG)}: {key} is {size}, but {path.name} has {most} {what}"
            )


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
    if config.control is not None and config.control.frozen:
        model.freeze_control()
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
