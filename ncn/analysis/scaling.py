"""How losses, and differences to the baseline, move with the size of the model.

metrics/scaling.json holds for each study of which a size is frozen what `scaling` makes of its
sizes, and `in_words`; plots/scaling.tsv the points of all, one a line.

    target                        parameters to which it extrapolates: the published model's
    sizes                         their names, by the baseline's parameters
    arms.ARM
        points                    by size: size, parameters, non_embedding_parameters, tokens,
                                  training_flops (3 x forward), loss (mean over seeds), sd, seeds
        law                       L = a + b N^-c, N parameters: a, b, c, at_target, each [value,
                                  low, high]; at_bound, the share of resamples that determine none;
                                  unidentified, why the sizes leave open which law it is, or [];
                                  curve, for a figure: n, loss, low, high; or null
        no_law                    why there is none, or null
    differences.ARM               of each arm but the baseline, arm - baseline, nats a token
        points                    by size: size, parameters, delta, low, high (null with fewer than
                                  three seeds), seeds, paired
        slope                     of the difference on ln(parameters): [value, low, high] or null
        trend                     see `Trend`
        at_target                 [value, low, high] or null
        curve                     of the line, for a figure: n, delta, low, high; or null
        no_slope                  why there is none, or null

Intervals are 95 %, over seeds alone: see `ncn.analysis.size_fits`. Those of a law hold a planted
one in nine of ten cases (three or four sizes, three or five seeds), those of a line in 19 of 20.
Sizes with fewer than three seeds are shown and not fitted.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncn.analysis.size_fits import Line, difference_of, fit_law, fit_line
from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json
from ncn.common.nested import is_number
from ncn.common.paths import COMPARISON, STUDIES, run_name, training_metrics
from ncn.settings import BASELINE
from ncn.statistics.interval import Interval
from ncn.statistics.rounding import rounded

# What happens to |difference| as the model grows. `widens`: the slope's interval excludes 0, and so
# does the difference that the line has at the largest size, on the side that it moves to; the
# smallest size is not clearly on the other side. `narrows`: likewise with the difference at the
# smallest size, which the slope moves towards 0, and the largest not clearly beyond 0. Everything
# else `cannot be told`: the sizes do not decide, or the difference changes its side.
Trend = Literal["widens", "narrows", "cannot be told"]

TARGET = 18_000_000  # parameters of the published model
FEWEST_SEEDS = 3
FEWEST_SIZES = {"slope": 2, "law": 3}
RESAMPLES = 2000
CURVE = 30  # points of a curve
NEEDED = ("parameters", "non_embedding_parameters", "flops_per_token", "tokens")

Size = Mapping[str, Any]


def scaling_of_studies(seed: int) -> dict[str, dict[str, Any]]:
    """metrics/scaling.json: what is frozen below studies/, by study.

    Args:
        seed: of the resampling.

    Raises:
        InputError: a frozen size cannot be used.
    """
    frozen: dict[str, list[Path]] = {}
    for comparison in sorted(STUDIES.glob(f"*/*/{COMPARISON}")):
        folder = comparison.parents[len(COMPARISON.parts) - 1]
        frozen.setdefault(folder.parent.name, []).append(folder)
    studies = {name: scaling(list(map(read_size, sizes)), seed) for name, sizes in frozen.items()}
    return {name: found | {"in_words": in_words(found)} for name, found in studies.items()}


def in_table(studies: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """plots/scaling.tsv: a line for each arm at each size; no difference for the baseline."""
    rows = []
    for name, found in studies.items():
        for arm, each in found["arms"].items():
            pairs = found["differences"].get(arm, {"points": []})["points"]
            apart = {point["size"]: point for point in pairs}
            for point in each["points"]:
                differs = apart.get(point["size"], {})
                rows.append(
                    {"study": name, "arm": arm}
                    | point
                    | {key: differs.get(key) for key in ("delta", "low", "high")}
                )
    return rows


def read_size(folder: Path) -> dict[str, Any]:
    """What a frozen size came to: {size, arms: {ARM: {NEEDED ..., loss_by_seed: {SEED: nats}}}}.

    Args:
        folder: with metrics/compare.json and metrics/train/. The loss is that of the language
            model, as the comparison takes it.

    Raises:
        InputError: a file is missing, or lacks a figure.
    """
    path = folder / COMPARISON
    with as_written(path, folder / "metrics/train"):
        size = {"size": folder.name, "arms": _arms(folder, path)}
        check(size, str(folder))
    return size


def _arms(folder: Path, path: Path) -> dict[str, Any]:
    arms = {}
    for arm, entry in (read_json(path).get("arms") or {}).items():
        by_seed = entry.get("val_loss", {}).get("by_seed") or {}
        if not by_seed:
            raise InputError(f"{path}: arms.{arm}.val_loss.by_seed is missing: freeze it again")
        runs = {seed: folder / training_metrics(run_name(arm, seed)) for seed in by_seed}
        trained = {seed: read_json(run) for seed, run in runs.items()}
        first, *others = trained
        for seed in others:
            if any(trained[seed].get(key) != trained[first].get(key) for key in NEEDED):
                raise InputError(f"{runs[seed]} is of another size than {runs[first].name}")
        arms[arm] = {key: trained[first].get(key) for key in NEEDED} | {"loss_by_seed": by_seed}
    return arms


def check(size: Size, where: str) -> None:
    """Raise an InputError for what no analysis can use: no baseline, or a figure that is none."""
    if BASELINE not in size["arms"]:
        raise InputError(f"{where}: no arm {BASELINE}, so there is nothing to differ from")
    for arm, entry in size["arms"].items():
        figures = {key: entry.get(key) for key in NEEDED}
        figures |= {f"loss_by_seed.{seed}": loss for seed, loss in entry["loss_by_seed"].items()}
        for key, value in figures.items():
            if not is_number(value) or value <= 0:
                raise InputError(f"{where}: {arm}.{key} is {value}; it must be a positive number")


def scaling(sizes: Sequence[Size], seed: int, resamples: int = RESAMPLES) -> dict[str, Any]:
    """What the sizes show together; see above.

    Args:
        sizes: as `read_size` gives them.
        seed: of the resampling.
        resamples: over seeds, of the laws.

    Raises:
        InputError: no size, one named twice, or two of the same number of parameters.
    """
    if not sizes:
        raise InputError("no size of the study has run: there is nothing to compare")
    for size in sizes:
        check(size, f"size {size['size']}")
    ordered = sorted(sizes, key=lambda size: size["arms"][BASELINE]["parameters"])
    for key, values in (
        ("name", [size["size"] for size in ordered]),
        ("parameters", [size["arms"][BASELINE]["parameters"] for size in ordered]),
    ):
        if twice := [value for value in values if values.count(value) > 1]:
            raise InputError(f"two sizes have the same {key}, {twice[0]}: each must be its own")
    arms = list(dict.fromkeys(arm for size in ordered for arm in size["arms"]))
    largest = max(max(size["arms"][arm]["parameters"] for arm in size["arms"]) for size in ordered)
    return rounded(
        {
            "target": TARGET,
            "beyond": TARGET / largest,
            "sizes": [size["size"] for size in ordered],
            "arms": {arm: _of_arm(arm, ordered, seed, resamples) for arm in arms},
            "differences": {arm: _of_pair(arm, ordered) for arm in arms if arm != BASELINE},
        }
    )


def _of_arm(arm: str, sizes: Sequence[Size], seed: int, resamples: int) -> dict[str, Any]:
    """An entry of `arms`."""
    mine = [(size["size"], size["arms"][arm]) for size in sizes if arm in size["arms"]]
    points = []
    for name, entry in mine:
        losses = list(entry["loss_by_seed"].values())
        points.append(
            {"size": name}
            | {key: entry[key] for key in NEEDED if key != "flops_per_token"}
            | {"training_flops": 3 * entry["flops_per_token"] * entry["tokens"]}
            | {"loss": float(np.mean(losses)), "seeds": len(losses)}
            | {"sd": float(np.std(losses, ddof=1)) if len(losses) > 1 else None}
        )
    usable = [entry for _, entry in mine if len(entry["loss_by_seed"]) >= FEWEST_SEEDS]
    why, law = _too_few(len(usable), "law"), None
    if why is None:
        n = np.array([entry["parameters"] for entry in usable], np.float64)
        losses = [np.array(list(entry["loss_by_seed"].values())) for entry in usable]
        law = fit_law(n, losses, resamples, seed)
        why = None if law else "the sizes determine no law: the fit ends at a bound"
    if law is None:
        return {"points": points, "law": None, "no_law": why}
    grid = _grid(n)
    loss, low, high = law.loss(grid)
    at_target = [float(each[0]) for each in law.loss(np.array([float(TARGET)]))]
    fitted: dict[str, Any] = {name: list(law.interval(name)) for name in ("a", "b", "c")}
    fitted |= {"at_target": at_target, "at_bound": law.at_bound}
    fitted |= {"unidentified": law.unidentified()}
    fitted["curve"] = _curve(grid, loss=loss, low=low, high=high)
    return {"points": points, "law": fitted, "no_law": None}


def _of_pair(arm: str, sizes: Sequence[Size]) -> dict[str, Any]:
    """An entry of `differences`."""
    points, found = [], []
    for size in sizes:
        if arm not in size["arms"]:
            continue
        mine, base = size["arms"][arm], size["arms"][BASELINE]
        apart = difference_of(mine["loss_by_seed"], base["loss_by_seed"])
        low = high = None
        if apart.seeds >= FEWEST_SEEDS:
            _, low, high = apart.interval()
            found.append((mine["parameters"], apart))
        points.append(
            {"size": size["size"], "parameters": mine["parameters"]}
            | {"delta": apart.mean, "low": low, "high": high}
            | {"seeds": apart.seeds, "paired": apart.paired}
        )
    n = np.array([parameters for parameters, _ in found], np.float64)
    if why := _too_few(len(set(n)), "slope"):
        nothing = dict.fromkeys(("slope", "at_target", "curve"))
        return {"points": points, "trend": "cannot be told", "no_slope": why} | nothing
    line = fit_line(np.log(n), [apart for _, apart in found])
    grid = _grid(n)
    drawn = np.array([line.at(math.log(each)) for each in grid])
    return {
        "points": points,
        "slope": list(line.slope()),
        "trend": trend(line, math.log(n.min()), math.log(n.max())),
        "at_target": list(line.at(math.log(TARGET))),
        "curve": _curve(grid, delta=drawn[:, 0], low=drawn[:, 1], high=drawn[:, 2]),
        "no_slope": None,
    }


def trend(line: Line, smallest: float, largest: float) -> Trend:
    """What the difference does from the smallest to the largest size, in ln(parameters)."""
    slope = _side(line.slope())
    first, last = _side(line.at(smallest)), _side(line.at(largest))
    if slope and last == slope and first != -slope:
        return "widens"
    if slope and first == -slope and last != slope:
        return "narrows"
    return "cannot be told"


def in_words(found: Mapping[str, Any]) -> list[str]:
    """What `scaling` found, a sentence or two an arm, and what it does not say."""
    sentences = []
    for arm, each in found["differences"].items():
        if each["slope"] is None:
            sentences.append(
                f"{arm}: how its difference to the baseline moves with size is not known:"
                f" {each['no_slope']}."
            )
            continue
        value, low, high = each["slope"]
        far, far_low, far_high = each["at_target"]
        moves = {
            "widens": "the difference to the baseline widens as the model grows",
            "narrows": "the difference to the baseline narrows as the model grows",
            "cannot be told": "whether the difference to the baseline widens or narrows cannot be"
            " told",
        }[each["trend"]]
        sentences.append(
            f"{arm}: {moves} (slope {value:+.4f} nats for each e-fold of parameters, 95 % interval"
            f" {low:+.4f} to {high:+.4f}). A straight line would be at {far:+.4f} ({far_low:+.4f}"
            f" to {far_high:+.4f}) at {found['target'] / 1e6:g} M parameters."
        )
    for arm, each in found["arms"].items():
        if each["law"] is None:
            sentences.append(f"{arm}: no power law of its loss: {each['no_law']}.")
            continue
        sentences.append(f"{arm}: {_law_in_words(each['law'], found['target'])}.")
    if any(each["slope"] for each in found["differences"].values()) and found["beyond"] > 1:
        tokens = {point["tokens"] for each in found["arms"].values() for point in each["points"]}
        sentences.append(
            f"{found['target'] / 1e6:g} M parameters are {found['beyond']:.1f} times the largest"
            f" size here, and trained on no more than {max(tokens):,} tokens, as these are: the"
            " intervals are over seeds and take it for granted that the line, or the law, goes on."
        )
    return sentences


def _law_in_words(law: Mapping[str, Any], target: int) -> str:
    """What the sizes tell of a law, and at the target."""
    (a, a_low, a_high), (c, c_low, c_high) = law["a"], law["c"]
    far, far_low, far_high = law["at_target"]
    if law["unidentified"]:
        return (
            "its loss falls with size, by a law that is not identified:"
            f" {'; '.join(law['unidentified'])}. Exponents of {c_low:.3f} to {c_high:.3f} with"
            f" offsets of {a_low:.3f} to {a_high:.3f} nats agree with the seeds; such laws would be"
            f" at {far_low:.3f} to {far_high:.3f} at {target / 1e6:g} M parameters"
        )
    return (
        f"its loss falls as N^-{c:.3f} (95 % interval {c_low:.3f} to {c_high:.3f}) towards"
        f" {a:.3f} nats ({a_low:.3f} to {a_high:.3f}); at {target / 1e6:g} M parameters it would be"
        f" {far:.3f} ({far_low:.3f} to {far_high:.3f})"
    )


def _too_few(count: int, what: str) -> str | None:
    """Why nothing can be fitted to so many sizes; None: it can."""
    if count >= FEWEST_SIZES[what]:
        return None
    return (
        f"a {what} takes {FEWEST_SIZES[what]} sizes with {FEWEST_SEEDS} seeds each or more, and"
        f" there {'is' if count == 1 else 'are'} {count}"
    )


def _side(interval: Interval) -> int:
    """-1 below 0, 1 above it, 0 where it covers 0."""
    return (interval.low > 0) - (interval.high < 0)


def _grid(n: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Parameters from the smallest size to the target, or the largest where that is beyond it."""
    return np.geomspace(n.min(), max(n.max(), TARGET), CURVE)


def _curve(grid: np.ndarray[Any, Any], **columns: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    return {"n": grid.tolist()} | {name: each.tolist() for name, each in columns.items()}
