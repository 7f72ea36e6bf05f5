"""Cross-entropy of a linear layer: the loss of h W^T against targets, without keeping the logits.

With the hidden states h [N, D], the output weights W [V, D] and a target y_n for each row,

    z = h W^T              lse_n = log sum_v exp z_nv              loss_n = lse_n - z_(n, y_n)

and, with a_n the gradient of loss_n and p = softmax(z), the derivative of log-sum-exp:

    dz_nv = a_n (p_nv - [v = y_n])                     dh = dz W           dW = dz^T h

At the published size z [32768, 50257] alone would be 6.6 GB; the chunked form
makes it some rows at a time, and makes the gradients with it, while the logits are at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.dispatch import INTERPRETED, Backend, jit, multiplies, tl

Reduction = Literal["none", "mean"]

CHUNK_LOGITS = 1 << 26  # at most so many at once: 1335 rows of 50,257, 268 MB in fp32
BLOCK_LOGITS = 1 << 20  # of a chunk, for the softmax on a CPU: what its caches hold


def linear_cross_entropy(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    backend: Backend,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of h W^T against `targets`, in nats; see the top of this file.

    Under autocast h and weight are rounded to its type, as a linear layer would; the loss and the
    sums of the gradients are in fp32 (fp64 for fp64), the gradients in the type of their input.

    Args:
        h: [N, D].
        weight: [V, D], of the type of h.
        targets: [N], int64, each in 0 ... V - 1.
        backend: as `kernels.dispatch.resolve` gives it.
        reduction: mean; or none, [N], which the chunked form gives without gradients.

    Raises:
        ValueError: shapes or types that do not fit.
    """
    if h.ndim != 2 or weight.ndim != 2 or h.shape[1] != weight.shape[1]:
        raise ValueError(
            f"h {list(h.shape)} and weight {list(weight.shape)} must be [N, D], [V, D]"
        )
    if targets.shape != h.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(f"targets {list(targets.shape)} {targets.dtype} must be [N] in int64")
    if reduction not in ("none", "mean"):
        raise ValueError(f"reduction {reduction!r} must be none or mean")
    dtype = h.dtype
    if torch.is_autocast_enabled(h.device.type):
        dtype = torch.get_autocast_dtype(h.device.type)
    elif weight.dtype != dtype:
        raise ValueError(f"h and weight must be of one type, not {dtype} and {weight.dtype}")
    if backend == "triton" and dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"triton multiplies fp32, fp16 and bf16, not {dtype}")
    if backend == "reference":
        return reference(h, weight, targets, reduction)
    needs = [torch.is_grad_enabled() and each.requires_grad for each in (h, weight)]
    # Eager code needs no operator between: the first call of one loads the compiler, in 4 seconds.
    compiling = torch.compiler.is_compiling()
    if backend == "chunked" and reduction == "mean" and any(needs):
        if compiling:
            total, *_ = _compiled_total(h, weight, targets, dtype, *needs)
        else:
            total = _Total.apply(h, weight, targets, dtype, *needs)
        return _mean(total, targets)
    if backend == "triton":
        losses, *_ = _flash(h, weight, targets, dtype, needs[0])
    else:
        losses = (_compiled_rows if compiling else _rows)(h, weight, targets, dtype)
    return _mean(losses.sum(), targets) if reduction == "mean" else losses


def reference(h: Tensor, weight: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    """The same in plain torch, with all logits at once."""
    logits = F.linear(h, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets, reduction=reduction)


def _mean(total: Tensor, targets: Tensor) -> Tensor:
    """The total over the rows; NaN where there is none, as in torch.

    By a tensor: a GPU would multiply by the reciprocal of a number, which rounds once more.
    """
    return total / targets.new_full((), len(targets))


def logits_at_once(rows: int, vocab_size: int, backend: Backend) -> int:
    """How many logits, or gradients of logits, are held beside what autograd keeps."""
    return {
        "reference": rows * vocab_size,
        "chunked": min(rows * vocab_size, max(CHUNK_LOGITS, vocab_size)),
        "triton": 0,
    }[backend]


# The chunked form


def _factors(h: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """h and W rounded to `dtype`, in the type in which they are multiplied."""
    factor = dtype if multiplies(dtype, h.device.type) else torch.float32
    return h.to(dtype).to(factor), weight.to(dtype).to(factor)


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a b, summed in fp32 (fp64 for fp64); handed out so by a GPU, in the type of a by a CPU."""
    if a.is_cuda and a.dtype != (sums := _sums(a.dtype)):
        return torch.mm(a, b, out_dtype=sums)
    return torch.mm(a, b, out=out)


def _room(h: Tensor, weight: Tensor) -> Tensor | None:
    """Where a CPU puts the logits of one chunk after the other.

    Fresh memory for each would cost as much as the product that fills it. A GPU's allocator hands
    out the same memory again by itself.
    """
    rows = max((len(h[chunk]) for chunk in _chunks(len(h), len(weight))), default=0)
    return None if h.is_cuda else h.new_empty(rows, len(weight))


def _logits_of(h: Tensor, weight: Tensor, room: Tensor | None) -> Tensor:
    return _product(h, weight.T, None if room is None else room[: len(h)])


def _lift(factor: torch.dtype) -> float:
    """What a softmax in 0 ... 1 is multiplied by before it is rounded to `factor`.

    Most of its values are below the least that fp16 holds, 6e-8: lifted, they are kept.
    """
    return 2.0**15 if factor == torch.float16 else 1.0


def _sums(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _chunks(rows: int, vocab_size: int) -> Iterator[slice]:
    """Slices of equal size, the last perhaps smaller, of at most CHUNK_LOGITS logits each."""
    count = -(-rows * vocab_size // CHUNK_LOGITS)
    size = -(-rows // max(count, 1))
    return (slice(start, start + size) for start in range(0, rows, max(size, 1)))


def _softmax_(z: Tensor, targets: Tensor, gradient: float | None = None) -> Tensor:
    """Losses of logits z [n, V], which become dz where `gradient` is that of each loss.

    Whatever the type of z, all is computed in fp32 (fp64 for fp64).
    """
    sums = _sums(z.dtype)
    losses = z.new_empty(len(z), dtype=sums)
    size = max(BLOCK_LOGITS // z.shape[1], 1) if z.device.type == "cpu" else max(len(z), 1)
    for start in range(0, len(z), size):
        block = slice(start, start + size)
        rows, place = z[block].to(sums), targets[block, None]
        # Relative to the largest: at |z| = 1e4 fp32 resolves z only to 1e-3, differences better.
        picked = rows.sub_(rows.amax(1, keepdim=True)).gather(1, place)
        total = rows.exp_().sum(1, keepdim=True)
        losses[block] = (total.log() - picked)[:, 0]
        if gradient is not None:
            rows.mul_(gradient / total)
            rows.scatter_(1, place, rows.gather(1, place) - gradient)
            if z.dtype != sums:
                z[block] = rows
    return losses


def _total_with_gradients(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    dtype: torch.dtype,
    needs_dh: bool,
    needs_dw: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss, and its gradients by h and W in the type in which they were summed.

    A gradient that is not needed is empty.
    """
    with torch.autocast(h.device.type, enabled=False):
        h, weight = _factors(h, weight, dtype)
        sums = _sums(h.dtype)
        losses = h.new_empty(len(h), dtype=sums)
        dh = h.new_empty(h.shape if needs_dh else 0, dtype=sums)
        dw = h.new_zeros(weight.shape if needs_dw else 0, dtype=sums)
        lift, room = _lift(h.dtype), _room(h, weight)
        for chunk in _chunks(len(h), len(weight)):
            z = _logits_of(h[chunk], weight, room)
            losses[chunk] = _softmax_(z, targets[chunk], lift)
            dz = z.to(h.dtype)
            if needs_dh:
                dh[chunk] = _product(dz, weight) / lift
            if needs_dw and h.dtype == sums:
                dw.addmm_(dz.T, h[chunk])
            elif needs_dw:
                # Transposed: a CPU's bf16 product of wide matrices is the faster by a quarter.
                dw.add_(_product(h[chunk].T.contiguous(), dz).T, alpha=1 / lift)
        return losses.sum(), dh, dw


def _scaled(ctx: Any, d_total: Tensor) -> list[Tensor | None]:
    """The gradients by h and W that were made with the total, times its own."""
    return [
        (saved * d_total).to(dtype) if needed else None
        for saved, dtype, needed in zip(
            ctx.saved_tensors, ctx.types, ctx.needs_input_grad[:2], strict=True
        )
    ]


class _Total(torch.autograd.Function):
    """`_total_with_gradients` in eager code."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, *others: Any) -> Tensor:
        total, *gradients = _total_with_gradients(h.detach(), weight.detach(), *others)
        ctx.types = h.dtype, weight.dtype
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, d_total: Tensor) -> tuple[Tensor | None, ...]:
        return *_scaled(ctx, d_total), None, None, None, None


_compiled_total = torch.library.custom_op(
    "ncn_kernels::chunked_cross_entropy_total", _total_with_gradients, mutates_args=()
)


@_compiled_total.register_fake
def _(
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
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
    return *_scaled(ctx, d_total), None, None, None, None


_compiled_total.register_autograd(_scale_gradients, setup_context=_save_gradients)


def _rows(h: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Losses of the rows [N]."""
    with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
        h, weight = _factors(h, weight, dtype)
        losses = h.new_empty(len(h), dtype=_sums(dtype))
        room = _room(h, weight)
        for chunk in _chunks(len(h), len(weight)):
            z = _logits_of(h[chunk], weight, room)
            losses[chunk] = _softmax_(z, targets[chunk])
        return losses


_compiled_rows = torch.library.custom_op(
    "ncn_kernels::chunked_cross_entropy", _rows, mutates_args=()
)


@_compiled_rows.register_fake
def _(h: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    return h.new_empty(len(h), dtype=_sums(dtype))


# The Triton form


@jit
def _forward(
    h_ptr, weight_ptr, targets_ptr, losses_ptr, top_ptr, log_total_ptr, mean_ptr,
    N, V, D, WITH_MEAN: tl.constexpr, EXACT: tl.constexpr, LIFT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """BLOCK_N rows against the whole vocabulary, and BLOCK_D columns of their mean of W."""
    offs_n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    targets = tl.load(targets_ptr + offs_n, offs_n < N, -1)
    top = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    picked = tl.zeros((BLOCK_N,), tl.float32)
    mean = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    if BLOCK_K == 0:
        h = _tile(h_ptr, offs_n, offs_d, N, D, EXACT)
    for start in range(0, V, BLOCK_V):
        offs_v = (start + tl.arange(0, BLOCK_V)).to(tl.int64)
        if BLOCK_K == 0:
            weight = _tile(weight_ptr, offs_v, offs_d, V, D, EXACT)
            z = tl.dot(h, tl.trans(weight), input_precision="ieee")
        else:
            z = _logits(
                h_ptr, weight_ptr, offs_n, offs_v, N, V, D, EXACT, BLOCK_N, BLOCK_V, BLOCK_K
            )
            if WITH_MEAN:
                weight = _tile(weight_ptr, offs_v, offs_d, V, D, EXACT)
        z = tl.where((offs_v < V)[None, :], z, float("-inf"))
        picked += tl.sum(tl.where(offs_v[None, :] == targets[:, None], z, 0.0), 1)
        higher = tl.maximum(top, tl.max(z, 1))
        shrink = tl.exp(top - higher)
        e = tl.exp(z - higher[:, None])
        total = total * shrink + tl.sum(e, 1)
        if WITH_MEAN:
            lifted = (e * LIFT).to(weight.dtype)
            mean = mean * shrink[:, None] + tl.dot(lifted, weight, input_precision="ieee")
        top = higher
    if WITH_MEAN:
        mask = (offs_n < N)[:, None] & (offs_d < D)[None, :]
        mean = mean / (total * LIFT)[:, None]
        tl.store(mean_ptr + offs_n[:, None] * D + offs_d[None, :], mean, mask)
    if tl.program_id(1) == 0:
        loss = tl.log(total) - (picked - top)
        loss = tl.where((targets >= 0) & (targets < V), loss, float("nan"))
        tl.store(losses_ptr + offs_n, loss, offs_n < N)
        tl.store(top_ptr + offs_n, top, offs_n < N)
        tl.store(log_total_ptr + offs_n, tl.log(total), offs_n < N)


@jit
def _backward(
    d_losses_ptr, h_ptr, weight_ptr, targets_ptr, top_ptr, log_total_ptr, dw_ptr,
    N, V, D, EXACT: tl.constexpr, LIFT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile [BLOCK_V, BLOCK_D] of dW, owned by this program alone: the sum over all rows."""
    offs_v = (tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)).to(tl.int64)
    offs_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    dw = tl.zeros((BLOCK_V, BLOCK_D), tl.float32)
    if BLOCK_K == 0:
        weight = _tile(weight_ptr, offs_v, offs_d, V, D, EXACT)
    for start in range(0, N, BLOCK_N):
        offs_n = (start + tl.arange(0, BLOCK_N)).to(tl.int64)
        mask = offs_n < N
        h = _tile(h_ptr, offs_n, offs_d, N, D, EXACT)
        if BLOCK_K == 0:
            z = tl.dot(h, tl.trans(weight), input_precision="ieee")
        else:
            z = _logits(
                h_ptr, weight_ptr, offs_n, offs_v, N, V, D, EXACT, BLOCK_N, BLOCK_V, BLOCK_K
            )
        targets = tl.load(targets_ptr + offs_n, mask, -1)
        top = tl.load(top_ptr + offs_n, mask, 0.0)
        log_total = tl.load(log_total_ptr + offs_n, mask, 0.0)
        # In two steps: top + log_total would round away what the softmax of large logits needs.
        p = tl.exp(z - top[:, None] - log_total[:, None])
        d_losses = tl.load(d_losses_ptr + offs_n, mask, 0.0) * LIFT
        # Fused: multiplied, then subtracted, it takes more registers.
        hit = tl.where(offs_v[None, :] == targets[:, None], d_losses[:, None], 0.0)
        dz = tl.fma(p, tl.broadcast_to(d_losses[:, None], p.shape), -hit)
        dw += tl.dot(tl.trans(dz.to(h.dtype)), h, input_precision="ieee")
    mask = (offs_v < V)[:, None] & (offs_d < D)[None, :]
    tl.store(dw_ptr + offs_v[:, None] * D + offs_d[None, :], dw / LIFT, mask)


@jit
def _tile(ptr, rows, columns, n_rows, n_columns, EXACT: tl.constexpr):
    """A tile of a row-major matrix, 0 beyond its edges."""
    mask = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    tile = tl.load(ptr + rows[:, None] * n_columns + columns[None, :], mask, 0.0)
    return tile.to(tl.float32) if EXACT else tile


@jit
def _logits(
    h_ptr, weight_ptr, offs_n, offs_v, N, V, D, EXACT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Logits [BLOCK_N, BLOCK_V] of rows too wide to be held at once."""
    z = tl.zeros((BLOCK_N, BLOCK_V), tl.float32)
    for start in range(0, D, BLOCK_K):
        offs_k = start + tl.arange(0, BLOCK_K)
        h = _tile(h_ptr, offs_n, offs_k, N, D, EXACT)
        weight = _tile(weight_ptr, offs_v, offs_k, V, D, EXACT)
        z += tl.dot(h, tl.trans(weight), input_precision="ieee")
    return z


def _launch(
    dtype: torch.dtype, D: int, backward: bool, hip: bool = torch.version.hip is not None
) -> dict[str, Any]:
    """Block sizes and the like. Rows of up to 256 numbers are held whole (BLOCK_K 0)."""
    wide = D > 256
    if INTERPRETED:
        # Its products depend on their shape in the last bit: equal in both passes, the logits that
        # the second makes are those of the first, as they are on a GPU.
        block_n, block_v, warps, stages = 64, 64, 4, 2
    elif dtype == torch.float32:
        block_n, block_v, warps, stages = (32, 64, 8, 2) if backward else (64, 32, 8, 2)
    else:
        # The fastest of a dozen tried on an H200 (D 256, V 50,257): 4.3 ms and 3.4 for 32,768 rows.
        # Backward, two programs share a multiprocessor; 8 warps or larger blocks take 4.6 to 8.1.
        # Triton 3.6 made wrong sums of some backward blocks of 32 rows: see the tests on a GPU.
        block_n, block_v, warps, stages = (64, 64, 4, 2) if backward else (128, 64, 8, 3)
    if hip:
        stages = 2  # a third would not fit into 64 KiB of shared memory
    return {
        "EXACT": INTERPRETED and dtype == torch.bfloat16,  # its bf16 products are wrong
        "LIFT": _lift(dtype),
        "BLOCK_N": block_n,
        "BLOCK_V": block_v,
        "BLOCK_D": 128 if wide else max(16, 1 << (D - 1).bit_length()),
        "BLOCK_K": 64 if wide else 0,
        "num_warps": warps,
        "num_stages": stages,
    }


@torch.library.custom_op("ncn_kernels::flash_cross_entropy", mutates_args=())
def _flash(
    h: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [N]; the largest logit and the log of the sum relative to it [2, N]; and the mean of W
    by the softmax [N, D], of which dh is made, empty without `with_mean`."""
    (N, D), V = h.shape, len(weight)
    h, weight = (each.to(dtype).contiguous() for each in (h, weight))
    losses = h.new_empty(N, dtype=torch.float32)
    statistics = h.new_empty(2, N, dtype=torch.float32)
    mean = h.new_empty((N, D) if with_mean else 0, dtype=torch.float32)
    sizes = _launch(dtype, D, backward=False)
    grid = (-(-N // sizes["BLOCK_N"]), -(-D // sizes["BLOCK_D"]) if with_mean else 1)
    if N:
        _forward[grid](
            h, weight, targets.contiguous(), losses, statistics[0], statistics[1], mean,
            N, V, D, WITH_MEAN=with_mean, **sizes,
        )  # fmt: skip
    return losses, statistics, mean


@_flash.register_fake
def _(
    h: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, with_mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    losses = h.new_empty(len(h), dtype=torch.float32)
    statistics = h.new_empty(2, len(h), dtype=torch.float32)
    mean = h.new_empty(h.shape if with_mean else 0, dtype=torch.float32)
    return losses, statistics, mean


@torch.library.custom_op("ncn_kernels::flash_cross_entropy_backward", mutates_args=())
def _flash_backward(
    d_losses: Tensor,
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    statistics: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """dW [V, D] in the type of W."""
    (N, D), V = h.shape, len(weight)
    # dz is then within -1 ... 1: in fp16 a gradient scaled against underflow would overflow.
    largest = d_losses.abs().amax() if N else d_losses.new_ones(())
    largest = largest.clamp(min=torch.finfo(d_losses.dtype).tiny)
    dw = h.new_empty(V, D, dtype=torch.float32)
    sizes = _launch(dtype, D, backward=True)
    grid = (-(-V // sizes["BLOCK_V"]), -(-D // sizes["BLOCK_D"]))
    _backward[grid](
        d_losses / largest, *(each.to(dtype).contiguous() for each in (h, weight)),
        targets.contiguous(), statistics[0], statistics[1], dw, N, V, D, **sizes,
    )  # fmt: skip
    return (dw * largest).to(weight.dtype)


@_flash_backward.register_fake
def _(
    d_losses: Tensor,
    h: Tensor,
    weight: Tensor,
    targets: Tensor,
    statistics: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _save_statistics(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    h, weight, targets, ctx.dtype, _ = inputs
    _, statistics, mean = output
    ctx.save_for_backward(h, weight, targets, statistics, mean)
    ctx.mark_non_differentiable(statistics, mean)


def _flash_gradients(ctx: Any, d_losses: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    h, weight, targets, statistics, mean = ctx.saved_tensors
    dh = dw = None
    if ctx.needs_input_grad[0]:
        chosen = weight[targets].to(ctx.dtype)
        dh = (d_losses[:, None] * mean - d_losses[:, None] * chosen).to(h.dtype)
    if ctx.needs_input_grad[1]:
        dw = _flash_backward(d_losses, h, weight, targets, statistics, ctx.dtype)
    return dh, dw, None, None, None


_flash.register_autograd(_flash_gradients, setup_context=_save_statistics)
