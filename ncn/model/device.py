"""Where tensors live and in which precision they are multiplied."""

import os
import resource
import shutil
from contextlib import AbstractContextManager
from typing import Literal

import torch

from kernels.dispatch import multiplies
from ncn.common.errors import InputError

Precision = Literal["fp32", "bf16", "fp16"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU. Of several ranks each has a GPU of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def compute_alike(threads: int) -> None:
    """Make a CPU give the same result again: in so many threads, by deterministic kernels.

    Sums are cut into as many parts as there are threads, so their number is part of the result.
    """
    torch.set_num_threads(threads)
    # Not `use_deterministic_algorithms`, which says the same and loads the compiler: four seconds.
    torch.set_deterministic_debug_mode("default" if torch.cuda.is_available() else "error")
    # Else each new buffer is filled before it is written: 2 % of a step, and no number moves.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def resolve_precision(precision: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """What `auto` means on `device`; any other precision is itself.

    | device                                              | auto |
    |-----------------------------------------------------|------|
    | GPU that multiplies bf16 (compute capability 8.0 on) | bf16 |
    | another GPU                                         | fp16 |
    | CPU with bf16 units (AVX512-BF16, AMX, Arm's)       | bf16 |
    | another CPU, which would emulate them               | fp32 |

    So the result of `auto` depends on the machine: not for a run that others are to repeat
    exactly.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if multiplies(torch.bfloat16, device.type) else "fp32"


def mixed_precision(
    device: torch.device, precision: Literal["auto"] | Precision
) -> AbstractContextManager[None]:
    """Matrix products in `precision`; weights, norms and losses stay in fp32."""
    half = HALVES.get(resolve_precision(precision, device))
    return torch.autocast(device.type, dtype=half, enabled=half is not None)


def describe(device: torch.device) -> str:
    """The device in words, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes: the GPU's where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def require_compiler(device: torch.device) -> None:
    """See that torch.compile finds what it calls: a C++ compiler, for a GPU a C compiler.

    Raises:
        InputError: there is none.
    """
    variable, *names = (
        ("CC", "gcc", "clang") if device.type == "cuda" else ("CXX", "g++", "clang++")
    )
    asked = os.environ.get(variable)
    if not any(map(shutil.which, [asked] if asked else names)):
        found = f"{variable} names {asked}, which is not there" if asked else "none is on PATH"
        raise InputError(
            f"train.compile: true needs a compiler ({' or '.join(names)}), but {found}:"
            " install one (apt install g++), or set train.compile to false"
        )
