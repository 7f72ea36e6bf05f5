"""What leaving out and compressing costs in loss, by how much is left: metrics/conditional.json.

    arm, seeds                    whose models these are; null where no arm could be asked
    sequences, tokens             that were read under each seed, and in each of them
    loss                          with nothing left out, nats a token, mean over seeds
    flops_per_token               of a forward pass with nothing left out
    skipping.FORM[]               FORM is feed_forward or layer; a point for each eps
        below                     eps
        share                     of the token-layers that is left out, mean over seeds
        by_seed                   the same of each seed
        flops_per_token           what is left, by each of CHOICES, mean over seeds
        loss                      by each of CHOICES, loss - loss with nothing left out,
                                  [value, low, high] as `ncn.statistics.estimate` has them
    caches[]                      a point for each way to compress keys and values
        states                    which: all, low precision, random
        bits, others              of their numbers, and of the other states' (0: fp32)
        share                     of the token-layers that these states are
        bytes_per_token           of keys and values, all layers, with scales
        loss                      as above

gate: what weighs less than eps is left out (`ncn.model.skipping`). random: as many token-layers,
any. layers: as many, of whole layers, those first whose absence alone costs least on training text.
low precision: where beta is below a quantile of its layer's on training text. random: as many.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.statistics.estimate import estimate, loss_difference
from ncn.statistics.interval import Floats

CHOICES = ("gate", "random", "layers")
CACHES = "caches"
ALL, LOW, RANDOM = "all", "low precision", "random"
NOTHING: dict[str, Any] = {
    "arm": None,
    "skipping": {},
    "caches": [],
    "in_words": ["No arm has a gate that says what could be left out."],
}


class Point(NamedTuple):
    """One way to compute less, under one seed.

    what: a form of skipping, or CACHES. choice: of CHOICES, or which states. setting: eps, or bits
    and the other states' bits. share: of the token-layers. cost: FLOPs a token, or bytes a token,
    that are left. losses: of each row, nats a token, [N].
    """

    what: str
    choice: str
    setting: tuple[float, ...]
    share: float
    cost: float
    losses: Floats


class Run(NamedTuple):
    """The points of one seed, and the losses of the rows with nothing left out, [N]."""

    own: Floats
    points: list[Point]


def summary(
    arm: str, runs: Mapping[int, Run], tokens: int, flops: int, resamples: int, seed: int
) -> dict[str, Any]:
    """metrics/conditional.json.

    Args:
        arm: whose models these are.
        runs: by seed.
        tokens: of a row.
        flops: a token, of a forward pass with nothing left out.
        resamples: of the bootstrap.
        seed: of the resampling.
    """
    own = np.stack([run.own for run in runs.values()]) * tokens  # [S, N]
    weight = np.full(own.shape[1], float(tokens))
    skipping: dict[str, dict[float, dict[str, Any]]] = {}
    caches = []
    for mine in zip(*(run.points for run in runs.values()), strict=True):
        what, choice, setting, *_ = mine[0]
        shares = [point.share for point in mine]
        cost = float(np.mean([point.cost for point in mine]))
        sums = np.stack([point.losses for point in mine]) * tokens
        more = list(estimate([sums, own], weight, loss_difference, resamples, seed).interval())
        if what == CACHES:
            named = {"states": choice, "bits": setting[0], "others": setting[1]}
            share = float(np.mean(shares))
            caches.append(named | {"share": share, "bytes_per_token": cost, "loss": more})
            continue
        entry = skipping.setdefault(what, {}).setdefault(
            setting[0],
            {
                "below": setting[0],
                "share": float(np.mean(shares)),
                "by_seed": shares,
                "flops_per_token": {},
                "loss": {},
            },
        )
        entry["flops_per_token"][choice], entry["loss"][choice] = cost, more
    found = {
        "arm": arm,
        "seeds": list(runs),
        "sequences": len(weight),
        "tokens": tokens,
        "loss": float(own.mean() / tokens),
        "flops_per_token": flops,
        "skipping": {form: list(points.values()) for form, points in skipping.items()},
        "caches": caches,
    }
    return found | {"in_words": in_words(found)}


def table(arm: str, runs: Mapping[int, Run]) -> list[dict[str, object]]:
    """plots/conditional.tsv: the mean loss of each point, a seed a line."""
    rows: list[dict[str, object]] = []
    for seed, run in runs.items():
        for point in run.points:
            named: dict[str, object] = {
                "arm": arm, "seed": seed, "what": point.what, "choice": point.choice,
                "below": None, "bits": None, "other_bits": None, "share": point.share,
                "flops_per_token": None, "bytes_per_token": None,
                "loss": float(point.losses.mean()),
            }  # fmt: skip
            if point.what == CACHES:
                named |= {"bits": point.setting[0], "other_bits": point.setting[1]}
                named["bytes_per_token"] = point.cost
            else:
                named |= {"below": point.setting[0], "flops_per_token": point.cost}
            rows.append(named)
    return rows


def in_words(found: Mapping[str, Any]) -> list[str]:
    """A sentence on each form of skipping at its largest share below 1, and one on the caches.

    Of these, all states alike, and where the others are in few bits too.
    """
    sentences = []
    for form, points in found["skipping"].items():
        name = form.replace("_", "-")
        some = [point for point in points if 0 < point["share"] < 1]
        if not some:
            sentences.append(f"No eps tried leaves out a part of {found['arm']}'s {name}s.")
            continue
        most = max(some, key=lambda point: point["share"])
        losses = ", ".join(f"{each} {_interval(most['loss'][each])}" for each in CHOICES)
        sentences.append(
            f"{found['arm']} without {100 * most['share']:.0f} % of its {name}s (eps"
            f" {most['below']:g}), loss in nats a token above that with all: {losses}."
        )
    told = [
        f"{each['states']} {each['bits']:g} bits"
        + (f" (others {each['others']:g})" if each["others"] else "")
        + f" {each['bytes_per_token']:.0f} bytes {_interval(each['loss'])}"
        for each in found["caches"]
        if each["states"] == ALL or each["others"]
    ]
    sentences.append(f"Keys and values of {found['arm']}, a token: {'; '.join(told)}.")
    return sentences


def _interval(ends: Sequence[float]) -> str:
    value, low, high = ends
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
