"""What the report is made from: read whole, and what is not there said in words.

An input that is missing, damaged or not finite is named and leaves a gap: half a result is still
worth reading, so nothing here raises for one.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json
from ncn.common.nested import leaves
from ncn.common.paths import (
    ADAPTATION,
    BENCHMARK,
    BRAIN_SCAN,
    CLAIMS,
    COMPARISON,
    CONDITIONAL,
    CONVERGENCE,
    CURVES,
    REQUIREMENTS,
    ROBUSTNESS,
    SAMPLES,
    SCALING,
    SCAN_TABLES,
    SCAN_TESTS,
    SCANS,
    SUMMARY,
    TOKENS,
    TUNING,
    evaluation_metrics,
    run_name,
    sequence_losses,
    training_log,
    training_metrics,
)
from ncn.common.tsv import read_tsv
from ncn.settings import PUBLISHED_SERIES, Params
from ncn.statistics.scores import COLUMNS, language_model

# The tables of the scans' tests that the page draws, and the columns it needs of them.
SCAN_COLUMNS = {
    "layers": ("layer", "mean", "sd", "null_mean"),
    "losses": ("tenth", "loss", "mean"),
    "heads": ("layer", "head", *(f"rho_given_position{end}" for end in ("", "_low", "_high"))),
}
TEXT_COLUMNS = frozenset({"arm", "seed", "state", "token", "signal"})

Row = dict[str, Any]


class Run(NamedTuple):
    """One arm with one seed, and what was written of it."""

    name: str
    arm: str
    seed: int
    train: dict[str, Any]
    evaluate: dict[str, Any]
    convergence: dict[str, Any]
    scan: dict[str, Any]
    tests: dict[str, Any]  # of the scan
    log: list[Row]
    losses: dict[int, float]  # by validation sequence


@dataclass(frozen=True)
class Inputs:
    """All that the page is made from; `missing` says in words what was not there."""

    summary: dict[str, dict[str, Any]]
    comparison: dict[str, Any]
    runs: list[Run]
    published: dict[str, Any]  # the published series' entry of metrics/convergence.json
    curves: list[Row]  # of the runs, and of the published series under the arm PUBLISHED_SERIES
    claims: list[dict[str, Any]]
    scans: list[Row]  # the signals by run, state, text, position and layer
    scan_tables: dict[str, list[Row]]  # what the tests of the scans found: layers, losses, heads
    samples: dict[str, dict[str, str]]  # by prompt and run, what follows the prompt
    tuning: dict[str, dict[str, Any]]  # by arm, how its learning rate was found
    robustness: dict[str, Any]  # the differences counted otherwise
    conditional: dict[str, Any]  # what an arm costs with branches left out, caches compressed
    adaptation: dict[str, dict[str, Any]]  # by arm and method, what a second training did
    studies: dict[str, dict[str, Any]]  # by study, what its frozen sizes show
    benchmark: dict[str, Any]
    meta: dict[str, Any]  # of data/tokens
    versions: dict[str, str]  # by package, as pinned
    missing: list[str] = field(default_factory=list)


def gather(params: Params) -> Inputs:
    """Read what `params.arms` and `params.seeds` name, and no other; never raises for a gap.

    Raises:
        InputError: a file is not as a stage writes it.
    """
    with as_written("metrics/", "plots/"):
        return _gathered(params)


def _gathered(params: Params) -> Inputs:
    missing: list[str] = []

    def read(path: Path) -> dict[str, Any]:
        if path == BENCHMARK and not path.exists():  # the one file that no stage makes
            missing.append(f"{path} does not exist: run `make bench`")
            return {}
        try:
            content = read_json(path)
        except InputError as error:
            missing.append(str(error))
            return {}
        if content == {} and path in (SCALING, ADAPTATION):  # no study, no second training
            return {}
        if not isinstance(content, dict) or not content:
            missing.append(f"{path} holds no entries: run `dvc repro`")
            return {}
        missing.extend(f"{path}: {key} is not a number" for key in not_finite(content))
        return content

    def table(path: Path, *columns: str) -> list[Row]:
        try:
            rows = _numbers(path, read_tsv(path), columns)
        except InputError as error:
            missing.append(str(error))
            return []
        whole = [row for row in rows if all(row[column] is not None for column in columns)]
        if gaps := len(rows) - len(whole):
            lack = "row lacks" if gaps == 1 else "rows lack"
            missing.append(f"{path}: {gaps} {lack} a number in {', '.join(columns)}")
        return whole

    def entry(content: Mapping[str, Any], key: str, path: Path) -> Any:
        if content and key not in content:
            missing.append(f"{path} says nothing of {key}: run `dvc repro`")
        return content.get(key, {})

    summary, comparison = read(SUMMARY), read(COMPARISON)
    convergence, scans, meta = read(CONVERGENCE), read(BRAIN_SCAN), read(TOKENS / "meta.json")
    tests = read(SCAN_TESTS)
    for stage in (comparison, convergence):  # what these could not use, and why
        missing.extend(map(str, stage.get("missing") or ()))
    runs = []
    for arm in params.arms:
        for seed in params.seeds:
            name = run_name(arm, seed)
            scored = table(sequence_losses(name), "sequence", "loss")
            scored = [row for row in scored if row[score_column(row)] is not None]
            run = Run(
                name=name,
                arm=arm,
                seed=seed,
                train=read(training_metrics(name)),
                evaluate=read(evaluation_metrics(name)),
                convergence=entry(convergence.get("runs", {}), name, CONVERGENCE),
                scan=entry(scans, name, BRAIN_SCAN) if has_control(params, arm) else {},
                tests=entry(tests, name, SCAN_TESTS) if has_control(params, arm) else {},
                log=table(training_log(name), "tokens", "loss"),
                losses={int(row["sequence"]): row[score_column(row)] for row in scored},
            )
            if run.train and meta and run.train.get("data") != meta.get("digest"):
                missing.append(f"{name} was trained on other tokens than data/tokens: `dvc repro`")
            runs.append(run)
    named = {(run.arm, str(run.seed)) for run in runs}
    controlled = {each for each in named if has_control(params, each[0])}
    curves = table(CURVES, "step", "tokens", "loss", "short", "long")
    shown = table(SCANS, "text", "position", "layer", "value") if controlled else []
    found = {
        name: table(SCAN_TABLES[name], *SCAN_COLUMNS[name]) for name in SCAN_COLUMNS if controlled
    }
    for unseen in sorted(controlled - {(row["arm"], row["seed"]) for row in shown}):
        if shown:
            missing.append(f"{SCANS} says nothing of {'-'.join(unseen)}: run `dvc repro`")
    return Inputs(
        summary={arm: entry(summary, arm, SUMMARY) for arm in params.arms},
        comparison=comparison,
        runs=runs,
        published=entry(convergence, "published run 1", CONVERGENCE),
        curves=[
            row
            for row in curves
            if row["arm"] == PUBLISHED_SERIES or (row["arm"], row["seed"]) in named
        ],
        claims=[each for each in entry(read(CLAIMS), "claims", CLAIMS) if isinstance(each, dict)],
        scans=[
            row
            for row in shown
            if (row["arm"], row["seed"]) in controlled
            and has_signal(params, row["arm"], row["signal"])
        ],
        scan_tables={
            name: [row for row in rows if (row.get("arm"), row.get("seed")) in controlled]
            for name, rows in found.items()
        },
        samples=entry(read(SAMPLES), "samples", SAMPLES),
        tuning={arm: each for arm, each in read(TUNING).items() if arm in params.arms},
        robustness=read(ROBUSTNESS),
        conditional=read(CONDITIONAL),
        adaptation=entry(read(ADAPTATION), "arms", ADAPTATION),
        studies=read(SCALING),
        benchmark=read(BENCHMARK),
        meta=meta,
        versions=_pinned(missing),
        missing=list(dict.fromkeys(missing)),
    )


def score_column(row: Row) -> str:
    """The column of a run's losses as a language model."""
    forms = [form for form, column in COLUMNS.items() if column in row]
    return COLUMNS[language_model(forms)]


def has_control(params: Params, arm: str) -> bool:
    """Whether the arm has a control network."""
    return params.control_network(arm).controller != "none"


def has_signal(params: Params, arm: str, signal: str) -> bool:
    """Whether the arm's control network sets the signal; elsewhere it is neutral."""
    return has_control(params, arm) and signal in params.control_network(arm).signals


def not_finite(value: object) -> list[str]:
    """The dotted keys under `value` that hold NaN or infinity."""
    return [
        key
        for key, each in leaves(value, into_lists=True)
        if isinstance(each, float) and not math.isfinite(each)
    ]


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> list[Row]:
    """Rows with numbers for text, None where a cell holds no finite one.

    Raises:
        InputError: there are no rows, or a column is missing.
    """
    if not rows:
        raise InputError(f"{path} holds no rows: run `dvc repro`")
    if lacking := [column for column in columns if column not in rows[0]]:
        raise InputError(f"{path} has no column {', '.join(lacking)}: run `dvc repro`")
    return [
        {key: cell if key in TEXT_COLUMNS else _number(cell) for key, cell in row.items()}
        for row in rows
    ]


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _pinned(missing: list[str]) -> dict[str, str]:
    """The versions in requirements.lock, by package."""
    try:
        lock = REQUIREMENTS.read_text(encoding="utf-8")
    except FileNotFoundError:
        missing.append(f"{REQUIREMENTS} does not exist: the versions are unknown")
        return {}
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
