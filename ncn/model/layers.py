"""What layers share: each computes through the form of the kernels that its model is set to."""

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
    """n vectors [D], left for `ncn.model.initialise` to draw.

    nn.Embedding draws them itself: for a model without storage, torch loads its compiler for that,
    which takes longer than all else that `ncn.generate` does before it speaks.
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
