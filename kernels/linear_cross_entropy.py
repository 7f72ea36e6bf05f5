"""Cross-entropy of a linear layer: the loss of h W^T against targets, without keeping the logits.

With the hidden states h [N, D], the output weights W [V, D] and a target y_n for each row,

    z = h W^T              lse_n = log sum_v exp z_nv              loss_n = lse_n - z_(n, y_n)

and, with a_n and b_n the gradients of loss_n and lse_n, and p = softmax(z):

    dz_nv = (a_n + b_n) p_nv - a_n [v = y_n]           dh = dz W           dW = dz^T h

(the derivative of log-sum-exp is the softmax). Rows whose target is ignore_index have loss 0 and
no gradient by it. At the published size z [32768, 50257] alone would be 6.6 GB; the chunked form
makes it some rows at a time, and makes the gradients with it, while the logits are at hand.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.dispatch import Backend

Reduction = Literal["none", "mean", "sum"]

CHUNK_LOGITS = 1 << 26  # at most so many at once: 1335 rows of 50,257, 268 MB in fp32
BLOCK_LOGITS = 1 << 20  # of a chunk, for the softmax on a CPU: what its caches hold


@overload
def linear_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    backend: Backend,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...


@overload
def linear_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    backend: Backend,
    ignore_index: int = ...,
    reduction: Reduction = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def linear_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    backend: Backend,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Cross-entropy of h W^T against `targets`, in nats; see the top of this file.

    Under autocast h and weight are rounded to its type, as a linear layer would; the loss, lse and
    the sums of the gradients are in fp32 (fp64 for fp64), the gradients in the type of their input.

    Args:
        h: [N, D].
        weight: [V, D], of the type of h.
        targets: [N], int64, each in 0 ... V - 1 or ignore_index.
        backend: as `kernels.dispatch.resolve` gives it.
        ignore_index: the target of rows that count for nothing.
        reduction: none [N], sum, or mean over the rows that count (NaN where none does).
        return_lse: the log-sum-exp of each row's logits [N] too, ignored rows included.

    Raises:
        ValueError: shapes or types that do not fit.
    """
    if h.ndim != 2 or weight.ndim != 2 or h.shape[1] != weight.shape[1]:
        raise ValueError(
            f"h {list(h.shape)} and weight {list(weight.shape)} must be [N, D], [V, D]"
        )
    if targets.shape != h.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets {list(targets.shape)} {targets.dtype} must be [N] in int64")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction {reduction!r} must be none, mean or sum")
    if backend == "reference":
        return reference(h, weight, targets, ignore_index, reduction, return_lse)
    dtype = h.dtype
    if torch.is_autocast_enabled(h.device.type):
        dtype = torch.get_autocast_dtype(h.device.type)
    elif weight.dtype != dtype:
        raise ValueError(f"h and weight must be of one type, not {dtype} and {weight.dtype}")
    needs = [torch.is_grad_enabled() and each.requires_grad for each in (h, weight)]
    if reduction != "none" and not return_lse and any(needs):
        total, *_ = _total_with_gradients(h, weight, targets, ignore_index, dtype, *needs)
        return _mean(total, targets, ignore_index) if reduction == "mean" else total
    losses, lse = _rows(h, weight, targets, ignore_index, dtype)
    if reduction != "none":
        losses = losses.sum()
    if reduction == "mean":
        losses = _mean(losses, targets, ignore_index)
    return (losses, lse) if return_lse else losses


def reference(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    reduction: Reduction,
    return_lse: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The same in plain torch, with all logits at once."""
    logits = F.linear(h, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, targets, ignore_index=ignore_index, reduction=reduction)
    return (loss, logits.logsumexp(1)) if return_lse else loss


def _mean(total: Tensor, targets: Tensor, ignore_index: int) -> Tensor:
    """The total over the rows that count; NaN without gradient where none does, as in torch."""
    count = (targets != ignore_index).sum()
    return (total / count.clamp(min=1)).masked_fill(count == 0, torch.nan)


def logits_at_once(rows: int, vocab_size: int, backend: Backend) -> int:
    """How many logits, or gradients of logits, are held beside what autograd keeps."""
    return {
        "reference": rows * vocab_size,
        "chunked": min(rows * vocab_size, max(CHUNK_LOGITS, vocab_size)),
        "triton": 0,
    }[backend]


# The chunked form


@cache
def _multiplies(dtype: torch.dtype, device_type: str) -> bool:
    """Does this device multiply matrices of `dtype` faster than of fp32?

    A CPU without bf16 units emulates them: 7 times slower than fp32 on AVX2. There the rounded
    values are multiplied in fp32, which is also exact where bf16 units would round the product.
    """
    if device_type != "cpu" or dtype in (torch.float32, torch.float64):
        return True
    units = ("avx512_bf16", "amx_bf16", "bf16")  # x86; Arm
    return dtype == torch.bfloat16 and any(torch.cpu.get_capabilities().get(u) for u in units)


def _factors(h: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """h and W rounded to `dtype`, in the type in which they are multiplied."""
    factor = dtype if _multiplies(dtype, h.device.type) else torch.float32
    return h.to(dtype).to(factor), weight.to(dtype).to(factor)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, summed in fp32 (fp64 for fp64) and handed out so."""
    if a.is_cuda and a.dtype != (sums := _sums(a.dtype)):
        return torch.mm(a, b, out_dtype=sums)
    return (a @ b).to(_sums(a.dtype))


def _sums(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _chunks(rows: int, vocab_size: int) -> Iterator[slice]:
    """Slices of equal size, the last perhaps smaller, of at most CHUNK_LOGITS logits each."""
    count = -(-rows * vocab_size // CHUNK_LOGITS)
    size = -(-rows // max(count, 1))
    return (slice(start, start + size) for start in range(0, rows, max(size, 1)))


def _softmax_(
    z: Tensor, targets: Tensor, ignore_index: int, gradients: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Losses and lse of logits z [n, V], which become dz where `gradients` are those of the two."""
    losses, lse = z.new_empty(len(z)), z.new_empty(len(z))
    size = max(BLOCK_LOGITS // z.shape[1], 1) if z.device.type == "cpu" else max(len(z), 1)
    counts = targets != ignore_index
    places = targets.where(counts, 0)[:, None]
    for start in range(0, len(z), size):
        block = slice(start, start + size)
        rows, place = z[block], places[block]
        top = rows.amax(1, keepdim=True)
        # Relative to the largest: at |z| = 1e4 fp32 resolves z only to 1e-3, differences better.
        picked = rows.sub_(top).gather(1, place)
        total = rows.exp_().sum(1, keepdim=True)
        lse[block] = (top + total.log())[:, 0]
        losses[block] = (total.log() - picked)[:, 0].where(counts[block], 0)
        if gradients is not None:
            a, b = (each[block, None] for each in gradients)
            a = a.where(counts[block, None], 0)
            rows.mul_((a + b) / total)
            rows.scatter_(1, place, rows.gather(1, place) - a)
    return losses, lse


def _gradients(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    outer: tuple[Tensor, Tensor],
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [N], dh and dW (empty where not needed) given the gradients of losses and lse [N]."""
    h, weight = _factors(h, weight, dtype)
    sums = _sums(h.dtype)
    losses = h.new_empty(len(h), dtype=sums)
    dh = h.new_empty(h.shape if needs_dh else 0, dtype=sums)
    dw = h.new_zeros(weight.shape if needs_dw else 0, dtype=sums)
    # Most softmax values are below the least that fp16 holds, 6e-8: lifted, they are kept.
    lift = 2.0**15 if h.dtype == torch.float16 else 1.0
    for chunk in _chunks(len(h), len(weight)):
        z = _product(h[chunk], weight.T)
        mine = (outer[0][chunk] * lift, outer[1][chunk] * lift)
        losses[chunk], _ = _softmax_(z, targets[chunk], ignore_index, mine)
        dz = z.to(h.dtype)
        if needs_dh:
            dh[chunk] = _product(dz, weight) / lift
        if needs_dw and h.dtype == sums:
            dw.addmm_(dz.T, h[chunk])
        elif needs_dw:
            dw.add_(_product(dz.T, h[chunk]), alpha=1 / lift)
    return losses, dh, dw


@torch.library.custom_op("ncn::chunked_cross_entropy_total", mutates_args=())
def _total_with_gradients(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss, and its gradients by h and W in the type in which they were summed."""
    with torch.autocast(h.device.type, enabled=False):
        ones = h.new_ones(len(h), dtype=_sums(h.dtype))
        outer = (ones, torch.zeros_like(ones))
        losses, dh, dw = _gradients(
            h, weight, targets, ignore_index, dtype, outer, needs_dh, needs_dw
        )
        return losses.sum(), dh, dw


@_total_with_gradients.register_fake
def _(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    sums = _sums(dtype)
    return (
        h.new_empty((), dtype=sums),
        h.new_empty(h.shape if needs_dh else 0, dtype=sums),
        h.new_empty(weight.shape if needs_dw else 0, dtype=sums),
    )


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    h, weight, *_ = inputs
    ctx.types = h.dtype, weight.dtype
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _scale_gradients(ctx: Any, d_total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gradients = [
        (saved * d_total).to(dtype) if needed else None
        for saved, dtype, needed in zip(
            ctx.saved_tensors, ctx.types, ctx.needs_input_grad[:2], strict=True
        )
    ]
    return *gradients, None, None, None, None, None


_total_with_gradients.register_autograd(_scale_gradients, setup_context=_save_gradients)


@torch.library.custom_op("ncn::chunked_cross_entropy", mutates_args=())
def _rows(
    h: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Losses and lse of the rows [N]; its gradients make the logits a second time."""
    with torch.autocast(h.device.type, enabled=False):
        h, weight = _factors(h, weight, dtype)
        losses = h.new_empty(len(h), dtype=_sums(dtype))
        lse = torch.empty_like(losses)
        for chunk in _chunks(len(h), len(weight)):
            z = _product(h[chunk], weight.T)
            losses[chunk], lse[chunk] = _softmax_(z, targets[chunk], ignore_index)
        return losses, lse


@_rows.register_fake
def _(
    h: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    losses = h.new_empty(len(h), dtype=_sums(dtype))
    return losses, torch.empty_like(losses)


@torch.library.custom_op("ncn::chunked_cross_entropy_backward", mutates_args=())
def _rows_backward(
    d_losses: Tensor,
    d_lse: Tensor,
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients by h and W, each in the type of its input; empty where not needed."""
    with torch.autocast(h.device.type, enabled=False):
        outer = (d_losses, d_lse)
        _, dh, dw = _gradients(h, weight, targets, ignore_index, dtype, outer, needs_dh, needs_dw)
        return dh.to(h.dtype), dw.to(weight.dtype)


@_rows_backward.register_fake
def _(
    d_losses: Tensor,
    d_lse: Tensor,
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    dtype: torch.dtype,
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape if needs_dh else 0), weight.new_empty(
        weight.shape if needs_dw else 0
    )


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.ignore_index, ctx.dtype = inputs
    ctx.save_for_backward(*tensors)


def _recompute_gradients(ctx: Any, d_losses: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    gradients = _rows_backward(
        d_losses, d_lse, *ctx.saved_tensors, ctx.ignore_index, ctx.dtype, *needs
    )
    mine = [each if needed else None for each, needed in zip(gradients, needs, strict=True)]
    return *mine, None, None, None


_rows.register_autograd(_recompute_gradients, setup_context=_save_inputs)
