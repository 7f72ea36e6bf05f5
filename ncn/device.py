"""Where tensors live and in which precision they are multiplied."""

from contextlib import AbstractContextManager
from typing import Literal

import torch


def pick_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision(
    device: torch.device, precision: Literal["fp32", "bf16"]
) -> AbstractContextManager[None]:
    """Matrix products in `precision`; weights, norms and losses stay in fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def describe(device: torch.device) -> str:
    """The device in words, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
