"""When the tonic signal is recomputed while generating ("adiabatic" control, preprint 3.6).

Between refreshes the last pooled context c meets the current x; the pooling itself still takes in
every token, so that a refresh sees all of them. Where a whole window is encoded (the prompt, what
is kept of a full context) each position has its own c, as in training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncn.common.errors import InputError


@dataclass(frozen=True)
class EveryTokens:
    """At each n-th token read since a window was encoded. 1 is always, as in training."""

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"refresh {self.n}: allowed are 1 token and more")

    def due(self, number: int, logits: Tensor) -> Tensor | None:
        """See `Refresh`."""
        return None if self.n == 1 else torch.tensor([number % self.n == 0], device=logits.device)


@dataclass(frozen=True)
class AboveEntropy:
    """At each token of which the model was unsure: its entropy (at temperature 1) was higher."""

    nats: float

    def __post_init__(self) -> None:
        if not self.nats >= 0:
            raise InputError(f"refresh entropy:{self.nats}: allowed are 0 nats and more")

    def due(self, number: int, logits: Tensor) -> Tensor:
        """See `Refresh`."""
        log_p = logits.log_softmax(-1)
        return torch.special.entr(log_p.exp()).sum(-1) > self.nats


# due(number, logits): the rows, [B] or [1] (all alike), whose c is recomputed at the token about to
# be read: the number-th, from 1, since a window was encoded, drawn from logits [B, V]. None: all.
Refresh = EveryTokens | AboveEntropy
ALWAYS = EveryTokens(1)


def parse_refresh(text: str) -> Refresh:
    """`8` is every 8 tokens; `entropy:2.5` is where the next-token entropy exceeds 2.5 nats.

    Raises:
        InputError: anything else.
    """
    kind, _, value = text.rpartition(":")
    try:
        if kind == "entropy":
            return AboveEntropy(float(value))
        return EveryTokens(int(text))
    except InputError:
        raise
    except ValueError:
        raise InputError(
            f"refresh {text!r}: allowed are a number of tokens, or entropy:NATS"
        ) from None
