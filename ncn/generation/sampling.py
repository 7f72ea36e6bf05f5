"""From logits to the next token: temperature, then top-k, then top-p (nucleus).

p = softmax(logits / temperature), cut to the k most probable tokens, cut again to the fewest
of those that together hold a share top_p of what is left, renormalised.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ncn.common.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn.

    temperature: 0 takes the most probable token (greedy), 1 the model's own probabilities.
    top_k: tokens kept; None or 0 keeps all. top_p: share of the probability kept, in (0, 1].

    Raises:
        InputError: a value outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(
                f"temperature {self.temperature}: allowed are 0 (greedy) and finite numbers above"
            )
        if self.top_k is not None and self.top_k < 0:
            raise InputError(f"top_k {self.top_k}: allowed are 1 and more, or 0 for all tokens")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p}: allowed are numbers above 0, at most 1")


def distribution(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """What `sampling` makes of logits [B, V] at a temperature above 0.

    Returns:
        Probabilities [B, k] in float64, not increasing, and the tokens [B, k] they belong to;
        k is V or top_k. Those that top_p cuts have probability 0.
    """
    vocab_size = logits.shape[-1]
    k = min(sampling.top_k or vocab_size, vocab_size)
    kept, tokens = logits.topk(k) if k < vocab_size else logits.sort(descending=True, stable=True)
    below = kept.double() - kept[:, :1]  # at most 0: no temperature is too low to divide by
    probabilities = (below / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
        probabilities /= probabilities.sum(-1, keepdim=True)
    return probabilities, tokens


def sample(logits: Tensor, uniform: Tensor | None, sampling: Sampling) -> Tensor:
    """A token for each row of logits [B, V], by inverting the distribution at `uniform`.

    A row's token depends on its own logits and number alone, so no row moves another's draw.

    Args:
        logits: [B, V].
        uniform: [B], in [0, 1); unused when greedy.
        sampling: how to draw.
    """
    if sampling.temperature == 0:
        if logits.is_contiguous():
            return logits.argmax(-1)
        return logits.max(-1).indices  # the same, three times as fast where they lie token by token
    assert uniform is not None
    probabilities, tokens = distribution(logits, sampling)
    mass = probabilities.cumsum(-1)
    # Over its own last value the mass ends in exactly 1, so no number in [0, 1) falls off its end.
    places = torch.searchsorted(mass / mass[:, -1:], uniform.double()[:, None], right=True)
    return tokens.gather(-1, places).squeeze(-1)
