"""What a change from outside does to a trained model: its context, its words, its signals."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ncn.layers import at_least_single
from ncn.model.blocks import scales_at, split_heads
from ncn.published.claimed import PRECISION_CLAMP
from ncn.scoring.asked import Asked, context_changed, pooling_of
from ncn.scoring.probes import Signals, signals_changed
from ncn.statistics.interval import Floats
from ncn.statistics.sample import mean_interval, ratio_interval

REFRESHES = (8, 32)  # tokens between two contexts
APART = 3  # positions between the two words: "dog chased the cat"
LATER = 16  # positions after the second word on which its signals are compared: a sentence
RAISED = 1.1  # what the gain is multiplied by, and the gate divided by


def tonic(asked: Asked, own: Floats) -> list[float] | None:
    """What the tonic stream is worth: the loss with another row's context c minus its own's.

    c_t of each row becomes c_t of the next one, at every position; x_t stays. 0 where the control
    network ignores c.

    Args:
        own: the losses of the rows as they are, nats a token, [N].

    Returns:
        [value, low, high], nats a token, 95 % over rows; None where nothing is pooled.
    """
    return _changed_context(asked, own, lambda pooled: pooled.roll(1, dims=0))


def refresh(asked: Asked, own: Floats) -> dict[str, list[float]] | None:
    """What it costs to recompute c every n tokens only (preprint 3.6): loss minus that at n = 1.

    Teacher-forced: c_t becomes c at position n floor(t / n), for each n of REFRESHES; x_t stays.

    Returns:
        By n, as `tonic`.
    """
    if pooling_of(asked.model) is None:
        return None
    costs = {n: _changed_context(asked, own, partial(held, n=n)) for n in REFRESHES}
    return {str(n): cost for n, cost in costs.items() if cost is not None}


def held(pooled: Tensor, n: int) -> Tensor:
    """The context [N, T, D], kept from each n-th position until the next."""
    return pooled[:, torch.arange(pooled.shape[1], device=pooled.device) // n * n]


def _changed_context(
    asked: Asked, own: Floats, change: Callable[[Tensor], Tensor]
) -> list[float] | None:
    if (pooling := pooling_of(asked.model)) is None:
        return None
    with context_changed(pooling, change):
        return list(mean_interval(asked.row_losses() - own))


def word_order(asked: Asked) -> dict[str, object] | None:
    """Do later signals tell "the dog chased the cat" from "the cat chased the dog"?

    Two words of each row change places (same words, other order), or are replaced by those of the
    next row (other words). The signals at the up to LATER positions after them, where the tokens
    are the same as before, move by, root mean square over positions and signals:

    Returns:
        swapped, replaced: mean over rows, in standard deviations of a signal over tokens.
        ratio: swapped / replaced, [value, low, high], 95 % over rows; null where replaced is 0.
        None without signals that vary, or with rows too short.
    """
    tokens = asked.tokens
    first = tokens.shape[1] // 4
    second = first + APART
    before = asked.signals()
    deviations = {name: values.std(axis=(0, 1)) for name, values in before.items()}
    varying = {name: np.ptp(values, axis=(0, 1)) > 0 for name, values in before.items()}
    if second + 1 >= tokens.shape[1] or not any(each.any() for each in varying.values()):
        return None
    swapped, replaced = tokens.clone(), tokens.clone()
    swapped[:, [first, second]] = tokens[:, [second, first]]
    replaced[:, [first, second]] = tokens.roll(1, dims=0)[:, [first, second]]
    told = (tokens[:, first] != tokens[:, second]) & (replaced != tokens).any(1)
    rows = told.cpu().numpy()
    if rows.sum() < 2:
        return None
    after = slice(second + 1, second + 1 + LATER)

    def moved(changed: Tensor) -> Floats:
        """Root mean square over later positions and signals, [rows]."""
        now = asked.signals(changed)
        scaled = [
            (now[name] - before[name])[rows, after][..., kept] / deviations[name][kept]
            for name, kept in varying.items()
        ]
        together: Floats = np.concatenate(scaled, axis=2)
        return np.asarray(np.sqrt(np.square(together).mean(axis=(1, 2))), np.float64)

    by_swap, by_words = moved(swapped), moved(replaced)
    return {
        "swapped": float(by_swap.mean()),
        "replaced": float(by_words.mean()),
        "ratio": list(ratio_interval(by_swap, by_words)) if by_words.mean() > 0 else None,
    }


@torch.inference_mode()
def sharpest(asked: Asked) -> dict[str, float]:
    """How near attention comes to picking one token: its largest weight, trained and at beta 4.

    The mean over rows, layers, heads and positions (the first, which sees itself alone, left out)
    of max_s p_ts. 1 is an argmax.

    Returns:
        trained; at_clamp, with every precision forced to 4, the published clamp.
    """

    def largest(change: Callable[[Signals], Signals]) -> float:
        set_to: dict[str, Tensor] = {}
        weights: list[Tensor] = []
        layer = iter(range(asked.model.config.n_layers))

        def kept(signals: Signals) -> Signals:
            set_to.update(change(signals))
            return dict(set_to)

        def watch(_module: nn.Module, _inputs: object, qkv: Tensor) -> None:
            here = next(layer)
            scales = scales_at("queries", {name: each[:, :, here] for name, each in set_to.items()})
            q, k, _ = split_heads(qkv, asked.model.config.n_heads, scales)
            q, k = (at_least_single(each.transpose(1, 2)) for each in (q, k))
            scores = q @ k.mT * k.shape[-1] ** -0.5  # [N, H, T, T]
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            p = scores.masked_fill(future, -torch.inf).softmax(-1)
            weights.append(p.amax(-1)[..., 1:].mean())

        hooks = [
            block.get_submodule("attention.qkv").register_forward_hook(watch)
            for block in asked.model.blocks
        ]
        try:
            with signals_changed(asked.model, kept):
                asked.row_losses()
        finally:
            for hook in hooks:
                hook.remove()
        return float(torch.stack(weights).mean())

    return {"trained": largest(lambda signals: signals), "at_clamp": largest(clamped)}


def clamped(signals: Signals) -> Signals:
    """The signals with every precision at the published clamp."""
    return signals | {"precision": torch.full_like(signals["precision"], PRECISION_CLAMP)}


def traded(asked: Asked, own: Floats) -> dict[str, list[float]]:
    """What a gain 10 % higher does to the loss, with the gate lowered to match and without.

    g scales both branches and gamma the feed-forward one alone: with k g and gamma / k the latter
    computes what it did, and only attention tells the two from g and gamma.

    Returns:
        matched, alone: the loss minus that as trained, [value, low, high], 95 % over rows.
    """

    def matched(signals: Signals) -> Signals:
        return raised(signals) | {"ffn_gate": signals["ffn_gate"] / RAISED}

    def raised(signals: Signals) -> Signals:
        return signals | {"gain": signals["gain"] * RAISED}

    costs = {}
    for name, change in (("matched", matched), ("alone", raised)):
        with signals_changed(asked.model, change):
            costs[name] = list(mean_interval(asked.row_losses() - own))
    return costs
