"""Adapters of low rank on the weights of a frozen model: LoRA.

A frozen weight W [out, in] of a linear layer becomes

    W + B A            A [r, in] from N(0, 1 / in), B [out, r] from 0

so that the start is the model as it was, and what is trained are r (in + out) numbers (Hu et al.
2021, arXiv 2106.09685, eq. 3). The paper's factor alpha / r is 1 here: it sets alpha to the rank
that it tries first, and notes (4.1) that alpha does what the learning rate does.

Here every linear layer of the blocks has adapters; the paper's are on queries and values, "for
simplicity". Their ranks differ by 1 at most, so that together they come near a given count.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from ncn.layers import named_seed
from ncn.model import LanguageModel


class LowRank(nn.Module):
    """W [out, in] -> W + B A."""

    def __init__(self, weight: Tensor, rank: int, stream: torch.Generator) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.a = nn.Parameter(torch.randn(rank, n_in, generator=stream) * n_in**-0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight, [out, in]."""
        return weight + self.b @ self.a


def adapted_layers(model: LanguageModel) -> dict[str, nn.Linear]:
    """The layers that adapters are put on, by name: attention and feed-forward of each block."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and (".attention." in name or ".feed_forward." in name)
        if name.startswith("blocks.") and ".modulator." not in name
    }


def ranks(shapes: Sequence[tuple[int, int]], budget: int) -> list[int]:
    """The rank of the adapters of each weight [out, in], so that they have `budget` parameters.

    The largest rank that is within it everywhere, at least 1, and 1 more for each weight in turn
    where that comes closer to it.
    """
    sizes = [n_out + n_in for n_out, n_in in shapes]
    rank = max(1, budget // sum(sizes))
    found = [min(rank, *shape) for shape in shapes]
    missing = budget - sum(r * size for r, size in zip(found, sizes, strict=True))
    for place, size in enumerate(sizes):
        if abs(missing - size) < abs(missing) and found[place] < min(shapes[place]):
            found[place] += 1
            missing -= size
    return found


def add_adapters(model: LanguageModel, budget: int, seed: int) -> None:
    """Freeze `model` and put adapters of about `budget` parameters on it, drawn by `seed`."""
    model.requires_grad_(False)
    layers = adapted_layers(model)
    shapes = [(layer.out_features, layer.in_features) for layer in layers.values()]
    for (name, layer), rank in zip(layers.items(), ranks(shapes, budget), strict=True):
        stream = torch.Generator().manual_seed(named_seed(seed, name, "low_rank"))
        register_parametrization(layer, "weight", LowRank(layer.weight, rank, stream))


def merge_adapters(model: LanguageModel) -> None:
    """Make each adapted weight W + B A itself: the model is of its own form again."""
    for layer in adapted_layers(model).values():
        if hasattr(layer, "parametrizations"):
            remove_parametrizations(layer, "weight", leave_parametrized=True)
