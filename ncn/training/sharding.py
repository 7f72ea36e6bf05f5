"""A model shared out over the ranks (FSDP2), and made whole again to save it.

Apart from the engine, which imports this only where a model is sharded: its imports take more than
a second of every start.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

# Whole tensors by name. Moments only where there are any: a parameter that the loss never reaches,
# as the key bias of the salience pooling, has none.
MOMENTS = StateDictOptions(full_state_dict=True, strict=False)
WEIGHTS = StateDictOptions(full_state_dict=True)


def shard(whole: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Leave each rank a share of every parameter; `parts` are gathered one at a time."""
    for part in parts:
        fully_shard(part)
    fully_shard(whole)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of what may be spread over the ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The parameters by name, whole."""
    return get_model_state_dict(model, options=WEIGHTS)


def whole_moments(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The optimiser's state by parameter name, whole."""
    return get_optimizer_state_dict(model, optimizer, options=MOMENTS)


def load(
    model: nn.Module, optimizer: Optimizer, weights: Mapping[str, Any], moments: Mapping[str, Any]
) -> None:
    """Go on from whole weights and moments: each rank takes its share."""
    set_model_state_dict(model, dict(weights), options=WEIGHTS)
    settings = [{"lr_scale": group["lr_scale"]} for group in optimizer.param_groups]
    # Copied: the optimiser would take them as they are.
    set_optimizer_state_dict(model, optimizer, copy.deepcopy(dict(moments)), options=MOMENTS)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group |= own  # a setting, no state: one saved before it was there has none
