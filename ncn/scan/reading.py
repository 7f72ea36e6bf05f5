"""What is read of a network on validation rows, and of untrained ones beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ncn.corpus.conditions import Conditions
from ncn.corpus.tokenizer import Tokenizer
from ncn.layers import head_entropies
from ncn.model import LanguageModel
from ncn.model.blocks import scales_at, split_heads
from ncn.model.initialisation import initialise
from ncn.model.inputs import ConditionedRows, split_rows
from ncn.scan.texts import Scan, layer_signals, scan_text, untrained
from ncn.settings import BrainScan
from ncn.statistics.interval import Floats

Signals = Mapping[str, NDArray[Any]]  # by name, each [N, T, L]
BATCH = 16  # rows at once
LOGITS = 2048  # tokens whose logits are held at once
FIRST_NULL_SEED = 1 << 20  # of the other initialisations: no experiment's own


@dataclass(frozen=True)
class Reading:
    """A model on N rows: signals [N, T, L] by name, those that vary; and what they may explain.

    Of a signal wider than one number a layer, the mean over its width (`layer_signals`).

    losses [N, T]: of the token after each, nats. uncertainty [N, T]: the entropy of
    the next token's distribution, nats. entropy [N, T, L, H]: of each head's attention, over its
    maximum at that position. tokens [N, T]. frequency [N, T]: log count of each token.
    """

    signals: dict[str, Floats]
    losses: Floats
    uncertainty: Floats
    entropy: Floats
    tokens: NDArray[np.int64]
    frequency: Floats


@torch.inference_mode()
def read(model: LanguageModel, rows: ConditionedRows, counts: NDArray[np.int64]) -> Reading:
    """Run `model` on `rows`, watching its signals, losses and attention.

    Args:
        model: with a control network, in evaluation mode.
        rows: [N, T + 1].
        counts: [V], how often each token occurs.
    """
    seen: list[Tensor] = []
    hooks = [
        block.get_submodule("attention.qkv").register_forward_hook(
            lambda _module, _inputs, output: seen.append(output)
        )
        for block in model.blocks
    ]
    parts: list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor]] = []
    try:
        for tokens, targets, conditions in _batches(model, rows):
            signals = model.signals(tokens, conditions=conditions)
            uncertainty = _uncertainty(model, tokens, conditions)
            seen.clear()
            losses = model.token_losses(tokens, targets, conditions=conditions)
            by_layer = {name: signal.unbind(2) for name, signal in signals.items()}
            entropy = [
                _entropy(qkv, model, {name: each[layer] for name, each in by_layer.items()})
                for layer, qkv in enumerate(seen)
            ]
            heads = torch.stack(entropy, dim=2)
            parts.append((layer_signals(signals), losses, heads, uncertainty))
    finally:
        for hook in hooks:
            hook.remove()
    read_tokens = rows.tokens[:, :-1].astype(np.int64)
    return Reading(
        signals=varying({name: _joined([part[0][name] for part in parts]) for name in parts[0][0]}),
        losses=_joined([part[1] for part in parts]),
        uncertainty=_joined([part[3] for part in parts]),
        entropy=_joined([part[2] for part in parts]),
        tokens=read_tokens,
        frequency=np.log(counts[read_tokens]),
    )


def _batches(
    model: LanguageModel, rows: ConditionedRows
) -> list[tuple[Tensor, Tensor, Conditions]]:
    device = model.embedding.weight.device
    starts = range(0, len(rows), BATCH)
    return [split_rows(rows[start : start + BATCH], device) for start in starts]


def _uncertainty(model: LanguageModel, tokens: Tensor, conditions: Conditions) -> Tensor:
    """The entropy of the next token's distribution [B, T] of tokens [B, T], in nats."""
    size = max(1, LOGITS // tokens.shape[1])
    found = []
    for start in range(0, len(tokens), size):
        piece = slice(start, start + size)
        log_p = model(tokens[piece], conditions=conditions.take(piece)).float().log_softmax(-1)
        found.append(-(log_p.exp() * log_p).sum(-1))
    return torch.cat(found)


def _entropy(qkv: Tensor, model: LanguageModel, signals: Mapping[str, Tensor]) -> Tensor:
    """Each head's attention entropy [B, T, H] from the projections [B, T, 3 D] of a layer."""
    q, k, _ = split_heads(qkv, model.config.n_heads, scales_at("queries", signals))
    return head_entropies(q.transpose(1, 2), k.transpose(1, 2)).transpose(1, 2)


def _joined(parts: Sequence[Tensor]) -> Floats:
    return torch.cat(list(parts)).double().cpu().numpy()


def varying(signals: Mapping[str, Floats]) -> dict[str, Floats]:
    """The signals that are not the same at every token and layer."""
    return {name: values for name, values in signals.items() if np.ptp(values) > 0}


class Null(NamedTuple):
    """Networks of one form at other initialisations: what each does on the rows and on the texts.

    signals: one mapping a network, each [N, T, L]. scans: one list a network, one scan a text.
    """

    signals: list[Signals]
    scans: list[list[Scan]]


@torch.inference_mode()
def other_initialisations(
    model: LanguageModel, rows: ConditionedRows, tokenizer: Tokenizer, settings: BrainScan
) -> Null:
    """`settings.initialisations` networks of the form of `model`; its weights play no part."""
    null = Null([], [])
    batches = _batches(model, rows)
    fresh = untrained(model, FIRST_NULL_SEED)
    for each in tqdm(range(settings.initialisations), desc="other initialisations", disable=None):
        initialise(fresh, FIRST_NULL_SEED + each)
        parts = [
            layer_signals(fresh.signals(tokens, conditions=given)) for tokens, _, given in batches
        ]
        null.signals.append(
            {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        )
        null.scans.append([scan_text(fresh, tokenizer, text) for text in settings.texts])
    return null
