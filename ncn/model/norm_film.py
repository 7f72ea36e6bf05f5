"""Gain and bias vectors of a layer's norms, set by the signal `norm_film`.

    n <- (1 + a) * n + b,     [a; b] = B (r_t - 1),     r_t in (0, 2)^R, neutral at 1

n [B, T, D] is what the norm before a branch gives, a and b one vector a token and branch, and B
[2 D, R] learned, one for each branch of each layer. Of rank R (`NORM_RANK`), so that the control
network puts out R numbers a token and layer and not 4 D. r_t are its numbers; both branches share
them. Source: preprint section 8, "Expanded Modulation Targets"; the form is that of FiLM (Perez et
al. 2018, arXiv 1709.07871), its low rank our choice.
"""

from torch import Tensor, nn

from ncn.settings import ModelConfig
from ncn.signals import NORM_RANK, SIGNALS


class NormFilm(nn.Module):
    """What turns the numbers of a layer into gains and biases of its two norms."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.attention = nn.Linear(NORM_RANK, 2 * d_model, bias=False)
        self.feed_forward = nn.Linear(NORM_RANK, 2 * d_model, bias=False)


def modulated(normed: Tensor, numbers: Tensor, basis: nn.Module) -> Tensor:
    """(1 + a) * n + b [B, T, D] of n [B, T, D], for numbers r [B, T, R] and a branch's B."""
    gain, bias = basis((numbers - 1).to(normed.dtype)).to(normed.dtype).chunk(2, -1)
    return (1 + gain) * normed + bias


def make_norm_film(config: ModelConfig) -> NormFilm | None:
    """That of one layer; None where no signal acts on the norms."""
    return NormFilm(config.d_model) if _acts(config) else None


def norm_film_flops(config: ModelConfig) -> int:
    """Forward FLOPs a token and layer, counted as in `ncn.model.flops`."""
    return 2 * 2 * NORM_RANK * 2 * config.d_model if _acts(config) else 0


def _acts(config: ModelConfig) -> bool:
    signals = [] if config.control is None else config.control.signals
    return any("norms" in SIGNALS[name].sites for name in signals)
