"""A matrix that one row is multiplied by, laid out for that: as it is, or in int8; or several rows.

In int8, a quarter of the bytes that a token has to read, each of the N outputs has its own scale:

    M[k, n] = s_n q[k, n],    s_n = max_k |M[k, n]| / 127,    q integers from -127 to 127

and s, x and the product are in bfloat16. What rounding the weights costs in loss is measured with
`rounded`, which makes a model of them.
"""

import copy
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.layers import RMSNorm
from ncn.model import LanguageModel
from ncn.model.blocks import Block

Weights = Literal["fp32", "int8"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
LARGEST = 127  # of the int8 that have a negative
LARGE = 2**17  # numbers of a matrix, from where on how it lies counts
WHOLE = 32  # inputs are read so many at once, beyond the end where they are no multiple


class Matrix(Protocol):
    """A matrix M [K, N], made from a weight [N, K]."""

    def product(self, x: Tensor, scale: float) -> Tensor:
        """scale x M for x [K]: [N]."""

    def added(self, base: Tensor, x: Tensor, scale: float) -> Tensor:
        """base + scale x M for x [K] and base [N]: [N]."""


class AsItIs:
    """Laid out so that a row is multiplied along the longer side; a small matrix: by outputs.

    That reads the output head 2.5 times as fast (V 50257, D 256), and 1.5 times the feed-forward's
    second matrix.
    """

    def __init__(self, weight: Tensor) -> None:
        by_outputs = len(weight) >= weight.shape[1] or weight.numel() < LARGE
        self._weight = weight.T.contiguous().T if by_outputs else weight  # [N, K]
        self._nothing = weight.new_empty(())

    def product(self, x: Tensor, scale: float) -> Tensor:
        """See `Matrix.product`."""
        return torch.addmv(self._nothing, self._weight, x, beta=0, alpha=scale)

    def added(self, base: Tensor, x: Tensor, scale: float) -> Tensor:
        """See `Matrix.added`."""
        return torch.addmv(base, self._weight, x, alpha=scale)


class InInt8:
    """In int8, multiplied without being made floats again."""

    def __init__(self, weight: Tensor) -> None:
        numbers, self._scales = in_int8(weight)
        self._padding = (0, -weight.shape[1] % WHOLE)
        self._numbers = F.pad(numbers, self._padding)

    def product(self, x: Tensor, scale: float) -> Tensor:
        """See `Matrix.product`."""
        return self._product(x).to(x.dtype).mul_(scale)

    def added(self, base: Tensor, x: Tensor, scale: float) -> Tensor:
        """See `Matrix.added`."""
        return torch.add(base, self._product(x), alpha=scale)

    def _product(self, x: Tensor) -> Tensor:
        row = F.pad(x, self._padding) if self._padding[1] else x
        return torch._weight_int8pack_mm(row.bfloat16()[None], self._numbers, self._scales)[0]


class Packed:
    """A matrix that `rows` rows are multiplied by, in the processor's own order.

    Laid out once: a product that does so each time reaches half of the speed (32 rows, V 50257).
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """x M for x [rows, K]: [rows, N]."""
        multiply = torch.ops.mkldnn._linear_pointwise
        product: Tensor = multiply(x, self._packed, None, "none", [], "")
        return product

    @staticmethod
    def available() -> bool:
        """Whether this build of torch packs."""
        return torch.backends.mkldnn.is_available()


FORMS: dict[Weights, type[AsItIs] | type[InInt8]] = {"fp32": AsItIs, "int8": InInt8}


def in_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [N, K] as integers [N, K], and their scales [N] in bfloat16."""
    # A smaller scale has fewer digits, or is 0.
    smallest = torch.finfo(torch.bfloat16).tiny
    scales = (weight.abs().amax(1) / LARGEST).bfloat16().clamp(min=smallest)
    numbers = (weight / scales[:, None]).round().clamp(-LARGEST, LARGEST)
    return numbers.to(torch.int8), scales


def after_norm(norm: RMSNorm, weight: Tensor) -> Tensor:
    """A weight [N, D] that reads what a norm gives, as one that reads it without the norm's own."""
    return weight * norm.weight


@torch.no_grad()
def rounded(model: LanguageModel) -> LanguageModel:
    """A copy of the model with the weights that it has in int8: its layers' and its embedding."""
    made = copy.deepcopy(model)
    for block in made.blocks:
        assert isinstance(block, Block)
        attention, feed_forward = block.attention, block.feed_forward
        _round(attention.qkv.weight, block.attention_norm.weight)
        _round(attention.out.weight)
        _round(feed_forward.up.weight, block.feed_forward_norm.weight)
        _round(feed_forward.down.weight)
    _round(made.embedding.weight)
    return made


def _round(weight: Tensor, norm: Tensor | None = None) -> None:
    """Round a weight [N, K] in place, as it is multiplied by the weights [K] of a norm."""
    read = weight if norm is None else weight * norm
    numbers, scales = in_int8(read)
    found = numbers * scales[:, None].to(weight.dtype)
    if norm is not None:
        found = torch.where(norm == 0, weight, found / norm)
    weight.copy_(found)
