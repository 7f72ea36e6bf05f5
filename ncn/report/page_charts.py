"""The charts of the report: which there are for its inputs, and the tables that they draw."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncn.analysis.comparison import BASELINE
from ncn.analysis.verdict import verdict_of
from ncn.common.nested import is_number
from ncn.report import charts
from ncn.report.charts import CONFIG, Spec
from ncn.report.inputs import Inputs, Row
from ncn.report.numbers import interval
from ncn.report.vega import to_svg
from ncn.settings import PUBLISHED_SERIES, Params
from ncn.signals import SIGNALS

PICTURE_WIDTH = 520  # pixels; a live chart fills its column
NARROW = 340  # of those three abreast, whose letters would be too small on paper
PICTURE_POINTS = 3000  # of the scatter, in its picture; the live one has all
HISTOGRAM_BINS = 60
SIGNIFICANT = 5  # digits of what charts draw


def logged() -> dict[str, tuple[str, bool]]:
    """Logged beside the loss, where a run has them: column -> (title, logarithmic)."""
    return {
        "penalty": ("homeostatic penalty", True),
        "grad_norm": ("gradient norm", True),
        "loss_scale": ("loss scale", True),
        "pooling_entropy": ("entropy of the salience pooling (1: a plain mean)", False),
    } | {f"{name}_mean": (f"mean {signal.words}", False) for name, signal in SIGNALS.items()}


class Heatmap(NamedTuple):
    """One signal of one network on one text: the name of its chart, and its mean and spread."""

    chart: str
    signal: str
    state: str
    mean: float
    sd: float


class PageCharts(NamedTuple):
    """What the page draws: by name the specifications, tables and pictures; by run the scans."""

    specs: dict[str, Spec]
    tables: dict[str, list[Row]]
    pictures: dict[str, str]
    scans: dict[tuple[str, int], list[Heatmap]]  # by run and number of the text


def css_colours(params: Params) -> dict[str, str]:
    """The colour of each arm as the page's style names it: one on light pages, one on dark."""
    arms = [PUBLISHED_SERIES, *params.arms]
    return {arm: f"var(--arm-{place})" for place, arm in enumerate(arms)}


def page_charts(params: Params, inputs: Inputs, comparable: bool) -> PageCharts:
    """The charts for which there is data.

    Args:
        params: the experiment.
        inputs: what was gathered of it.
        comparable: the run is the published experiment, so its loss belongs into one chart.
    """
    specs: dict[str, Spec] = {}
    tables: dict[str, list[Row]] = {}
    palette = css_colours(params)

    def of(rows: Sequence[Row], leave_out: str = "") -> dict[str, str]:
        present = {row["arm"] for row in rows}
        return {arm: c for arm, c in palette.items() if arm in present and arm != leave_out}

    if inputs.curves:
        tables["curves"] = inputs.curves
        ours = of(inputs.curves, leave_out="" if comparable else PUBLISHED_SERIES)
        loss = "loss (nats a token)"
        if ours:
            specs["loss"] = charts.learning_curves(ours, "loss", loss, smooth=True)
            specs["ends"] = charts.curve_ends(ours, params.convergence.slope_share)
        if rows := _gap_rows(inputs):
            tables["gap"] = rows
            specs["gap"] = charts.gap_to_baseline(of(rows))
        if PUBLISHED_SERIES in of(inputs.curves) and not comparable:
            theirs = {PUBLISHED_SERIES: palette[PUBLISHED_SERIES]}
            specs["published"] = charts.learning_curves(theirs, "loss", loss, smooth=True)
    for column, (title, log_y) in {"val_loss": ("validation loss", False), **logged()}.items():
        rows = [
            {"arm": run.arm, "seed": run.seed, "tokens": row["tokens"], column: row[column]}
            for run in inputs.runs
            for row in run.log
            if is_number(row.get(column)) and (row[column] > 0 or not log_y)
        ]
        # What never moves, as a loss scale without fp16, is no chart.
        if len({row[column] for row in rows}) > 1:
            tables[column] = rows
            specs[column] = charts.learning_curves(
                of(rows), column, title, data=column, log_y=log_y, smooth=column in logged()
            )
    if rows := _difference_rows(inputs):
        tables["differences"], tables["seeds"] = rows, _seed_rows(inputs)
        specs["differences"] = charts.differences(of(rows), bool(tables["seeds"]))
    if rows := _sequence_rows(params, inputs):
        tables["sequences"], tables["histogram"] = rows, _histogram(rows)
        specs["scatter"] = charts.sequence_scatter(of(rows))
        specs["histogram"] = charts.sequence_differences(of(rows))
    for table, draw in (("layers", charts.layer_means), ("losses", charts.by_loss)):
        if rows := inputs.scan_tables.get(table, []):
            tables[table] = rows
            present = {row["signal"] for row in rows}
            specs |= {f"{table}-{s}": draw(of(rows), s) for s in SIGNALS if s in present}
    if rows := inputs.scan_tables.get("heads", []):
        tables["heads"] = rows
        specs["heads"] = charts.entropy_of_heads(of(rows))
    scans, heatmaps = _scans(inputs)
    specs |= heatmaps
    tables = {name: [_rounded(row) for row in rows] for name, rows in tables.items()}
    pictures = {name: _picture(name, spec, tables) for name, spec in specs.items()}
    return PageCharts(specs, tables, pictures, scans)


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """A table by column, which names each column once."""
    return {column: [row.get(column) for row in rows] for column in rows[0]} if rows else {}


def tables_of(spec: Any) -> set[str]:
    """The names of the tables that a specification draws."""
    if isinstance(spec, dict):
        data = spec.get("data", {})
        mine = {data["name"]} if isinstance(data, dict) and "name" in data else set()
        return mine.union(*map(tables_of, spec.values()))
    return set().union(*map(tables_of, spec)) if isinstance(spec, list) else set()


def _picture(name: str, spec: Spec, tables: Mapping[str, Sequence[Row]]) -> str:
    """The chart as <svg>: what stands on paper, and wherever no script runs."""
    datasets = {table: tables[table] for table in sorted(tables_of(spec))}
    if name == "scatter":
        kept: dict[str, list[Row]] = {}
        for row in datasets["sequences"]:
            kept.setdefault(row["arm"], []).append(row)
        datasets["sequences"] = [
            row for rows in kept.values() for row in rows[: PICTURE_POINTS // len(kept)]
        ]
    narrow = name in logged() or name.partition("-")[0] in {"layers", "losses"}
    size = {"width": NARROW if narrow else PICTURE_WIDTH}
    svg = to_svg(spec | size | {"datasets": datasets, "config": CONFIG})
    return re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # a hundredth of a pixel is fine enough


def _gap_rows(inputs: Inputs) -> list[Row]:
    """How far each run's moving average is above the baseline's at the same step and seed."""
    baseline = {
        (row["seed"], row["tokens"]): row["short"]
        for row in inputs.curves
        if row["arm"] == BASELINE
    }
    return [
        {"arm": row["arm"], "seed": row["seed"], "tokens": row["tokens"]}
        | {"gap": row["short"] - baseline[row["seed"], row["tokens"]]}
        for row in inputs.curves
        if row["arm"] != BASELINE and (row["seed"], row["tokens"]) in baseline
    ]


def _difference_rows(inputs: Inputs) -> list[Row]:
    rows = []
    for arm, entry in inputs.summary.items():
        value, low, high = (entry.get(f"delta_ppl{end}") for end in ("", "_low", "_high"))
        if is_number(value) and is_number(low) and is_number(high):
            words = f"{arm}  {interval(value, low, high, signed=True)}"
            verdict = verdict_of(arm, inputs.summary, inputs.comparison)
            leaks = bool(verdict and verdict.reads_the_future)
            ends = {"low": low, "value": value, "high": high}
            rows.append({"arm": arm} | ends | {"future": leaks, "words": words})
    return rows


def _seed_rows(inputs: Inputs) -> list[Row]:
    """Each seed's own difference, where there are several."""
    seeds = {run.seed for run in inputs.runs}
    ppl = {
        (run.arm, run.seed): run.evaluate["val_ppl"]
        for run in inputs.runs
        if is_number(run.evaluate.get("val_ppl"))
    }
    return [
        {"arm": arm, "value": value - ppl[BASELINE, seed]}
        for (arm, seed), value in ppl.items()
        if len(seeds) > 1 and arm != BASELINE and (BASELINE, seed) in ppl
    ]


def _sequence_rows(params: Params, inputs: Inputs) -> list[Row]:
    """Each sequence's loss in each arm, mean over its seeds, beside the baseline's."""
    means = {}
    for arm in params.arms:
        mine = [run.losses for run in inputs.runs if run.arm == arm and run.losses]
        if mine and all(losses.keys() == mine[0].keys() for losses in mine):
            means[arm] = {n: float(np.mean([losses[n] for losses in mine])) for n in mine[0]}
    baseline = means.pop(BASELINE, {})
    return [
        {"arm": arm, "sequence": n, "loss": loss, "baseline": baseline[n]}
        for arm, losses in means.items()
        for n, loss in losses.items()
        if n in baseline
    ]


def _histogram(rows: Sequence[Row]) -> list[Row]:
    """How many sequences have which difference; the same bins for every arm."""
    differences = np.array([row["loss"] - row["baseline"] for row in rows])
    edges = np.histogram_bin_edges(differences, HISTOGRAM_BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    histogram = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = differences[[row["arm"] == arm for row in rows]]
        counts, _ = np.histogram(mine, edges)
        histogram += [
            {"arm": arm, "value": float(middle), "count": int(n)}
            for middle, n in zip(middles, counts, strict=True)
        ]
    return histogram


def _scans(inputs: Inputs) -> tuple[dict[tuple[str, int], list[Heatmap]], dict[str, Spec]]:
    """The heat maps by run and text: signal by signal, the trained network first."""
    grouped: dict[tuple[str, int], dict[tuple[str, str], list[Row]]] = {}
    for row in inputs.scans:
        run = grouped.setdefault((f"{row['arm']}-{row['seed']}", int(row["text"])), {})
        run.setdefault((row["signal"], row["state"]), []).append(row)
    scans: dict[tuple[str, int], list[Heatmap]] = {}
    specs: dict[str, Spec] = {}
    for (run_name, text), parts in grouped.items():
        heatmaps = scans.setdefault((run_name, text), [])
        for signal, state in sorted(parts, key=lambda part: list(SIGNALS).index(part[0])):
            rows = parts[signal, state]
            cells = [
                {"position": int(r["position"]), "layer": int(r["layer"]), "value": r["value"]}
                for r in rows
            ]
            tokens = {int(row["position"]): row["token"] for row in rows}
            shown = [tokens.get(place, "") for place in range(max(tokens) + 1)]
            values = np.array([row["value"] for row in rows])
            name = f"scan-{len(specs)}"
            specs[name] = charts.heatmap(signal, shown, [_rounded(cell) for cell in cells])
            heatmaps.append(Heatmap(name, signal, state, float(values.mean()), float(values.std())))
    return scans, specs


def _rounded(row: Row) -> Row:
    return {
        key: float(f"{value:.{SIGNIFICANT}g}") if isinstance(value, float) else value
        for key, value in row.items()
    }
