"""What is read of a network on validation rows, and of untrained ones beside it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ncn.corpus.conditions import Conditions
from ncn.corpus.rows import TokenRows
from ncn.corpus.tokenizer import Tokenizer
from ncn.layers import head_entropies
from ncn.model import LanguageModel
from ncn.model.blocks import scales_at, split_heads
from ncn.model.initialisation import initialise
from ncn.model.inputs import ConditionedRows, split_rows
from ncn.scan.texts import Scan, layer_signals, scan_text, untrained, word_ids
from ncn.settings import BrainScan
from ncn.statistics.interval import Floats

Signals = Mapping[str, NDArray[Any]]  # by name, each [N, T, L]
BATCH = 16  # rows at once
COUNTED_ROWS = 1 << 14  # likewise, of those that are only counted
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


def token_counts(rows: TokenRows, vocab_size: int) -> NDArray[np.int64]:
    """How often each token occurs in rows [N, T + 1], [V]."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(rows), COUNTED_ROWS):
        some = rows[start : start + COUNTED_ROWS]
        counts += np.bincount(some.ravel(), minlength=vocab_size)
    return counts


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
    read_tokens = rows.tokens[:][:, :-1].astype(np.int64)
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


@dataclass(frozen=True)
class Null:
    """Networks of one form at other initialisations: what the tests compare a trained one with.

    One value a network. layer_means: by signal, over tokens, [L]. at_word: by signal, how far its
    mean at a word lies from that of all tokens, see `deviations`; deeper: likewise, of precision in
    `deeper_half`. The last two are empty where the word does not occur. scans: one a text.
    """

    layer_means: dict[str, list[Floats]] = field(default_factory=lambda: defaultdict(list))
    at_word: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    deeper: list[float] = field(default_factory=list)
    scans: list[list[Scan]] = field(default_factory=list)

    def add(self, signals: Signals, here: NDArray[np.bool_], scans: list[Scan]) -> None:
        """One more network: its signals, where the word is [N, T], its scan of each text."""
        for name, values in signals.items():
            self.layer_means[name].append(values.mean(axis=(0, 1), dtype=np.float64))
            if here.any():
                self.at_word[name] += deviations(values, [here])
        if "precision" in signals and here.any():
            self.deeper.extend(deviations(deeper_half(signals["precision"]), [here]))
        self.scans.append(scans)


def deviations(values: NDArray[Any], masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """How far the mean signal at each mask [N, T] lies from that of all tokens.

    Root mean square over layers, in standard deviations over tokens; 0 where no token differs.
    """
    sd = values.std(axis=(0, 1), dtype=np.float64)
    scaled = (values - values.mean(axis=(0, 1), dtype=np.float64)) / np.where(sd > 0, sd, np.inf)
    return [float(np.sqrt(np.square(scaled[mask].mean(axis=0)).mean())) for mask in masks]


def deeper_half(precision: NDArray[Any]) -> NDArray[Any]:
    """A signal [N, T, L] in the deeper half of the layers; the middle one belongs to it."""
    return precision[..., precision.shape[2] // 2 :]


@torch.inference_mode()
def other_initialisations(
    model: LanguageModel, rows: ConditionedRows, tokenizer: Tokenizer, settings: BrainScan
) -> Null:
    """`settings.initialisations` networks of the form of `model`; its weights play no part."""
    null = Null()
    batches = _batches(model, rows)
    here = np.isin(rows.tokens[:][:, :-1], word_ids(tokenizer, settings.word))
    fresh = untrained(model, FIRST_NULL_SEED)
    for each in tqdm(range(settings.initialisations), desc="other initialisations", disable=None):
        initialise(fresh, FIRST_NULL_SEED + each)
        parts = [
            layer_signals(fresh.signals(tokens, conditions=given)) for tokens, _, given in batches
        ]
        signals = {
            name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]
        }
        null.add(signals, here, [scan_text(fresh, tokenizer, text) for text in settings.texts])
    return null
