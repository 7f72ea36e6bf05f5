"""The update of a key-value cache, in place: what attention keeps of the tokens it has read.

    keys[b, h, positions[b, t], :] = k[b, h, t, :]        and values, v alike

No formula is computed and nothing rounds: the copy is exact to the bit, and has no gradient. A
position outside the cache is an error and writes nothing. On a GPU it is found by an assertion
inside the kernel, as torch's own indexing finds it, since asking from outside would stop the GPU
at every token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import Backend, jit, tl


def cache_update_reference(
    keys: Tensor, values: Tensor, k: Tensor, v: Tensor, positions: Tensor
) -> None:
    """The update in plain PyTorch."""
    positions = positions.to(torch.int64)
    if positions.ndim == 1:  # three times as fast as scatter_ for one token, on a CPU
        keys.index_copy_(2, positions, k)
        values.index_copy_(2, positions, v)
    else:
        index = positions[:, None, :, None].expand_as(k)
        keys.scatter_(2, index, k)
        values.scatter_(2, index, v)


@jit
def _copy(
    keys_ptr, values_ptr, k_ptr, v_ptr, positions_ptr, H, T, C, K,
    stride_keys_b, stride_keys_h, stride_keys_t, stride_keys_k,
    stride_values_b, stride_values_h, stride_values_t, stride_values_k,
    stride_k_b, stride_k_h, stride_k_t, stride_k_k,
    stride_v_b, stride_v_h, stride_v_t, stride_v_k,
    stride_p_b, stride_p_t,
    BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    offs_t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    h = (tl.program_id(1) % H).to(tl.int64)
    b = (tl.program_id(1) // H).to(tl.int64)
    offs_k = tl.arange(0, BLOCK_K)
    wide_t = offs_t.to(tl.int64)
    p = tl.load(positions_ptr + b * stride_p_b + wide_t * stride_p_t, offs_t < T, 0).to(tl.int64)
    inside = (p >= 0) & (p < C)
    tl.device_assert(inside, "cache_update: a position is outside the cache")
    mask = (inside & (offs_t < T))[:, None] & (offs_k < K)[None, :]
    k_ptrs = k_ptr + b * stride_k_b + h * stride_k_h
    k_ptrs += wide_t[:, None] * stride_k_t + offs_k[None, :] * stride_k_k
    v_ptrs = v_ptr + b * stride_v_b + h * stride_v_h
    v_ptrs += wide_t[:, None] * stride_v_t + offs_k[None, :] * stride_v_k
    keys_ptrs = keys_ptr + b * stride_keys_b + h * stride_keys_h
    keys_ptrs += p[:, None] * stride_keys_t + offs_k[None, :] * stride_keys_k
    values_ptrs = values_ptr + b * stride_values_b + h * stride_values_h
    values_ptrs += p[:, None] * stride_values_t + offs_k[None, :] * stride_values_k
    tl.store(keys_ptrs, tl.load(k_ptrs, mask), mask)
    tl.store(values_ptrs, tl.load(v_ptrs, mask), mask)


def _launch(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> None:
    """The update in Triton: a program copies `BLOCK_T` positions of one head."""
    B, H, T, K = k.shape
    p = positions.expand(B, T)
    block_t, block_k = min(16, 1 << (T - 1).bit_length()), 1 << (K - 1).bit_length()
    grid = (-(-T // block_t), B * H)
    strides = [stride for each in (keys, values, k, v, p) for stride in each.stride()]
    shape = H, T, keys.shape[2], K
    # `debug` is what keeps the assertion in the compiled kernel.
    _copy[grid](keys, values, k, v, p, *shape, *strides, block_t, block_k, debug=True)


@torch.library.custom_op("ncn_kernels::cache_update", mutates_args=("keys", "values"))
def _cache_update(
    keys: Tensor, values: Tensor, k: Tensor, v: Tensor, positions: Tensor, triton: bool
) -> None:
    update = _launch if triton else cache_update_reference
    update(keys, values, k, v, positions)


@_cache_update.register_fake
def _(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, positions: Tensor, triton: bool) -> None:
    return None


def cache_update(
    keys: Tensor, values: Tensor, k: Tensor, v: Tensor, positions: Tensor, *, backend: Backend
) -> None:
    """Write k and v [B, H, T, K] at `positions` of keys and values [B, H, C, K], in place.

    Args:
        keys: the cache, of any strides and type.
        values: likewise, of the shape and type of keys.
        k: what to write, of any strides, of the type of keys.
        v: likewise.
        positions: int32 or int64, [T], or [B, T] where the texts have them apart: distinct
            within a text, each in 0 ... C - 1.
        backend: as `kernels.dispatch.resolve` gives it.

    Raises:
        ValueError: shapes or types that do not fit each other.
        IndexError: a position outside the cache. On a GPU the kernel asserts it instead, and
            torch reports a device-side assertion at the next synchronisation.
    """
    B, H, T, K = k.shape
    room = (B, H, keys.shape[2], K)
    if v.shape != k.shape or keys.shape != room or values.shape != room:
        shapes = ", ".join(str(tuple(each.shape)) for each in (keys, values, k, v))
        raise ValueError(
            f"keys, values, k, v {shapes}: expected [B, H, C, K] twice, then [B, H, T, K]"
        )
    if len({each.dtype for each in (keys, values, k, v)}) > 1:
        raise ValueError(f"k and v are {k.dtype} and {v.dtype}, the cache {keys.dtype}")
    if positions.shape not in ((T,), (B, T)) or positions.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"positions {positions.dtype} {tuple(positions.shape)}: expected int32 or int64,"
            f" ({T},) or ({B}, {T})"
        )
    if k.numel() == 0:
        return
    triton = backend == "triton"
    if torch.compiler.is_compiling():
        _cache_update(keys, values, k, v, positions, triton)
        return
    if positions.device.type == "cpu":  # before anything is written
        low, high = (int(each) for each in positions.aminmax())
        if low < 0 or high >= keys.shape[2]:
            wrong = low if low < 0 else high
            raise IndexError(f"position {wrong} is outside the cache: 0 to {keys.shape[2] - 1}")
        run = 1 < T == high - low + 1 and positions.ndim == 1
        if not triton and run and positions.diff().eq(1).all():
            # A prompt: one block, which is copied 3.7 times as fast as position by position.
            keys.narrow(2, low, T).copy_(k)
            values.narrow(2, low, T).copy_(v)
            return
    # Eager code needs no operator between: it costs 60 us a call, ten times the copy of a token.
    (_launch if triton else cache_update_reference)(keys, values, k, v, positions)
