"""The NCN actuator: what the control network says, z, as the signals that modulate a layer.

    gain       g     = 2 sigmoid(z)                  dz = 2 s (1 - s) dg,   s = sigmoid(z)
      shifted  g     = sigmoid(z) + 0.5              dz = s (1 - s) dg
    precision  beta  = min(softplus(z) + 0.01, m)    dz = s dbeta, 0 where clamped
    ffn_gate   gamma = sigmoid(z)                    dz = s (1 - s) dgamma

Formula: NCN preprint, table 1 and section 4.1.4 (the shifted gain); gradients: their derivatives,
zero above the clamp m as in its section 3.5. Every exponent below is of -|z|, which cannot
overflow: sigmoid(z) = 1 / (1 + e) for z >= 0, else e / (1 + e), and softplus(z) =
max(z, 0) + log(1 + e), with e = exp(-|z|).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.dispatch import Backend, jit, launches_triton, tl

Signal = Literal["gain", "precision", "ffn_gate"]
Gain = Literal["2sigmoid", "shifted"]

# How each signal is made, as the kernels number it; the gain by its form.
KINDS = {"2sigmoid": 0, "shifted": 1, "ffn_gate": 2, "precision": 3}
BLOCK = 2048  # elements of a block: 64 tokens of 18 values, padded to 32; 16 a thread


def actuator_reference(
    z: Tensor, signals: Sequence[Signal], gain: Gain, precision_max: float
) -> tuple[Tensor, ...]:
    """The formula in plain PyTorch, in at least fp32."""
    # Exponentials of a half-precision z would leave the signals three digits.
    wide = z.to(torch.promote_types(z.dtype, torch.float32)).unflatten(-1, (-1, len(signals)))
    made = []
    for name, column in zip(signals, wide.unbind(-1), strict=True):
        match name:
            case "gain" if gain == "2sigmoid":
                made.append(2 * column.sigmoid())
            case "gain":
                made.append(column.sigmoid() + 0.5)
            case "precision":
                made.append((F.softplus(column) + 0.01).clamp(max=precision_max))
            case "ffn_gate":
                made.append(column.sigmoid())
    return tuple(made)


@jit
def _sigmoid_and_softplus(z):
    """Both, exact to fp32 for any z; log(1 + e) loses no digit of a small e (W. Kahan's form)."""
    e = tl.exp(-tl.abs(z))
    u = 1 + e
    sigmoid = tl.where(z >= 0, 1.0, e) / u
    rest = u - 1
    log1p = tl.where(rest == 0, e, tl.log(u) * (e / tl.where(rest == 0, 1.0, rest)))
    return sigmoid, tl.maximum(z, 0.0) + log1p


@jit
def _kind(signal, FIRST: tl.constexpr, SECOND: tl.constexpr, THIRD: tl.constexpr):
    """How the signal-th of three signals is made, see KINDS."""
    return tl.where(signal == 0, FIRST, tl.where(signal == 1, SECOND, THIRD))


@jit
def _forward(
    z_ptr, out_ptr, n_rows, maximum,
    L: tl.constexpr, S: tl.constexpr,
    FIRST: tl.constexpr, SECOND: tl.constexpr, THIRD: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_c = tl.arange(0, BLOCK_C)
    layer, signal = offs_c // S, offs_c % S
    mask = (offs_n < n_rows)[:, None] & (offs_c < L * S)[None, :]
    wide_n = offs_n.to(tl.int64)[:, None]
    z = tl.load(z_ptr + wide_n * (L * S) + offs_c[None, :], mask, 0.0).to(tl.float32)
    kind = _kind(signal, FIRST, SECOND, THIRD)[None, :]
    sigmoid, softplus = _sigmoid_and_softplus(z)
    out = tl.where(kind == 0, 2 * sigmoid, tl.where(kind == 1, sigmoid + 0.5, sigmoid))
    # A comparison, for a minimum would turn NaN into the maximum.
    beta = softplus + 0.01
    out = tl.where(kind == 3, tl.where(beta > maximum, maximum, beta), out)
    column = (signal * L + layer).to(tl.int64) * n_rows
    tl.store(out_ptr + column[None, :] + wide_n, out, mask)


@jit
def _backward(
    z_ptr, d0_ptr, d1_ptr, d2_ptr, dz_ptr, n_rows, maximum,
    stride_0n, stride_0l, stride_1n, stride_1l, stride_2n, stride_2l,
    L: tl.constexpr, S: tl.constexpr,
    FIRST: tl.constexpr, SECOND: tl.constexpr, THIRD: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_c = tl.arange(0, BLOCK_C)
    layer, signal = (offs_c // S)[None, :], (offs_c % S)[None, :]
    mask = (offs_n < n_rows)[:, None] & (offs_c < L * S)[None, :]
    wide_n = offs_n.to(tl.int64)[:, None]
    offs = wide_n * (L * S) + offs_c[None, :]
    z = tl.load(z_ptr + offs, mask, 0.0).to(tl.float32)
    d0 = d0_ptr + wide_n * stride_0n + layer * stride_0l
    d = tl.load(d0, mask & (signal == 0), 0.0).to(tl.float32)
    if S > 1:
        d1 = d1_ptr + wide_n * stride_1n + layer * stride_1l
        d += tl.load(d1, mask & (signal == 1), 0.0).to(tl.float32)
    if S > 2:
        d2 = d2_ptr + wide_n * stride_2n + layer * stride_2l
        d += tl.load(d2, mask & (signal == 2), 0.0).to(tl.float32)
    kind = _kind(signal, FIRST, SECOND, THIRD)
    sigmoid, softplus = _sigmoid_and_softplus(z)
    opposite, _ = _sigmoid_and_softplus(-z)  # 1 - sigmoid without cancellation
    slope = tl.where(kind == 0, 2.0, 1.0) * sigmoid * opposite
    slope = tl.where(kind == 3, tl.where(softplus + 0.01 > maximum, 0.0, sigmoid), slope)
    tl.store(dz_ptr + offs, (slope * d).to(dz_ptr.dtype.element_ty), mask)


class _Actuator(torch.autograd.Function):
    """The Triton form, for autograd. A tuple is returned: outputs in a list get no gradient."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, kinds: tuple[int, int, int], S: int, precision_max: float
    ) -> tuple[Tensor, ...]:
        z = z.contiguous()
        ctx.save_for_backward(z)
        ctx.kinds, ctx.S, ctx.precision_max = kinds, S, precision_max
        columns = z.shape[-1]
        L, n_rows = columns // S, z.numel() // columns
        # A layer's signal lies together, as the layer will read it: [S, L, N].
        out = torch.empty(S, L, n_rows, dtype=torch.float32, device=z.device)
        BLOCK_C = 1 << (columns - 1).bit_length()
        BLOCK_N = max(1, BLOCK // BLOCK_C)
        if n_rows:
            grid = (-(-n_rows // BLOCK_N),)
            _forward[grid](z, out, n_rows, precision_max, L, S, *kinds, BLOCK_N, BLOCK_C)
        return tuple(signal.T.view(*z.shape[:-1], L) for signal in out)

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        columns = z.shape[-1]
        L, n_rows = columns // ctx.S, z.numel() // columns
        dz = torch.empty_like(z)
        rows = [each.reshape(n_rows, L) for each in d]
        rows += [rows[0]] * (3 - len(rows))  # never read
        strides = [stride for each in rows for stride in each.stride()]
        BLOCK_C = 1 << (columns - 1).bit_length()
        BLOCK_N = max(1, BLOCK // BLOCK_C)
        if n_rows:
            grid = (-(-n_rows // BLOCK_N),)
            shape = L, ctx.S, *ctx.kinds, BLOCK_N, BLOCK_C
            _backward[grid](z, *rows, dz, n_rows, ctx.precision_max, *strides, *shape)
        return dz, None, None, None


def actuator(
    z: Tensor,
    signals: Sequence[Signal],
    gain: Gain,
    precision_max: float,
    *,
    backend: Backend,
) -> tuple[Tensor, ...]:
    """The signals of z [..., L * S], each [..., L], in fp32.

    Args:
        z: layer-major: the S signals of the first layer, then of the next; fp32, fp16 or bf16
            (the reference takes fp64 too, and answers in it).
        signals: the S distinct names in the order in which z has them.
        gain: `2sigmoid` in [0, 2], `shifted` in [0.5, 1.5]; both neutral at z = 0.
        precision_max: where beta is clamped.
        backend: as `kernels.dispatch.resolve` gives it.
    """
    if launches_triton(backend):
        kinds = [KINDS[gain if name == "gain" else name] for name in signals]
        first, second, third = (kinds * 3)[:3]
        return _Actuator.apply(z, (first, second, third), len(signals), precision_max)
    return actuator_reference(z, signals, gain, precision_max)
