"""What a second phase of training cost on the first text, and what it gained on the second.

    forgotten = loss on the first text after it - before it
    learned   = loss on the second text before it - after it          nats a token

Both over seeds; differences are paired by seed: each arm's to the baseline's under the same method,
and each method's to `full` from the same start. Who learns less forgets less, so the two belong
together.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncn.common.files import as_written, read_json
from ncn.common.paths import ADAPTED_LOSSES, adapted_directory, adapted_name
from ncn.settings import BASELINE
from ncn.statistics.sample import mean_interval

ALL = "full"  # the method that the others are compared with


def read_adapted(runs: Sequence[str]) -> dict[str, Any]:
    """See `adaptation`, of the runs of these names.

    Raises:
        InputError: a file of theirs is missing, or not what the stage `adapt` writes.
    """
    files = [adapted_directory(run) / ADAPTED_LOSSES for run in runs]
    with as_written("data/adapted"):
        found = adaptation([read_json(file) for file in files])
        json.dumps(found, allow_nan=False)  # a difference of numbers may be none
    return found


def adaptation(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """metrics/adaptation.json: an entry for each start and method, and sentences; {} of no runs.

    Args:
        runs: what the stage `adapt` wrote of each.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        by_name.setdefault(adapted_name(run["arm"], run["method"]), []).append(run)
    found = {name: _entry(name, by_name) for name in by_name}
    return {"arms": found, "in_words": in_words(found)} if found else {}


def in_words(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each start and method."""
    return [
        f"{name}: {each['trained_parameters']:,} parameters trained, forgot"
        f" {_shown(each['forgotten'])}, learned {_shown(each['learned'])} nats a token"
        for name, each in found.items()
    ]


def effects(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """What was forgotten and learned, by seed."""
    first, second = ([run["loss"][text] for run in runs] for text in ("first", "second"))
    return {
        "forgotten": [each["after"] - each["before"] for each in first],
        "learned": [each["before"] - each["after"] for each in second],
    }


def _entry(name: str, by_name: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    runs = by_name[name]
    arm, method = runs[0]["arm"], runs[0]["method"]
    mine = effects(runs)
    entry: dict[str, Any] = {
        "arm": arm,
        "method": method,
        "trained_parameters": runs[0]["trained_parameters"],
        "seeds": [run["seed"] for run in runs],
        "loss": {
            text: {
                when: [run["loss"][text][when] for run in runs]
                for when in ("before", "start", "after")
            }
            for text in ("first", "second")
        },
        "by_seed": mine,
        **{key: _interval(values) for key, values in mine.items()},
    }
    others = {"to_baseline": adapted_name(BASELINE, method), "to_full": adapted_name(arm, ALL)}
    for key, other in others.items():
        if other in by_name and other != name:
            theirs = effects(by_name[other])
            entry[key] = {
                effect: _interval(np.subtract(mine[effect], theirs[effect]).tolist())
                for effect in mine
            }
    return entry


def _interval(values: Sequence[float]) -> list[float | None]:
    """Mean, low and high over seeds; one seed has no interval."""
    if len(values) == 1:
        return [values[0], None, None]
    return [*mean_interval(np.array(values))]


def _shown(interval: Sequence[float | None]) -> str:
    value, low, high = interval
    assert value is not None
    return f"{value:+.4f}" + ("" if low is None else f" [{low:+.4f}, {high:+.4f}]")
