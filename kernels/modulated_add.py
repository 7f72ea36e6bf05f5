"""The modulated residual add: out = x + s y, with one scalar s a token.

    dx = dout        dy = s dout        ds = sum over the row of dout y

Formula: NCN preprint, eq. 11 and 12, where s is the gain, or gain times ffn_gate: multiplied
before, so that one row reduction gives the gradient of both. y comes after any dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.dispatch import Backend, jit, launches_triton, tl

BLOCK = 2048  # elements of a block, whole rows: 16 a thread


def modulated_add_reference(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    """The formula in plain PyTorch."""
    return x + y * s[..., None].to(y.dtype)


@jit
def _forward(
    x_ptr, y_ptr, s_ptr, out_ptr, n_rows, D, stride_sn,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_n < n_rows)[:, None] & (offs_d < D)[None, :]
    wide_n = offs_n.to(tl.int64)
    offs = wide_n[:, None] * D + offs_d[None, :]
    x = tl.load(x_ptr + offs, mask, 0.0).to(tl.float32)
    y = tl.load(y_ptr + offs, mask, 0.0).to(tl.float32)
    s = tl.load(s_ptr + wide_n * stride_sn, offs_n < n_rows, 0.0).to(tl.float32)
    tl.store(out_ptr + offs, (x + s[:, None] * y).to(out_ptr.dtype.element_ty), mask)


@jit
def _backward(
    dout_ptr, y_ptr, s_ptr, dy_ptr, ds_ptr, n_rows, D, stride_sn,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_n < n_rows)[:, None] & (offs_d < D)[None, :]
    wide_n = offs_n.to(tl.int64)
    offs = wide_n[:, None] * D + offs_d[None, :]
    dout = tl.load(dout_ptr + offs, mask, 0.0).to(tl.float32)
    y = tl.load(y_ptr + offs, mask, 0.0).to(tl.float32)
    s = tl.load(s_ptr + wide_n * stride_sn, offs_n < n_rows, 0.0).to(tl.float32)
    tl.store(dy_ptr + offs, (s[:, None] * dout).to(dy_ptr.dtype.element_ty), mask)
    ds = tl.sum(dout * y, 1)
    tl.store(ds_ptr + offs_n, ds.to(ds_ptr.dtype.element_ty), offs_n < n_rows)


def _blocks(D: int) -> tuple[int, int]:
    """Rows and columns of a block: whole rows, as many as `BLOCK` holds."""
    columns = 1 << (D - 1).bit_length()
    return max(1, BLOCK // columns), columns


class _ModulatedAdd(torch.autograd.Function):
    """The Triton form, for autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        x, y, flat = x.contiguous(), y.contiguous(), s.reshape(-1)
        ctx.save_for_backward(y, s)
        ctx.x_dtype = x.dtype
        D = x.shape[-1]
        out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
        BLOCK_N, BLOCK_D = _blocks(D)
        if n_rows := flat.numel():
            grid = (-(-n_rows // BLOCK_N),)
            _forward[grid](x, y, flat, out, n_rows, D, flat.stride(0), BLOCK_N, BLOCK_D)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, s = ctx.saved_tensors
        flat, dout = s.reshape(-1), dout.contiguous()
        D = y.shape[-1]
        dy, ds = torch.empty_like(y), torch.empty(s.shape, dtype=s.dtype, device=s.device)
        BLOCK_N, BLOCK_D = _blocks(D)
        if n_rows := flat.numel():
            grid = (-(-n_rows // BLOCK_N),)
            _backward[grid](dout, y, flat, dy, ds, n_rows, D, flat.stride(0), BLOCK_N, BLOCK_D)
        return dout.to(ctx.x_dtype), dy, ds


def modulated_add(x: Tensor, y: Tensor, s: Tensor, *, backend: Backend) -> Tensor:
    """x + s y for x and y [..., D] and s [...], in the wider type of x and y.

    Args:
        x: the residual stream; fp32, fp16 or bf16 (the reference takes fp64 too).
        y: a branch; its type may be another than that of x, as under autocast.
        s: one scalar a token, of any type, neutral at 1; may be strided.
        backend: as `kernels.dispatch.resolve` gives it.
    """
    if launches_triton(backend):
        return _ModulatedAdd.apply(x, y, s)
    return modulated_add_reference(x, y, s)
