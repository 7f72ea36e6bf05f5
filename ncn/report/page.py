"""The report: what the other stages wrote, on one page that needs nothing beside itself.

`render` lays out with page.html.j2 what `ncn.report.inputs.gather` read. The page is a function
of its inputs: no time, machine or commit stands on it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ncn.analysis.comparison import BASELINE
from ncn.analysis.verdict import Side, reads_the_future, verdict_of
from ncn.claims.rule import Judgement
from ncn.common.nested import leaves
from ncn.common.templates import environment
from ncn.figures.palette import arm_colours
from ncn.published_run import PUBLISHED_RUN_1, differences_to_published
from ncn.report.charts import CONFIG, ON_DARK, SCAN_COLOURS
from ncn.report.inputs import Inputs, has_control, has_signal
from ncn.report.numbers import DASH, count, interval, margin, number, typeset
from ncn.report.page_charts import columns_of, logged, page_charts, tables_of
from ncn.report.vega import bundle
from ncn.settings import PUBLISHED_SERIES, Params
from ncn.signals import SIGNALS, Signal

VERDICTS = get_args(Judgement)
# The packages whose version can change a figure.
PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "tiktoken", "safetensors", "dvc")


# The verdict on an arm in words; and the answer, by whether the two are equivalent all the same.
SIDES: dict[Side, str] = {
    "better": "better than",
    "worse": "worse than",
    "open": "not told apart from",
}
FEW = 3  # arms with a sentence of their own; more share one
ANSWERS: dict[tuple[Side, bool], str] = {
    ("better", False): "In this run, yes.",
    ("better", True): "Too little to matter.",
    ("open", False): "This run cannot tell.",
    ("open", True): "It makes no difference.",
    ("worse", False): "Not in this run.",
    ("worse", True): "Not in this run.",
}


class Headline(NamedTuple):
    """The result for a reader who reads one line: an answer, and the figures behind it."""

    answer: str
    sentences: list[str]


def render(params: Params, inputs: Inputs) -> str:
    """The page as HTML: equal arguments give equal text."""
    templates = environment(Path(__file__).parent, autoescape=True)
    templates.filters |= {"number": number, "interval": interval, "count": count}
    templates.filters |= {"typeset": typeset, "reads_the_future": reads_the_future}
    differences = differences_to_published(params)
    drawn = page_charts(params, inputs, comparable=not differences)
    colours = arm_colours([PUBLISHED_SERIES, *params.arms])
    return templates.get_template("page.html.j2").render(
        params=params,
        inputs=inputs,
        headline=headline(params, inputs),
        baseline=inputs.summary.get(BASELINE, {}),
        colours=colours,
        on_dark={arm: ON_DARK.get(colour, colour) for arm, colour in colours.items()},
        differences=differences,
        published=PUBLISHED_RUN_1,
        yardsticks=yardstick_rows(inputs),
        charts=drawn.specs,
        pictures=drawn.pictures,
        scans=drawn.scans,
        logged=[name for name in logged() if name in drawn.specs],
        scales={name: scale_of(signal) for name, signal in SIGNALS.items()},
        scan_colours=SCAN_COLOURS,
        live={
            "config": CONFIG,
            "tables": {name: columns_of(rows) for name, rows in drawn.tables.items()},
            "charts": {
                name: {"spec": spec, "tables": sorted(tables_of(spec))}
                for name, spec in drawn.specs.items()
            },
        },
        vega=bundle(),
        claims=[list(same) for _, same in groupby(inputs.claims, lambda c: c.get("claim"))],
        verdicts=sorted(
            Counter(claim.get("verdict", DASH) for claim in inputs.claims).items(),
            key=lambda item: VERDICTS.index(item[0]) if item[0] in VERDICTS else -1,
        ),
        versions={name: inputs.versions[name] for name in PACKAGES if name in inputs.versions},
        settings=settings_in_force(params),
        signals=SIGNALS,
        signals_of=lambda arm: [each for each in SIGNALS if has_signal(params, arm, each)],
        few=FEW + 2,
        dash=DASH,
    )


def scale_of(signal: Signal) -> dict[str, Any]:
    """The ends of a signal's colours, and where between them it is neutral, in per cent."""
    low, high = signal.scale
    return {"limits": signal.scale, "neutral": 100 * (signal.neutral - low) / (high - low)}


def headline(params: Params, inputs: Inputs) -> Headline:
    """Whether a control network helped, in words of one reading.

    Arms without a control network, or that read the future, cannot answer: the latter are named.
    """
    summary, compared = inputs.summary, inputs.comparison.get("differences", {})
    baseline = number(summary.get(BASELINE, {}).get("val_ppl"))
    within = inputs.comparison.get("margin")
    answers: set[str] = set()
    sentences, aside = [], []
    groups: dict[Side, list[str]] = {side: [] for side in SIDES}
    for arm, entry in summary.items():
        verdict = verdict_of(arm, summary, inputs.comparison)
        if verdict is None:
            continue
        if verdict.reads_the_future is None:
            aside.append(f"Whether {arm} reads later tokens is not known: it is not compared.")
        elif verdict.reads_the_future:
            reactive = entry.get("val_ppl_reactive")
            aside.append(
                f"{arm} reads later tokens, so its perplexity of {number(entry.get('val_ppl'))} is"
                " not a language model's"
                + (f"; scored as it would generate it has {number(reactive)}." if reactive else ".")
            )
        elif has_control(params, arm):
            answers.add(ANSWERS[verdict.side, verdict.equivalent])
            middle, lowest, highest = margin(*verdict.difference)
            groups[verdict.side].append(f"{arm} ({middle})")
            chance = f", chance among {len(compared)} arms (p = {number(verdict.p)})"
            sentences.append(
                f"{arm} is {SIDES[verdict.side]} a plain transformer of its size: perplexity"
                f" {number(entry.get('val_ppl'))} against {baseline}, a difference of"
                f" {middle} (95 % interval {lowest} to {highest})"
                + (chance if verdict.may_be_chance else "")
                + (
                    f", small enough to count as none (±{within} nats a token)."
                    if verdict.equivalent
                    else "."
                )
            )
    if len(sentences) > FEW:
        sentences = [
            f"{SIDES[side].capitalize()} a plain transformer of its size, whose perplexity is"
            f" {baseline}: {', '.join(arms)}."
            for side, arms in groups.items()
            if arms
        ]
    if len(answers) < 2:
        answer = answers.pop() if answers else "Not answered yet."
    else:
        helped = {ANSWERS["better", same] for same in (False, True)} & answers
        answer = "It depends on the arm." if helped else "No arm is shown to help."
    nothing = ["No arm with a control network is compared with a baseline here."]
    return Headline(answer, sentences + aside or nothing)


def yardstick_rows(inputs: Inputs) -> list[dict[str, Any]]:
    """Loss, perplexity and bits per byte of counting; the same for every run, so of the first."""
    found: Mapping[str, float] = next(
        (run.evaluate["yardsticks"] for run in inputs.runs if "yardsticks" in run.evaluate), {}
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
    return {
        name: [(key, _shown(value)) for key, value in leaves(section) if value is not None]
        for name, section in sections.items()
    }


def _shown(value: Any) -> str:
    """The value of a setting, as the page has it."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
