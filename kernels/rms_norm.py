"""RMSNorm: y = w * x / sqrt(mean(x^2) + eps), over the last dimension.

With r = 1 / sqrt(mean(x^2) + eps), n = r x, and the gradient dy of y:

    dx = r (w dy - n mean(n w dy))        dw = sum over rows of n dy

Formula: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4, with eps added;
the gradient is its derivative. n is recomputed in the backward pass: x is read there anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.dispatch import Backend, jit, launches_triton, tl

# Elements of a block: several rows of D = 256 share one, so that a program has 16 a thread.
BLOCK = 2048
# Programs of the backward pass, each with one row of partial dw: two on each multiprocessor of an
# H100 or H200. Fixed, so that dw is summed in the same order on any GPU.
PROGRAMS = 264


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The formula in plain PyTorch, in at least fp32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


@jit
def _forward(
    x_ptr, weight_ptr, y_ptr, n_rows, D, eps, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    offs_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_D)
    mask = (offs_n < n_rows)[:, None] & (offs_d < D)[None, :]
    offs = offs_n.to(tl.int64)[:, None] * D + offs_d[None, :]
    x = tl.load(x_ptr + offs, mask, 0.0).to(tl.float32)
    weight = tl.load(weight_ptr + offs_d, offs_d < D, 0.0).to(tl.float32)
    r = 1 / tl.sqrt(tl.sum(x * x, 1) / D + eps)
    tl.store(y_ptr + offs, (x * r[:, None] * weight[None, :]).to(y_ptr.dtype.element_ty), mask)


@jit
def _backward(
    dy_ptr, x_ptr, weight_ptr, dx_ptr, dweight_ptr, n_rows, D, eps,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    offs_d = tl.arange(0, BLOCK_D)
    weight = tl.load(weight_ptr + offs_d, offs_d < D, 0.0).to(tl.float32)
    dweight = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for block in range(tl.program_id(0), tl.cdiv(n_rows, BLOCK_N), tl.num_programs(0)):
        offs_n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = (offs_n < n_rows)[:, None] & (offs_d < D)[None, :]
        offs = offs_n.to(tl.int64)[:, None] * D + offs_d[None, :]
        x = tl.load(x_ptr + offs, mask, 0.0).to(tl.float32)
        dy = tl.load(dy_ptr + offs, mask, 0.0).to(tl.float32)
        r = 1 / tl.sqrt(tl.sum(x * x, 1) / D + eps)
        n = x * r[:, None]
        dweight += n * dy
        wdy = weight[None, :] * dy
        dx = r[:, None] * (wdy - n * (tl.sum(n * wdy, 1) / D)[:, None])
        tl.store(dx_ptr + offs, dx.to(dx_ptr.dtype.element_ty), mask)
    own = dweight_ptr + tl.program_id(0) * D + offs_d
    tl.store(own, tl.sum(dweight, 0), offs_d < D)


def _blocks(D: int) -> tuple[int, int]:
    """Rows and columns of a block: whole rows, as many as `BLOCK` holds."""
    columns = 1 << (D - 1).bit_length()
    return max(1, BLOCK // columns), columns


class _RMSNorm(torch.autograd.Function):
    """The Triton form, for autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        D = x.shape[-1]
        y, n_rows = torch.empty_like(x), x.numel() // D
        BLOCK_N, BLOCK_D = _blocks(D)
        if n_rows:
            grid = (-(-n_rows // BLOCK_N),)
            _forward[grid](x, weight, y, n_rows, D, eps, BLOCK_N, BLOCK_D)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        D = x.shape[-1]
        dx, n_rows = torch.empty_like(x), x.numel() // D
        BLOCK_N, BLOCK_D = _blocks(D)
        programs = min(PROGRAMS, -(-n_rows // BLOCK_N))
        partial = torch.empty(programs, D, dtype=torch.float32, device=x.device)
        if n_rows:
            arguments = dy.contiguous(), x, weight, dx, partial, n_rows, D, ctx.eps
            _backward[(programs,)](*arguments, BLOCK_N, BLOCK_D)
        return dx, partial.sum(0).to(weight.dtype), None


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, backend: Backend) -> Tensor:
    """x [..., D] divided by the root of its mean square, times weight [D]; in the dtype of x.

    Args:
        x: fp32, fp16 or bf16 (the reference takes fp64 too); computed in fp32.
        weight: [D], neutral at 1.
        eps: added to the mean square.
        backend: as `kernels.dispatch.resolve` gives it.
    """
    if launches_triton(backend):
        return _RMSNorm.apply(x, weight, eps)
    # torch's own: on a CPU the reference to the last bit, and five operators cheaper to call.
    return F.rms_norm(x, weight.shape, weight, eps)
