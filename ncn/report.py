"""The report: what the other stages wrote, on one page that needs nothing beside itself.

`gather` reads, `render` lays out with report.html.j2. Numbers are rounded for reading on the way
into the page only; metrics/ keeps them whole. An input that is missing, damaged or not finite is
named on the page and leaves a dash in its place: half a result is still worth reading.
"""

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.ticker import MaxNLocator

from ncn.artifacts import (
    BRAIN_SCAN,
    BRAIN_SCAN_PLOTS,
    COMPARISON,
    CONVERGENCE,
    CONVERGENCE_PLOT,
    SAMPLES,
    SUMMARY,
    TOKENS,
    evaluation_metrics,
    run_name,
    training_metrics,
)
from ncn.charts import PUBLISHED, arm_colours
from ncn.comparison import BASELINE
from ncn.config import SIGNALS, Params
from ncn.errors import InputError
from ncn.files import read_json

DASH = "–"
MINUS = "−"
DIGITS = 4  # significant, of every number on the page

# Run 1 of the preprint's repository: its figures, and the settings without which they are no
# reference for another run's.
PUBLISHED_RUN_1 = {"val_loss": 1.5082, "val_ppl": 4.5184, "parameters": 18_007_762}
PUBLISHED_SETTINGS = {
    "data.source": "tinystories-v2",
    "tokenizer.vocabulary": "gpt2",
    "model.d_model": 256,
    "model.n_layers": 6,
    "model.n_heads": 8,
    "model.d_ff": 1024,
    "model.context_length": 512,
    "train.epochs": 1,
}


class Run(NamedTuple):
    """One arm with one seed, and what was written of it."""

    name: str
    arm: str
    seed: int
    train: dict[str, Any]
    evaluate: dict[str, Any]
    convergence: dict[str, Any]
    scan: dict[str, Any]
    picture: str | None  # data: URI of the brain scan


@dataclass(frozen=True)
class Inputs:
    """All that the page is made from; `missing` says in words what was not there."""

    summary: dict[str, dict[str, Any]]
    in_words: dict[str, str]
    sequences: int | None
    runs: list[Run]
    published: dict[str, Any]  # the published series' entry of metrics/convergence.json
    curves: str | None  # data: URI
    samples: dict[str, dict[str, str]]  # by prompt and run, what follows the prompt
    meta: dict[str, Any]  # of data/tokens
    missing: list[str] = field(default_factory=list)


def gather(params: Params) -> Inputs:
    """Read what `params.arms` and `params.seeds` name, and no other; never raises for a gap."""
    missing: list[str] = []

    def read(path: Path) -> dict[str, Any]:
        try:
            content = read_json(path)
        except InputError as error:
            missing.append(str(error))
            return {}
        if not isinstance(content, dict) or not content:
            missing.append(f"{path} holds no entries: run `dvc repro`")
            return {}
        missing.extend(f"{path}: {key} is not a number" for key in not_finite(content))
        return content

    def picture(path: Path) -> str | None:
        if path.is_file():
            return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        missing.append(f"{path} does not exist: run `dvc repro`, or `dvc pull`")
        return None

    def entry(content: Mapping[str, Any], key: str, path: Path) -> Any:
        if content and key not in content:
            missing.append(f"{path} says nothing of {key}: run `dvc repro`")
        return content.get(key, {})

    summary, comparison = read(SUMMARY), read(COMPARISON)
    convergence, scans, meta = read(CONVERGENCE), read(BRAIN_SCAN), read(TOKENS / "meta.json")
    runs = []
    for arm in params.arms:
        controlled = has_control(params, arm)
        for seed in params.seeds:
            name = run_name(arm, seed)
            run = Run(
                name=name,
                arm=arm,
                seed=seed,
                train=read(training_metrics(name)),
                evaluate=read(evaluation_metrics(name)),
                convergence=entry(convergence.get("runs", {}), name, CONVERGENCE),
                scan=entry(scans, name, BRAIN_SCAN) if controlled else {},
                picture=picture(BRAIN_SCAN_PLOTS / f"{name}.png") if controlled else None,
            )
            if run.train and meta and run.train.get("data") != meta.get("digest"):
                missing.append(f"{name} was trained on other tokens than data/tokens: `dvc repro`")
            runs.append(run)
    return Inputs(
        summary={arm: entry(summary, arm, SUMMARY) for arm in params.arms},
        in_words={arm: comparison.get("in_words", {}).get(arm, "") for arm in params.arms},
        sequences=comparison.get("sequences"),
        runs=runs,
        published=entry(convergence, "published run 1", CONVERGENCE),
        curves=picture(CONVERGENCE_PLOT),
        samples=entry(read(SAMPLES), "samples", SAMPLES),
        meta=meta,
        missing=missing,
    )


def render(params: Params, inputs: Inputs) -> str:
    """The page as HTML: equal arguments give equal text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "interval": interval, "count": count}
    return environment.get_template("report.html.j2").render(
        params=params,
        inputs=inputs,
        baseline=inputs.summary.get(BASELINE, {}),
        colours=arm_colours([PUBLISHED, *params.arms]),
        differences=differences_to_published(params),
        published=PUBLISHED_RUN_1,
        yardsticks=yardstick_rows(inputs),
        chart=delta_chart(inputs.summary, arm_colours([PUBLISHED, *params.arms])),
        settings=settings_in_force(params),
        signals=SIGNALS,
        dash=DASH,
    )


def has_control(params: Params, arm: str) -> bool:
    """Whether the arm has a control network."""
    return params.control_network(arm).controller != "none"


def not_finite(value: object, key: str = "") -> Iterator[str]:
    """The dotted keys under `value` that hold NaN or infinity."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from not_finite(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from not_finite(each, f"{key}[{place}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield key


def differences_to_published(params: Params) -> list[str]:
    """The settings that make this run another experiment than the published one, in words."""
    differences = []
    for key, theirs in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        if (ours := getattr(getattr(params, section), name)) != theirs:
            differences.append(f"{key} is {ours}, published {theirs}")
    return differences


def yardstick_rows(inputs: Inputs) -> list[dict[str, Any]]:
    """Loss, perplexity and bits per byte of counting; the same for every run, so of the first."""
    found: dict[str, float] = next(
        (run.evaluate["yardsticks"] for run in inputs.runs if run.evaluate), {}
    )
    n_bytes = inputs.meta.get("val", {}).get("bytes_per_token")
    return [
        {
            "name": name,
            "loss": loss,
            "ppl": math.exp(loss),
            "bpb": loss / math.log(2) / n_bytes if n_bytes else None,
        }
        for name, loss in found.items()
        if math.isfinite(loss)
    ]


def settings_in_force(params: Params) -> dict[str, list[tuple[str, str]]]:
    """Each section but `arms` as (dotted key, value); unset keys and the hub's files left out.

    Taken from the checked settings, not from the file's text: a comment must not change the page.
    """
    left_out: Any = {"arms": True} | {name: {"hub": {"files"}} for name in ("data", "tokenizer")}
    sections = params.model_dump(exclude=left_out)
    return {name: list(_flat(section, "")) for name, section in sections.items()}


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _flat(each, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        yield key, ", ".join(map(str, value))
    elif value is not None:
        yield key, str(value)


def _decimals(largest: float) -> int:
    """Decimals that show the largest of some magnitudes with DIGITS significant digits."""
    return min(max(0, DIGITS - 1 - math.floor(math.log10(largest))), 6) if largest else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: float | None, signed: bool = False) -> str:
    """A number with 4 significant digits, thousands set off; a dash where there is none."""
    if value is None or not _is_number(value):
        return DASH
    if 0 < abs(value) < 1e-4:
        text = f"{value:{'+' if signed else ''}.{DIGITS - 1}e}"
    else:
        text = f"{value:{'+' if signed else ''},.{_decimals(abs(value))}f}"
    return text.replace("-", MINUS)


def interval(
    value: float | None, low: float | None, high: float | None, signed: bool = False
) -> str:
    """`value [low, high]` with equal decimals, 4 significant digits in the largest."""
    numbers = [x for x in (value, low, high) if x is not None and _is_number(x)]
    if len(numbers) < 3:
        return number(value, signed)
    style = f"{'+' if signed else ''},.{_decimals(max(map(abs, numbers)))}f"
    middle, *ends = (f"{x:{style}}".replace("-", MINUS) for x in numbers)
    return f"{middle} [{', '.join(ends)}]"


def count(value: int | None) -> str:
    """A whole number in full; a dash where there is none."""
    return f"{value:,}" if value is not None and _is_number(value) else DASH


class ChartRow(NamedTuple):
    """One arm's difference: places across the chart in per cent, and the same in words."""

    arm: str
    colour: str
    hollow: bool  # sees the future: its perplexity is not a language model's
    low: float
    value: float
    high: float
    words: str


class Chart(NamedTuple):
    """The differences to the baseline, which is at `zero`; ticks are (place in %, label)."""

    rows: list[ChartRow]
    ticks: list[tuple[float, str]]
    zero: float


def delta_chart(
    summary: Mapping[str, Mapping[str, Any]], colours: Mapping[str, str]
) -> Chart | None:
    """Where the points and intervals of the difference chart go; None without any difference.

    Places are per cent of the width, so the drawing fills any screen and its text keeps its size.
    """
    keys = ("delta_ppl_low", "delta_ppl", "delta_ppl_high")
    found = {
        arm: [float(entry[key]) for key in keys]
        for arm, entry in summary.items()
        if all(_is_number(entry.get(key)) for key in keys)
    }
    if not found:
        return None
    place, ticks = _scale([0.0, *(end for ends in found.values() for end in ends)])
    rows = []
    for arm, (low, value, high) in found.items():
        rows.append(
            ChartRow(
                arm=arm,
                colour=colours[arm],
                hollow=bool(summary[arm].get("future_leak")),
                low=place(low),
                value=place(value),
                high=place(high),
                words=interval(value, low, high, signed=True),
            )
        )
    return Chart(rows, ticks, place(0.0))


def _scale(values: Sequence[float]) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """A map from values to per cent of the width, and round ticks within it."""
    low, high = min(values), max(values)
    if low == high:  # every arm equals the baseline to the last digit
        low, high = -0.01, 0.01
    margin = 0.08 * (high - low)
    start, width = low - margin, high - low + 2 * margin

    def place(value: float) -> float:
        return round(100 * (value - start) / width, 2)

    inside = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return place, [
        (place(tick), f"{tick:+.6g}".replace("-", MINUS) if abs(tick) > 1e-12 else "0")
        for tick in map(float, inside)
        if 3 <= place(tick) <= 97
    ]
