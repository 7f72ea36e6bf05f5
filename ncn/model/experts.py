"""The feed-forward as a small mixture of experts: `model.experts`, `model.experts_per_token`.

An expert is an equal part of the feed-forward's hidden units; each token uses k of the E:

    p   = softmax over e of  W_r n + ln ρ               n the branch's normed input, ρ = 1
    w_e = p_e / sum_K p     of the k most probable, K;  0 of the others;  p_e itself where k = 1
    F(n) = sum_e w_e GELU(n W_1,e + b_1,e) W_2,e + b_2

So it has the parameters of the plain feed-forward and the router's E D, and E = 1 is the plain one.
With the signal `router` the control network biases the choice: ρ_e is its number for expert e, a
factor of its odds. All E are computed and k are used, which costs what the plain feed-forward does:
at these widths to leave parts out would save nothing.

Training adds, for each layer, what shares the tokens out evenly,

    balance * E sum_e f_e P_e       f_e the share of a row's choices that are e, P_e its mean p_e,

1 where all are alike. Sources: Shazeer et al. 2017 (arXiv 1701.06538); k = 1 and the balance, Fedus
et al. 2021 (arXiv 2101.03961); by row, so that a batch may be cut, DeepSeek-AI 2024 (2412.19437).
The preprint's README names routing as a target ("Expanded Modulation Targets").
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ncn.layers import at_least_single
from ncn.settings import ModelConfig

SMALLEST = 1e-6  # odds: 2 sigmoid(z) may be 0, which has no logarithm


class Router(nn.Module):
    """n [B, T, D] -> the weight of each expert [B, T, E].

    balance: E sum_e f_e P_e of the last pass, the mean of its rows: a scalar, for the loss.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._per_token = config.experts_per_token
        self.scores = nn.Linear(config.d_model, config.experts, bias=False)
        self.balance: Tensor | None = None

    def forward(self, normed: Tensor, odds: Tensor | None = None) -> Tensor:
        """The weights for n [B, T, D] and odds ρ [B, T, E]; None: 1."""
        logits = at_least_single(self.scores(normed))
        if odds is not None:
            logits = logits + odds.to(logits.dtype).clamp_min(SMALLEST).log()
        p = logits.softmax(-1)
        kept, chosen = p.topk(self._per_token, dim=-1)
        if self._per_token > 1:
            kept = kept / kept.sum(-1, keepdim=True)
        weights = torch.zeros_like(p).scatter(-1, chosen, kept)
        shares = torch.zeros_like(p).scatter(-1, chosen, 1 / self._per_token).mean(1)  # f [B, E]
        self.balance = p.shape[-1] * (shares * p.mean(1)).sum(-1).mean()
        return weights.to(normed.dtype)


def make_router(config: ModelConfig) -> Router | None:
    """That of one layer; None where there is one expert."""
    return Router(config) if config.experts > 1 else None


def weighted(hidden: Tensor, weights: Tensor) -> Tensor:
    """The hidden units [B, T, F], each times the weight of its expert, of [B, T, E]."""
    return (hidden.unflatten(-1, (weights.shape[-1], -1)) * weights[..., None]).flatten(-2)


def imbalance(routers: Iterable[nn.Module | None]) -> Tensor | None:
    """The sum of the balances of a model's routers after a pass; None where there are none."""
    balances = [each.balance for each in routers if isinstance(each, Router)]
    return torch.stack([each for each in balances if each is not None]).sum() if balances else None


def router_flops(config: ModelConfig) -> int:
    """Forward FLOPs a token and layer, counted as in `ncn.model.flops`."""
    return 2 * config.d_model * config.experts if config.experts > 1 else 0
