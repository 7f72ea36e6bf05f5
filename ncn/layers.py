"""What layers share: how their kernels compute, what their draws start from, a norm, an entropy."""

import hashlib

import torch
from torch import Tensor, nn

from kernels.dispatch import Backend, Setting, resolve
from kernels.rms_norm import rms_norm

NORM_EPS = 1e-5


class Layer(nn.Module):
    """A module that uses kernels. `LanguageModel.use_kernels` sets `kernels` on all of a model."""

    kernels: Setting = "auto"

    def backend(self, x: Tensor) -> Backend:
        """The form of the kernels for tensors where x is."""
        return resolve(self.kernels, x.device)


def embedding(n: int, d_model: int) -> nn.Embedding:
    """n vectors [D], left for `ncn.model.initialisation` to draw.

    nn.Embedding draws them itself: for a model without storage, torch loads its compiler for that,
    which takes longer than all else that `ncn.generation` does before it speaks.
    """
    return nn.Embedding.from_pretrained(torch.empty(n, d_model), freeze=False)


class RMSNorm(Layer):
    """w * x / sqrt(mean(x^2) + eps), see `kernels.rms_norm`; eps is 1e-5."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        return rms_norm(x, self.weight, NORM_EPS, backend=self.backend(x))


def named_seed(*name: object) -> int:
    """The seed of a stream of random numbers of its own, in [0, 2^48).

    By name and not by order: another draw more, before it or beside it, moves none of its numbers.

    Args:
        name: whatever tells it from other streams, the run's seed first.
    """
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return int.from_bytes(digest[:6])


def at_least_single(x: Tensor) -> Tensor:
    """x in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def attention_entropy(q: Tensor, k: Tensor) -> Tensor:
    """How widely a token attends, which the control network may see (preprint 3.2): h [B, t] of
    queries q [B, H, t, K] over keys k [B, H, T, K], of which the last t are theirs.

    h_t = mean over heads of  -sum_{s <= t} p_ts ln p_ts / ln(t + 1)        in [0, 1]

    with p_t the attention of position t over the t + 1 positions that it sees: 0 where it attends
    to one of them, 1 where to all alike. The first position sees only itself: 0.

    A measurement: no gradient passes. Otherwise a layer could be trained to attend sharply or
    widely in order to signal to the next one, and the figure would no longer report on it.
    Costs the product of q and k once more, and O(t T) memory: fused attention does not tell p.
    """
    return head_entropies(q, k).mean(1)


@torch.no_grad()
def head_entropies(q: Tensor, k: Tensor) -> Tensor:
    """As `attention_entropy`, of each head: [B, H, t]."""
    own, length = q.shape[2], k.shape[2]
    visible = torch.arange(length - own + 1, length + 1, device=q.device)  # [t]
    with torch.autocast(q.device.type, enabled=False):
        scores = at_least_single(q) @ at_least_single(k).mT * k.shape[-1] ** -0.5  # [B, H, t, T]
        future = torch.arange(length, device=q.device) >= visible[:, None]
        log_p = scores.masked_fill(future, -torch.inf).log_softmax(-1)
        entropy = torch.special.entr(log_p.exp()).sum(-1)  # [B, H, t]
    return entropy / visible.clamp(min=2).log()  # alone: 0 / ln 2
