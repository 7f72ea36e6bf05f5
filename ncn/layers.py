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


class RMSNorm(Layer):
    """w * x / sqrt(mean(x^2) + eps), see `kernels.rms_norm`; eps is 1e-5."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        return rms_norm(x, self.weight, NORM_EPS, backend=self.backend(x))
