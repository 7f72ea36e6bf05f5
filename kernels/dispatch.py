"""Which form of the kernels runs: one setting, resolved for a device, never a silent fallback."""

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch

Setting = Literal["auto", "reference", "chunked", "triton"]
Backend = Literal["reference", "chunked", "triton"]

HAS_TRITON = find_spec("triton") is not None
# Triton reads it when a kernel is defined: its interpreter runs kernels on the CPU, for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

jit: Callable[[Callable[..., Any]], Any]
tl: Any
# Not where nothing can be launched: it takes a tenth of a second of every start. Who has imported
# it already means to compile for GPUs that are elsewhere.
if HAS_TRITON and (INTERPRETED or torch.backends.cuda.is_built() or "triton" in sys.modules):
    import triton
    import triton.language

    jit, tl = triton.jit, triton.language
else:  # kernels are still defined, but `resolve` lets nobody launch them
    jit, tl = lambda kernel: kernel, None


def resolve(setting: Setting, device: torch.device) -> Backend:
    """The form that `setting` means on `device`.

    | setting   | cross-entropy                       | the other kernels |
    |-----------|-------------------------------------|-------------------|
    | reference | plain torch, all logits at once     | plain torch       |
    | chunked   | plain torch, never all logits       | plain torch       |
    | triton    | Triton                              | Triton            |
    | auto      | triton on a GPU that has it, chunked elsewhere          |

    Raises:
        ValueError: triton is asked for where it cannot run.
    """
    if setting == "auto":
        return "triton" if device.type == "cuda" and HAS_TRITON else "chunked"
    if setting == "triton":
        if not HAS_TRITON:
            raise ValueError("kernels: triton needs the package triton, which is not installed")
        if device.type != "cuda" and not INTERPRETED:
            raise ValueError(
                f"kernels: triton needs a GPU and this is {device.type};"
                " auto, reference and chunked run here"
            )
    return setting


def launches_triton(backend: Backend) -> bool:
    """Whether an elementwise kernel launches Triton: not inside torch.compile.

    There the compiler fuses the plain form with its neighbours, from which a finished kernel would
    keep it apart: 7.9 ms against 20.0 on two cores (44.0 eager).
    """
    return backend == "triton" and not torch.compiler.is_compiling()


@cache
def multiplies(dtype: torch.dtype, device_type: str) -> bool:
    """Does this device multiply matrices of `dtype` faster than of fp32?

    A CPU without bf16 units emulates them: 7 times slower than fp32 on AVX2. There the rounded
    values are multiplied in fp32, which is also exact where bf16 units would round the product.
    """
    if device_type != "cpu" or dtype in (torch.float32, torch.float64):
        return True
    units = ("avx512_bf16", "amx_bf16", "bf16")  # x86; Arm
    return dtype == torch.bfloat16 and any(torch.cpu.get_capabilities().get(u) for u in units)
