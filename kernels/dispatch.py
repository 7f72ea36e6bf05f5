"""Which form of the kernels runs: one setting, resolved for a device, never a silent fallback."""

import os
from importlib.util import find_spec
from typing import Literal

import torch

Setting = Literal["auto", "reference", "chunked", "triton"]
Backend = Literal["reference", "chunked", "triton"]

HAS_TRITON = find_spec("triton") is not None
# Triton reads it when a kernel is defined: its interpreter runs kernels on the CPU, for tests.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


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
        return "chunked"
    if setting == "triton":
        if not HAS_TRITON:
            raise ValueError("kernels: triton needs the package triton, which is not installed")
        if device.type != "cuda" and not INTERPRETED:
            raise ValueError(
                f"kernels: triton needs a GPU and this is {device.type};"
                " auto, reference and chunked run here"
            )
    return setting
