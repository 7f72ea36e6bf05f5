"""Keys and values in few bits: what a compressed cache does to the model, and its exact size.

A vector x [K], the key or value of one token in one head, in b bits:

    s = max |x| / (2^(b-1) - 1),   stored: round(x / s) and s,   read: s round(x / s)

so that no number moves by more than s / 2. Stored are the K integers, packed, and s in the type of
the cache. Here nothing is packed: the keys and values are rounded as if they had been, and the
bytes counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ncn.model import LanguageModel
from ncn.settings import ModelConfig

WHOLE = 0  # bits: as it is
SCALE_BYTES = 4  # fp32, as the cache


def quantised(x: Tensor, bits: int) -> Tensor:
    """Vectors x [..., K] as they are read back from `bits` bits, 2 to 8, a number."""
    steps = 2 ** (bits - 1) - 1
    scale = x.abs().amax(-1, keepdim=True) / steps
    # A vector of zeros, or of the least numbers that there are, has no scale: it is read as 0.
    numbers = torch.where(scale > 0, x / scale, 0.0).round().clamp(-steps, steps)
    return numbers * scale


def stored_bytes(config: ModelConfig, bits: Tensor) -> float:
    """Bytes a token of keys and values of all layers, each in bits [N, T, L], 0 in fp32."""
    head_width = config.d_model // config.n_heads
    packed = (head_width * bits + 7).div(8, rounding_mode="floor") + SCALE_BYTES
    each = torch.where(bits == WHOLE, 4 * head_width, packed)  # of one vector
    return 2 * config.n_heads * float(each.sum()) / bits.shape[:2].numel()


@contextmanager
def compressed(model: LanguageModel, bits: Tensor) -> Iterator[None]:
    """While the block runs, keys and values have been stored in bits [N, T, L], 0 as they are."""
    n_heads = model.config.n_heads

    def of_layer(bits: Tensor) -> Any:
        def stored(_module: nn.Module, _inputs: object, qkv: Tensor) -> Tensor:
            q, *both = qkv.chunk(3, -1)
            for each in torch.unique(bits).tolist():
                if each != WHOLE:
                    mine = (bits == each)[..., None, None]
                    heads = [x.unflatten(-1, (n_heads, -1)) for x in both]
                    both = [torch.where(mine, quantised(x, each), x).flatten(-2) for x in heads]
            return torch.cat([q, *both], -1)

        return stored

    hooks = [
        block.get_submodule("attention.qkv").register_forward_hook(of_layer(bits[:, :, layer]))
        for layer, block in enumerate(model.blocks)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
