"""The tests of a run together, and the tables beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncn.corpus.tokenizer import Tokenizer
from ncn.model import LanguageModel
from ncn.model.inputs import ConditionedRows
from ncn.scan.reading import Null, Reading, read
from ncn.scan.tests import (
    at_word,
    easy_tokens,
    entropy_by_precision,
    explained_loss,
    gain_range,
    specialisation,
    temperature,
)
from ncn.scan.texts import Scan, printable, scan_text, word_ids
from ncn.settings import BrainScan
from ncn.statistics.permutation import against


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
    rows: ConditionedRows,
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
        "specialisation": specialisation(reading, null),
        "word": at_word(reading, null, settings.word, ids, seed),
        "gain_range": gain_range(reading),
        "easy_tokens": easy_tokens(reading, seed),
        "explained_loss": explained_loss(reading, seed),
        "entropy": entropy_by_precision(reading, seed),
        "temperature": temperature(reading, seed),
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
