"""The NCN actuator: what the control network puts out, z, as what modulates the layers.

    2sigmoid   2 sigmoid(z)                   dz = 2 s (1 - s) d,   s = sigmoid(z)
    shifted    sigmoid(z) + 0.5               dz = s (1 - s) d
    sigmoid    sigmoid(z)                     dz = s (1 - s) d
    softplus   min(softplus(z) + 0.01, m)     dz = s d, 0 where clamped

Formula: NCN preprint, table 1 and section 4.1.4 (the shifted gain); gradients: their derivatives,
zero above the clamp m as in its section 3.5. Every exponent below is of -|z|, which cannot
overflow: sigmoid(z) = 1 / (1 + e) for z >= 0, else e / (1 + e), and softplus(z) =
max(z, 0) + log(1 + e), with e = exp(-|z|).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.dispatch import Backend, jit, launches_triton, tl

# An output of each layer: its transformation, and how many columns of z it takes.
Output = tuple[str, int]

# The transformations, as the kernels number them.
KINDS = {"2sigmoid": 0, "shifted": 1, "sigmoid": 2, "softplus": 3}
BLOCK = 2048  # elements of a block: 64 tokens of 18 values, padded to 32; 16 a thread


def actuator_reference(z: Tensor, outputs: Sequence[Output], maximum: float) -> tuple[Tensor, ...]:
    """The formula in plain PyTorch, in at least fp32."""
    # Exponentials of a half-precision z would leave the signals three digits.
    widths = [width for _, width in outputs]
    wide = z.to(torch.promote_types(z.dtype, torch.float32)).unflatten(-1, (-1, sum(widths)))
    made = []
    for (transformation, _), columns in zip(outputs, wide.split(widths, -1), strict=True):
        match transformation:
            case "2sigmoid":
                made.append(2 * columns.sigmoid())
            case "shifted":
                made.append(columns.sigmoid() + 0.5)
            case "sigmoid":
                made.append(columns.sigmoid())
            case "softplus":
                made.append((F.softplus(columns) + 0.01).clamp(max=maximum))
    return tuple(made)


@jit
def _exp(x):
    """e^x for x <= 0, as exact far from 0 as near it.

    A GPU computes 2^(x log2 e), and what the product rounds away grows with |x|. So x = k ln 2 + r,
    and k ln 2 is taken off in two parts, the first of few digits: its product with k is exact.
    """
    x = tl.where(x < -104.0, -104.0, x)  # e^-104 is 0 in fp32; and NaN stays
    k = tl.floor(x * 1.4426950408889634 + 0.5)
    r = x - k * 0.693145751953125 - k * 1.428606820309417e-06
    return tl.exp(r) * tl.exp2(k)


@jit
def _sigmoid_and_softplus(z):
    """Both, exact to fp32 for any z; log(1 + e) loses no digit of a small e (W. Kahan's form)."""
    e = _exp(-tl.abs(z))
    u = 1 + e
    sigmoid = tl.where(z >= 0, 1.0, e) / u
    rest = u - 1
    log1p = tl.where(rest == 0, e, tl.log(u) * (e / tl.where(rest == 0, 1.0, rest)))
    return sigmoid, tl.maximum(z, 0.0) + log1p


@jit
def _forward(
    z_ptr, out_ptr, columns_ptr, n_rows, maximum,
    L: tl.constexpr, C: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = (offs_n < n_rows)[:, None] & (offs_c < L * C)[None, :]
    wide_n = offs_n.to(tl.int64)[:, None]
    z = tl.load(z_ptr + wide_n * (L * C) + offs_c[None, :], mask, 0.0).to(tl.float32)
    layer, column = offs_c // C, columns_ptr + offs_c % C  # the columns' table is [4, C]
    kind, start = tl.load(column)[None, :], tl.load(column + C)
    width, place = tl.load(column + 2 * C), tl.load(column + 3 * C)
    sigmoid, softplus = _sigmoid_and_softplus(z)
    out = tl.where(kind == 0, 2 * sigmoid, tl.where(kind == 1, sigmoid + 0.5, sigmoid))
    # A comparison, for a minimum would turn NaN into the maximum.
    clamped = tl.where(softplus + 0.01 > maximum, maximum, softplus + 0.01)
    out = tl.where(kind == 3, clamped, out)
    first = (start * L + layer * width).to(tl.int64) * n_rows + place
    tl.store(out_ptr + first[None, :] + wide_n * width[None, :], out, mask)


@jit
def _backward(
    z_ptr, d_ptr, dz_ptr, columns_ptr, n_rows, maximum,
    L: tl.constexpr, C: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = (offs_n < n_rows)[:, None] & (offs_c < L * C)[None, :]
    offs = offs_n.to(tl.int64)[:, None] * (L * C) + offs_c[None, :]
    z = tl.load(z_ptr + offs, mask, 0.0).to(tl.float32)
    d = tl.load(d_ptr + offs, mask, 0.0).to(tl.float32)
    kind = tl.load(columns_ptr + offs_c % C)[None, :]
    sigmoid, softplus = _sigmoid_and_softplus(z)
    opposite, _ = _sigmoid_and_softplus(-z)  # 1 - sigmoid without cancellation
    slope = tl.where(kind == 0, 2.0, 1.0) * sigmoid * opposite
    slope = tl.where(kind == 3, tl.where(softplus + 0.01 > maximum, 0.0, sigmoid), slope)
    tl.store(dz_ptr + offs, (slope * d).to(dz_ptr.dtype.element_ty), mask)


@cache
def _columns(outputs: tuple[Output, ...], device: torch.device) -> Tensor:
    """Of each column of a layer, [4, C]: kind; its output's first column and width; place in it."""
    table, start = [], 0
    for transformation, width in outputs:
        table += [(KINDS[transformation], start, width, place) for place in range(width)]
        start += width
    return torch.tensor(table, dtype=torch.int32, device=device).T.contiguous()


def _launch(n_rows: int, columns: int) -> tuple[tuple[int, int], int, int]:
    """The grid, and the rows and columns of a block."""
    BLOCK_C = min(BLOCK, 1 << (columns - 1).bit_length())
    BLOCK_N = BLOCK // BLOCK_C
    return (-(-n_rows // BLOCK_N), -(-columns // BLOCK_C)), BLOCK_N, BLOCK_C


class _Actuator(torch.autograd.Function):
    """The Triton form, for autograd. A tuple is returned: outputs in a list get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, outputs: tuple[Output, ...], maximum: float
    ) -> tuple[Tensor, ...]:
        z, table = z.contiguous(), _columns(outputs, z.device)
        ctx.save_for_backward(z, table)
        ctx.maximum = maximum
        columns, C = z.shape[-1], table.shape[1]
        L, n_rows = columns // C, z.numel() // columns
        # A layer's output lies together, as the layer will read it: [L, N, W] for each output.
        out = torch.empty(columns * n_rows, dtype=torch.float32, device=z.device)
        if n_rows:
            grid, BLOCK_N, BLOCK_C = _launch(n_rows, columns)
            _forward[grid](z, out, table, n_rows, maximum, L, C, BLOCK_N, BLOCK_C)
        widths = [width for _, width in outputs]
        parts = out.split([L * n_rows * width for width in widths])
        return tuple(
            part.view(L, n_rows, width).transpose(0, 1).view(*z.shape[:-1], L, width)
            for part, width in zip(parts, widths, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor, None, None]:
        z, table = ctx.saved_tensors
        columns, C = z.shape[-1], table.shape[1]
        n_rows = z.numel() // columns
        dz, together = torch.empty_like(z), torch.cat(d, -1)  # [..., L, C]: the columns as z's
        if n_rows:
            grid, BLOCK_N, BLOCK_C = _launch(n_rows, columns)
            shape = columns // C, C, BLOCK_N, BLOCK_C
            _backward[grid](z, together, dz, table, n_rows, ctx.maximum, *shape)
        return dz, None, None


def actuator(
    z: Tensor, outputs: Sequence[Output], maximum: float, *, backend: Backend
) -> tuple[Tensor, ...]:
    """The outputs of z [..., L * C], each [..., L, W] of its own W, in fp32.

    Args:
        z: layer-major: the C columns of the first layer, then of the next; fp32, fp16 or bf16
            (the reference takes fp64 too, and answers in it).
        outputs: of each layer, in the order in which z has them: a transformation of KINDS and the
            number of columns W that it takes. C is the sum of these.
        maximum: where a softplus is clamped.
        backend: as `kernels.dispatch.resolve` gives it.

    Raises:
        ValueError: a transformation is unknown, or z is not whole layers of C columns.
    """
    if unknown := [name for name, _ in outputs if name not in KINDS]:
        raise ValueError(f"unknown transformation {unknown[0]!r}: there are {', '.join(KINDS)}")
    columns = sum(width for _, width in outputs)
    if z.shape[-1] % columns:
        raise ValueError(f"z has {z.shape[-1]} columns, which is no multiple of {columns}")
    if launches_triton(backend):
        return _Actuator.apply(z, tuple(outputs), maximum)
    return actuator_reference(z, outputs, maximum)
