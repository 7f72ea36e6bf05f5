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
                            with _holm. deeper: precision in the deeper half of the layers alone,
                            effect [value, low, high] in standard deviations of those tokens;
                            same_side, the share of contexts on the side of the effect; p_tokens,
                            p_initialisations; identity, the share of its variance over all tokens
                            that the token's type explains. reason, where the word is too rare
    gain_range              low, high, share_inside 0.99 to 1.05
    easy_tokens             signals.SIGNAL: rho, rank correlation with the loss of the next token
                            [value, low, high]; rho_given_frequency, its own frequency held;
                            p, by giving rows another row's losses; gate_easiest, gate_hardest: mean
                            gate on the tenth of the tokens with the lowest, highest loss; common:
                            share, of the tokens that are of the fewest types that make up half of
                            all; by layer the mean gate on them, on the others, and the difference
                            [value, low, high]
    explained_loss          share of the loss's variance that a linear fit to other rows explains:
                            signals, frequency, both, each [value, low, high]
    entropy                 heads: [{layer, head, entropy, rho, rho_given_position}], the rank
                            correlation of precision with a head's attention entropy; share_sharper:
                            of the heads whose rho_given_position lies below 0
    temperature             layers: [{layer, rho}], the rank correlation of precision with the
                            entropy of the next token's distribution [value, low, high]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncn.published.claimed import GAIN_RANGE
from ncn.scan.reading import Null, Reading, deeper_half, deviations
from ncn.statistics.estimate import holm
from ncn.statistics.frequency import common_types
from ncn.statistics.interval import Floats
from ncn.statistics.permutation import against, p_value
from ncn.statistics.ranks import (
    RESAMPLES,
    centred_ranks,
    percentiles,
    rank_correlation,
    row_weights,
)

FEWEST_OCCURRENCES = 10
MATCHED_TYPES = 99  # p of a word cannot be below 1 in a hundred
TENTH = 0.1


def specialisation(reading: Reading, null: Null) -> dict[str, Any]:
    """Do the layers' means differ more than they do at other initialisations?"""
    tests: dict[str, Any] = {}
    for name, values in reading.signals.items():
        means = values.mean(axis=(0, 1))  # [L]
        others = np.array(null.layer_means[name])  # [n, L]
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
    reading: Reading, null: Null, word: str, ids: Sequence[int], seed: int
) -> dict[str, Any]:
    """Do the signals set a word apart, from tokens as frequent and beyond other initialisations?

    Args:
        reading: of the trained network.
        null: of the same word, on the same rows.
        word: as in the settings.
        ids: the tokens that are the word.
        seed: of resamples.
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
            "p_initialisations": p_value(deviation, null.at_word[name]),
        }
    tests = _with_holm(_with_holm(tests, "p_tokens"), "p_initialisations")
    found |= {"matched": len(matched), "signals": tests}
    if (precision := reading.signals.get("precision")) is not None:
        deep, layers = deeper_half(precision), precision.shape[2]
        one = deviations(deep, [here])[0]
        others = [tokens == token for token in matched]
        found["deeper"] = _across_contexts(deep.mean(axis=2), here, beside, seed) | {
            "layers": list(range(layers - deep.shape[2] + 1, layers + 1)),
            "p_tokens": p_value(one, deviations(deep, others)),
            "p_initialisations": p_value(one, null.deeper),
            "identity": _explained_by_type(deep.mean(axis=2), tokens),
        }
    return found


def _across_contexts(
    values: Floats, here: NDArray[np.bool_], beside: NDArray[np.bool_], seed: int
) -> dict[str, Any]:
    """The effect of a word on values [N, T], with its interval over rows, and where it holds."""
    sd = float(values[beside].std(ddof=1)) or np.inf
    sums = np.array([(values * mask).sum(axis=1) for mask in (here, beside)])  # [2, N]
    counts = np.array([mask.sum(axis=1) for mask in (here, beside)])
    weights = row_weights(len(values), seed)
    drawn = (sums @ weights.T) / np.maximum(counts @ weights.T, 1)  # [2, resamples]
    base = float(values[beside].mean())
    effect = (float(values[here].mean()) - base) / sd
    side = np.sign(values[here] - base) == np.sign(effect)
    return {
        "effect": [effect, *percentiles((drawn[0] - drawn[1]) / sd)],
        "same_side": float(side.mean()),
    }


def _explained_by_type(values: Floats, tokens: NDArray[np.int64]) -> float:
    """The share of the variance of values [N, T] that lies between types of token."""
    _, kind = np.unique(tokens, return_inverse=True)
    kind = kind.ravel()
    mean = np.bincount(kind, values.ravel()) / np.bincount(kind)
    whole = values.var()
    return float(mean[kind].var() / whole) if whole > 0 else 0.0


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
        found["common"] = _on_common(reading, seed)
    return found


def _on_common(reading: Reading, seed: int) -> dict[str, Any]:
    """The gate on common tokens and on the others, by layer."""
    easy = common_types(np.bincount(reading.tokens.ravel()))[reading.tokens]  # [N, T]
    gate = reading.signals["ffn_gate"]
    weights = row_weights(len(gate), seed)
    layers = []
    for layer in range(gate.shape[2]):
        sums, means = [], []
        for mask in (easy, ~easy):
            by_row = (gate[..., layer] * mask).sum(axis=1), mask.sum(axis=1)
            means.append(float(by_row[0].sum() / max(1, by_row[1].sum())))
            sums.append((weights @ by_row[0]) / np.maximum(weights @ by_row[1], 1))
        difference = [means[0] - means[1], *percentiles(sums[0] - sums[1])]
        layers.append({"common": means[0], "others": means[1], "difference": difference})
    return {"share": float(easy.mean()), "layers": layers}


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
    weights = row_weights(n_rows, seed)
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
        explained[name] = [float(1 - errors.sum() / around_mean.sum()), *percentiles(drawn)]
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


def temperature(reading: Reading, seed: int) -> dict[str, Any] | None:
    """Is the precision of a token lower where the next one is open? None without a precision."""
    if (precision := reading.signals.get("precision")) is None:
        return None
    return {
        "layers": [
            {
                "layer": layer + 1,
                "rho": rank_correlation(precision[..., layer], reading.uncertainty, seed),
            }
            for layer in range(precision.shape[2])
            if np.ptp(precision[..., layer]) > 0
        ]
    }


def _with_holm(tests: dict[str, Any], name: str) -> dict[str, Any]:
    """Add to each test its p adjusted over all of them."""
    adjusted = holm([test[name] for test in tests.values()])
    for test, value in zip(tests.values(), adjusted, strict=True):
        test[f"{name}_holm"] = value
    return tests
