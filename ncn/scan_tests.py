"""What a brain scan may be taken to show: each reading of it as a test, with an effect and a p.

Signals [N, T, L] are read on N validation rows of T tokens in L layers. Two questions separate a
finding from a picture, and each has its own null distribution:

    other initialisations   would an untrained network of this form do the same?
    other tokens            does it do so at any other token that is as frequent?

p = (1 + k) / (1 + n), k of n null values at least as extreme; Holm over the signals where a reading
is of several. Intervals resample rows, for the tokens of a row are related. A signal that is
constant, as of a static control or an arm without it, can show nothing and is left out.

metrics/brain_scan_tests.json, by run:

    specialisation.SIGNAL   layer_means; spread, their sd; null_mean, null_sd of the spread at other
                            initialisations; z; p, p_holm; layers: [{mean, sd, null_mean, null_sd,
                            z, p}], each layer's own deviation from other initialisations
    word                    word, occurrences, matched (types of token as frequent), and signals.
                            SIGNAL: effect, the difference of its means at the word and at matched
                            tokens in standard deviations; deviation, root mean square over layers,
                            in standard deviations of a token; p_tokens, p_initialisations, each
                            with _holm; or reason, where the word is too rare
    gain_range              low, high, share_inside 0.99 to 1.05
    easy_tokens             signals.SIGNAL: rho, rank correlation with the loss of the next token
                            [value, low, high]; rho_given_frequency, its own frequency held;
                            p, by giving rows another row's losses; gate_easiest, gate_hardest: mean
                            gate on the tenth of the tokens with the lowest, highest loss
    explained_loss          share of the loss's variance that a linear fit to other rows explains:
                            signals, frequency, both, each [value, low, high]
    entropy                 heads: [{layer, head, entropy, rho, rho_given_position}], the rank
                            correlation of precision with a head's attention entropy; share_sharper:
                            of the heads whose rho_given_position lies below 0
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from ncn.brain_scan import Scan, printable, scan_text, untrained, word_ids
from ncn.conditions import Conditions
from ncn.config import SIGNALS, BrainScan
from ncn.entropy import head_entropies
from ncn.model import LanguageModel, initialise
from ncn.rows import ToldRows, split_rows
from ncn.statistics import holm
from ncn.tokenizer import Tokenizer

Floats = NDArray[np.float64]
Signals = Mapping[str, NDArray[Any]]  # by name, each [N, T, L]

BATCH = 16  # rows at once
RESAMPLES = 999
FIRST_NULL_SEED = 1 << 20  # of the other initialisations: no experiment's own
FEWEST_OCCURRENCES = 10
MATCHED_TYPES = 99  # p of a word cannot be below 1 in a hundred
GAIN_RANGE = (0.99, 1.05)  # as published
TENTH = 0.1


@dataclass(frozen=True)
class Reading:
    """A model on N rows: signals [N, T, L] by name, those that vary; and what they may explain.

    losses [N, T]: of the token after each, nats. entropy [N, T, L, H]: of each head's attention,
    over its maximum at that position. tokens [N, T]. frequency [N, T]: log count of each token.
    """

    signals: dict[str, Floats]
    losses: Floats
    entropy: Floats
    tokens: NDArray[np.int64]
    frequency: Floats


@torch.inference_mode()
def read(model: LanguageModel, rows: ToldRows, counts: NDArray[np.int64]) -> Reading:
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
    parts: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
    try:
        for tokens, targets, conditions in _batches(model, rows):
            signals = model.signals(tokens, conditions=conditions)
            seen.clear()
            losses = model.token_losses(tokens, targets, conditions=conditions)
            entropy = [
                _entropy(qkv, signals["precision"][..., layer], model.config.n_heads)
                for layer, qkv in enumerate(seen)
            ]
            parts.append((signals, losses, torch.stack(entropy, dim=2)))
    finally:
        for hook in hooks:
            hook.remove()
    told = rows.tokens[:, :-1].astype(np.int64)
    return Reading(
        signals=varying({name: _joined([part[0][name] for part in parts]) for name in SIGNALS}),
        losses=_joined([part[1] for part in parts]),
        entropy=_joined([part[2] for part in parts]),
        tokens=told,
        frequency=np.log(counts[told]),
    )


def _batches(model: LanguageModel, rows: ToldRows) -> list[tuple[Tensor, Tensor, Conditions]]:
    device = model.embedding.weight.device
    starts = range(0, len(rows), BATCH)
    return [split_rows(rows[start : start + BATCH], device) for start in starts]


def _entropy(qkv: Tensor, precision: Tensor, n_heads: int) -> Tensor:
    """Each head's attention entropy [B, T, H] from the projections [B, T, 3 D] of a layer."""
    q, k, _ = qkv.unflatten(-1, (3, n_heads, -1)).unbind(2)  # [B, T, H, K]
    q = q * precision[..., None, None]
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
    model: LanguageModel, rows: ToldRows, tokenizer: Tokenizer, settings: BrainScan
) -> Null:
    """`settings.initialisations` networks of the form of `model`; its weights play no part."""
    null = Null([], [])
    batches = _batches(model, rows)
    fresh = untrained(model, FIRST_NULL_SEED)
    for each in tqdm(range(settings.initialisations), desc="other initialisations", disable=None):
        initialise(fresh, FIRST_NULL_SEED + each)
        parts = [fresh.signals(tokens, conditions=told) for tokens, _, told in batches]
        null.signals.append(
            {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in SIGNALS}
        )
        null.scans.append([scan_text(fresh, tokenizer, text) for text in settings.texts])
    return null


def p_value(value: float, null: Sequence[float] | Floats) -> float:
    """The share of null values at least as large as `value`, itself counted among them."""
    return (1 + int(np.sum(np.asarray(null) >= value))) / (1 + len(null))


def against(value: float, null: Floats) -> dict[str, float | None]:
    """A value beside a null distribution: its mean and sd, z, and a two-sided p."""
    middle, sd = float(null.mean()), float(null.std(ddof=1)) if len(null) > 1 else 0.0
    return {
        "null_mean": middle,
        "null_sd": sd,
        "z": (value - middle) / sd if sd > 0 else None,
        "p": p_value(abs(value - middle), np.abs(null - middle)),
    }


def specialisation(reading: Reading, null: Sequence[Signals]) -> dict[str, Any]:
    """Do the layers' means differ more than they do at other initialisations?"""
    tests: dict[str, Any] = {}
    for name, values in reading.signals.items():
        means = values.mean(axis=(0, 1))  # [L]
        others = np.array(
            [each[name].mean(axis=(0, 1), dtype=np.float64) for each in null]
        )  # [n, L]
        spreads = others.std(axis=1)
        spread = float(means.std())
        beside = against(spread, spreads)
        tests[name] = {
            "layer_means": means.tolist(),
            "spread": spread,
            **beside,
            "p": p_value(spread, spreads),  # one-sided: more than
            "layers": [
                {"mean": float(mean), "sd": float(values[..., layer].std())}
                | against(float(mean), others[:, layer])
                for layer, mean in enumerate(means)
            ],
        }
    return _with_holm(tests, "p")


def at_word(
    reading: Reading, null: Sequence[Signals], word: str, ids: Sequence[int]
) -> dict[str, Any]:
    """Do the signals set a word apart, from tokens as frequent and beyond other initialisations?

    Args:
        reading: of the trained network.
        null: see `null_signals`.
        word: as in the settings.
        ids: the tokens that are the word.
    """
    tokens = reading.tokens
    here = np.isin(tokens, ids)
    found: dict[str, Any] = {"word": word, "occurrences": int(here.sum())}
    types, counts = np.unique(tokens[~here], return_counts=True)
    types, counts = types[counts >= FEWEST_OCCURRENCES], counts[counts >= FEWEST_OCCURRENCES]
    if here.sum() < FEWEST_OCCURRENCES or len(types) < MATCHED_TYPES // 5:
        reason = f"{here.sum()} occurrences of {word!r}, {len(types)} other tokens often enough"
        return found | {"matched": len(types), "signals": {}, "reason": reason}
    nearest = np.argsort(np.abs(np.log(counts / here.sum())), kind="stable")[:MATCHED_TYPES]
    matched = types[nearest]
    beside = np.isin(tokens, matched)
    tests: dict[str, Any] = {}
    for name, values in reading.signals.items():
        at, by = (values.mean(axis=2)[mask] for mask in (here, beside))
        pooled = np.sqrt((at.var(ddof=1) + by.var(ddof=1)) / 2)
        deviation = deviations(values, [here])[0]
        tests[name] = {
            "effect": float((at.mean() - by.mean()) / pooled) if pooled > 0 else 0.0,
            "deviation": deviation,
            "p_tokens": p_value(
                deviation, deviations(values, [tokens == token for token in matched])
            ),
            "p_initialisations": p_value(
                deviation, [deviations(each[name], [here])[0] for each in null]
            ),
        }
    tests = _with_holm(_with_holm(tests, "p_tokens"), "p_initialisations")
    return found | {"matched": len(matched), "signals": tests}


def deviations(values: NDArray[Any], masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """How far the mean signal at each mask [N, T] lies from that of all tokens.

    Root mean square over layers, in standard deviations over tokens; 0 where no token differs.
    """
    sd = values.std(axis=(0, 1), dtype=np.float64)
    scaled = (values - values.mean(axis=(0, 1), dtype=np.float64)) / np.where(sd > 0, sd, np.inf)
    return [float(np.sqrt(np.square(scaled[mask].mean(axis=0)).mean())) for mask in masks]


def gain_range(reading: Reading) -> dict[str, float] | None:
    """Where the gains lie; None for an arm without a gain that varies."""
    if (gain := reading.signals.get("gain")) is None:
        return None
    low, high = GAIN_RANGE
    inside = (gain >= low) & (gain <= high)
    return {"low": gain.min(), "high": gain.max(), "share_inside": float(inside.mean())}


def easy_tokens(reading: Reading, seed: int) -> dict[str, Any]:
    """Do the signals follow the loss of the token that they help to predict?"""
    draw = np.random.default_rng(seed)
    losses, n = reading.losses, reading.losses.size
    permutations = np.array([draw.permutation(len(losses)) for _ in range(RESAMPLES)])
    tests = {}
    for name, values in reading.signals.items():
        signal = values.mean(axis=2)
        if np.ptp(signal) == 0:
            continue
        ranks = [centred_ranks(each) for each in (signal, losses)]
        products = ranks[0] @ ranks[1].T  # [N, N]: row i's signals with row j's losses
        null = np.abs(products[np.arange(len(losses)), permutations].sum(axis=1))
        tests[name] = {
            "rho": rank_correlation(signal, losses, seed),
            "rho_given_frequency": rank_correlation(signal, losses, seed, reading.frequency),
            "p": p_value(abs(float(np.trace(products))), null),
        }
    found: dict[str, Any] = {"signals": tests}
    if "ffn_gate" in reading.signals:
        gate = reading.signals["ffn_gate"].mean(axis=2).ravel()
        order = np.argsort(losses.ravel(), kind="stable")
        tenth = max(1, int(TENTH * n))
        found["gate_easiest"] = float(gate[order[:tenth]].mean())
        found["gate_hardest"] = float(gate[order[-tenth:]].mean())
    return found


def explained_loss(reading: Reading, seed: int) -> dict[str, list[float]]:
    """How much of the loss's variance the signals explain, and how much frequency alone does.

    A least-squares fit on every second row predicts the others, and the other way round, so no
    fit is judged on what it saw.
    """
    n_rows = len(reading.losses)
    constant = np.ones((*reading.losses.shape, 1))
    signals = np.concatenate([constant, *reading.signals.values()], axis=2)
    frequency = reading.frequency[..., None]
    features = {
        "signals": signals,
        "frequency": np.concatenate([constant, frequency], axis=2),
        "both": np.concatenate([signals, frequency], axis=2),
    }
    weights = _row_weights(n_rows, seed)
    explained = {}
    for name, columns in features.items():
        errors, around_mean = np.empty(n_rows), np.empty(n_rows)
        for fold in (0, 1):
            told, asked = np.arange(n_rows) % 2 == fold, np.arange(n_rows) % 2 != fold
            known = columns[told].reshape(-1, columns.shape[2])
            fit = np.linalg.lstsq(known, reading.losses[told].ravel(), rcond=None)[0]
            errors[asked] = np.square(reading.losses[asked] - columns[asked] @ fit).sum(axis=1)
            mean = reading.losses[told].mean()
            around_mean[asked] = np.square(reading.losses[asked] - mean).sum(axis=1)
        drawn = 1 - (weights @ errors) / (weights @ around_mean)
        explained[name] = [float(1 - errors.sum() / around_mean.sum()), *_percentiles(drawn)]
    return explained


def entropy_by_precision(reading: Reading, seed: int) -> dict[str, Any] | None:
    """Does a higher precision sharpen the attention of a head? None without a precision."""
    if (precision := reading.signals.get("precision")) is None:
        return None
    # The first position attends to itself alone, whatever the precision.
    entropy, precision = reading.entropy[:, 1:], precision[:, 1:]
    position = np.broadcast_to(np.arange(entropy.shape[1], dtype=np.float64), entropy.shape[:2])
    heads: list[dict[str, Any]] = []
    for layer in range(entropy.shape[2]):
        if np.ptp(precision[..., layer]) == 0:
            continue
        for head in range(entropy.shape[3]):
            pair = precision[..., layer], entropy[..., layer, head]
            heads.append(
                {
                    "layer": layer + 1,
                    "head": head + 1,
                    "entropy": float(pair[1].mean()),
                    "rho": rank_correlation(*pair, seed),
                    "rho_given_position": rank_correlation(*pair, seed, position),
                }
            )
    sharper = [head["rho_given_position"][2] < 0 for head in heads]
    return {"heads": heads, "share_sharper": float(np.mean(sharper)) if heads else None}


def centred_ranks(values: Floats) -> Floats:
    """Ranks of all values, ties shared, around 0; of the values' shape."""
    ranks: Floats = rankdata(values).reshape(values.shape)
    return ranks - ranks.mean()


def rank_correlation(x: Floats, y: Floats, seed: int, given: Floats | None = None) -> list[float]:
    """Spearman's rho of x and y [N, T], with `given` held if it is there: [value, low, high].

    The 95 % interval is a percentile bootstrap over the N rows, with ranks among all tokens. A
    partial correlation is that of the ranks, linear in the ranks of `given`.
    """
    series = [centred_ranks(each) for each in ((x, y) if given is None else (x, y, given))]
    size = len(series)
    products = np.array([[(a * b).sum(axis=1) for a in series] for b in series])  # [k, k, N]
    sums = np.array([a.sum(axis=1) for a in series])  # [k, N]
    weights = np.concatenate([np.ones((1, x.shape[0])), _row_weights(x.shape[0], seed)])
    mean = (sums @ weights.T) / (x.shape[1] * weights.sum(axis=1))  # [k, R]
    second = (products @ weights.T) / (x.shape[1] * weights.sum(axis=1))  # [k, k, R]
    covariance = second - mean[:, None] * mean[None, :]
    scale = np.sqrt(np.maximum(covariance[range(size), range(size)], 1e-12))
    r = covariance / (scale[:, None] * scale[None, :])
    if given is None:
        rho = r[0, 1]
    else:
        left = np.maximum((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2), 1e-12)
        rho = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(left)
    return [float(rho[0]), *_percentiles(rho[1:])]


def _row_weights(n_rows: int, seed: int) -> NDArray[np.int64]:
    """How often each row is drawn in each resample, [RESAMPLES, N]."""
    share = np.full(n_rows, 1 / n_rows)
    return np.random.default_rng(seed).multinomial(n_rows, share, RESAMPLES)


def _percentiles(drawn: Floats) -> list[float]:
    return [float(each) for each in np.quantile(drawn, [0.025, 0.975])]


def _with_holm(tests: dict[str, Any], name: str) -> dict[str, Any]:
    """Add to each test its p adjusted over all of them."""
    adjusted = holm([test[name] for test in tests.values()])
    for test, value in zip(tests.values(), adjusted, strict=True):
        test[f"{name}_holm"] = value
    return tests


def token_deviations(scan: Scan, null: Sequence[Scan], reading: Reading) -> list[dict[str, object]]:
    """Each token, layer and signal of a text beside both null distributions; one row each.

    Args:
        scan: of the trained network.
        null: of other initialisations, on the same text.
        reading: of the trained network on validation rows: the other tokens.
    """
    rows: list[dict[str, object]] = []
    for name, everywhere in reading.signals.items():
        others = np.array([each.signals[name] for each in null], np.float64)  # [n, T, L]
        middle = np.median(everywhere, axis=(0, 1))
        distances = np.sort(np.abs(everywhere - middle).reshape(-1, len(middle)), axis=0)
        for position, token in enumerate(scan.tokens):
            for layer, value in enumerate(scan.signals[name][position].astype(np.float64)):
                far = np.searchsorted(distances[:, layer], abs(value - middle[layer]))
                rows.append(
                    {
                        "position": position,
                        "token": printable(token),
                        "layer": layer + 1,
                        "signal": name,
                        "value": value,
                    }
                    | against(value, others[:, position, layer])
                    | {"p_tokens": (1 + len(distances) - int(far)) / (1 + len(distances))}
                )
    return rows


def loss_tenths(reading: Reading) -> list[dict[str, object]]:
    """Each signal by tenth of the tokens, from the lowest loss to the highest; one row each."""
    order = np.argsort(reading.losses.ravel(), kind="stable")
    return [
        {
            "signal": name,
            "tenth": tenth + 1,
            "loss": float(reading.losses.ravel()[part].mean()),
            "mean": float(values.mean(axis=2).ravel()[part].mean()),
            "sd": float(values.mean(axis=2).ravel()[part].std()),
        }
        for name, values in reading.signals.items()
        for tenth, part in enumerate(np.array_split(order, 10))
    ]


def examine(
    model: LanguageModel,
    rows: ToldRows,
    counts: NDArray[np.int64],
    null: Null,
    tokenizer: Tokenizer,
    settings: BrainScan,
    seed: int,
) -> tuple[dict[str, Any], dict[str, list[dict[str, object]]]]:
    """One run's entry of metrics/brain_scan_tests.json, and the rows of each table beside it.

    Args:
        model: trained, with a control network.
        rows: of the validation part.
        counts: [V], how often each token occurs in it.
        null: see `other_initialisations`, on the same rows.
        tokenizer: the model's.
        settings: the texts and the word.
        seed: of resamples and permutations.
    """
    reading = read(model, rows, counts)
    ids = word_ids(tokenizer, settings.word)
    tests = {
        "specialisation": specialisation(reading, null.signals),
        "word": at_word(reading, null.signals, settings.word, ids),
        "gain_range": gain_range(reading),
        "easy_tokens": easy_tokens(reading, seed),
        "explained_loss": explained_loss(reading, seed),
        "entropy": entropy_by_precision(reading, seed),
    }
    tokens: list[dict[str, object]] = []
    for number, text in enumerate(settings.texts):
        others = [scans[number] for scans in null.scans]
        deviations = token_deviations(scan_text(model, tokenizer, text), others, reading)
        tokens += [{"text": number} | row for row in deviations]
    tables = {
        "tokens": tokens,
        "layers": layer_rows(tests),
        "losses": loss_tenths(reading),
        "heads": head_rows(tests),
    }
    return tests, tables


def layer_rows(tests: Mapping[str, Any]) -> list[dict[str, object]]:
    """The layers of `specialisation` in long form."""
    return [
        {"signal": name, "layer": layer + 1} | values
        for name, test in tests["specialisation"].items()
        for layer, values in enumerate(test["layers"])
    ]


def head_rows(tests: Mapping[str, Any]) -> list[dict[str, object]]:
    """The heads of `entropy` in long form."""
    rows = []
    for head in (tests["entropy"] or {"heads": []})["heads"]:
        row = {name: head[name] for name in ("layer", "head", "entropy")}
        for name in ("rho", "rho_given_position"):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), head[name], strict=True))
        rows.append(row)
    return rows
