"""The report: what the other stages wrote, on one page that needs nothing beside itself.

`render` lays out with page.html.j2 what `ncn.report.inputs.gather` read. The page is a function
of its inputs: no time, machine or commit stands on it.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ncn.analysis.comparison import BASELINE
from ncn.analysis.robustness import VIEWS
from ncn.analysis.verdict import Kind, Verdict, reads_the_future, verdict_of
from ncn.claims.rule import Judgement
from ncn.common.nested import leaves
from ncn.conditional.curves import CHOICES
from ncn.figures.palette import arm_colours
from ncn.published.run_1 import PUBLISHED_RUN_1, differences_to_published
from ncn.report.charts import CONFIG, ON_DARK, SCAN_COLOURS
from ncn.report.inputs import Inputs, has_control, has_signal
from ncn.report.numbers import DASH, count, interval, margin, number, typeset
from ncn.report.page_charts import columns_of, logged, page_charts, tables_of
from ncn.report.ranking import FEW_ARMS, in_words, ranking
from ncn.report.templates import environment, filled_from
from ncn.report.vega import bundle
from ncn.settings import PUBLISHED_SERIES, Params
from ncn.signals import SIGNALS, Signal
from ncn.statistics.interval import LOWEST_P
from ncn.statistics.scores import other_score

VERDICTS = get_args(Judgement)
# The packages whose version can change a figure.
PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "tiktoken", "safetensors", "dvc")


# The verdict on an arm in words, and the answer that follows.
KINDS: dict[Kind, str] = {
    "better": "better than",
    "worse": "worse than",
    "negligible": "really but negligibly different from",
    "equivalent": "as good as",
    "open": "not told apart from",
    "two checkpoints": "one seed each, so not told apart from",
}
FEW = 3  # arms with a sentence of their own; more share one
ANSWERS: dict[Kind, str] = {
    "better": "In this run, yes.",
    "worse": "Not in this run.",
    "negligible": "Too little to matter.",
    "equivalent": "It makes no difference.",
    "open": "This run cannot tell.",
    "two checkpoints": "One seed cannot say.",
}


class Headline(NamedTuple):
    """The result for a reader who reads one line: an answer, and the figures behind it."""

    answer: str
    sentences: list[str]


def render(params: Params, inputs: Inputs) -> str:
    """The page as HTML: equal arguments give equal text.

    Raises:
        InputError: the figures are not as the stages write them.
    """
    with filled_from("metrics/", "plots/"):
        return _rendered(params, inputs)


def _rendered(params: Params, inputs: Inputs) -> str:
    here = Path(__file__).parent
    templates = environment(here, autoescape=True)
    templates.filters |= {"number": number, "interval": interval, "count": count}
    templates.filters["source_hash"] = source_hash
    templates.filters |= {"typeset": typeset, "reads_the_future": reads_the_future}
    differences = differences_to_published(params)
    drawn = page_charts(params, inputs, comparable=not differences)
    colours = arm_colours([PUBLISHED_SERIES, *params.arms])
    ranked = ranking(inputs.summary, inputs.comparison, inputs.benchmark)
    return templates.get_template("page.html.j2").render(
        params=params,
        inputs=inputs,
        headline=headline(params, inputs),
        entry_of=lambda arm: inputs.comparison.get("arms", {}).get(arm, {}),
        other_score=other_score,
        rows_of=difference_rows,
        ranked={
            "rows": ranked,
            "in_words": in_words(params.model_dump(), inputs.comparison, ranked),
        },
        few_arms=FEW_ARMS,
        views=VIEWS,
        choices=CHOICES,
        lowest_p=LOWEST_P,
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
        scripts=[bundle(), (here / "page.js").read_text(encoding="utf-8")],
        claims=[list(same) for _, same in groupby(inputs.claims, lambda c: c.get("claim"))],
        verdicts=sorted(
            Counter(claim.get("verdict", DASH) for claim in inputs.claims).items(),
            key=lambda item: VERDICTS.index(item[0]) if item[0] in VERDICTS else -1,
        ),
        versions={name: inputs.versions[name] for name in PACKAGES if name in inputs.versions},
        settings=settings_in_force(params),
        signals=[
            name
            for name, declared in SIGNALS.items()
            if not declared.further or any(has_signal(params, arm, name) for arm in params.arms)
        ],
        signals_of=lambda arm: [each for each in SIGNALS if has_signal(params, arm, each)],
        few=FEW + 2,
        dash=DASH,
    )


def source_hash(script: str) -> str:
    """What a Content-Security-Policy calls a script by: no other one runs on the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def scale_of(signal: Signal) -> dict[str, Any]:
    """The ends of a signal's colours, and where between them it is neutral, in per cent."""
    low, high = signal.scale
    return {"limits": signal.scale, "neutral": 100 * (signal.neutral - low) / (high - low)}


def headline(params: Params, inputs: Inputs) -> Headline:
    """Whether a control network helped, in words of one reading.

    The primary endpoint answers, where one was declared. Arms without a control network cannot, nor
    can those whose score reads the future: the latter are named.
    """
    summary, comparison = inputs.summary, inputs.comparison
    sentences: dict[str, str] = {}
    aside: list[str] = []
    found: dict[str, Verdict] = {}
    for arm, entry in summary.items():
        verdict = verdict_of(arm, summary, comparison)
        if verdict is None:
            continue
        if verdict.kind == "leak unknown":
            aside.append(f"Whether {arm} reads later tokens is not known: it is not compared.")
        elif verdict.kind == "reads the future":
            aside.append(
                f"{arm} reads later tokens, so its perplexity of {number(entry.get('val_ppl'))} is"
                " not a language model's."
            )
        elif has_control(params, arm):
            found[arm], sentences[arm] = verdict, _sentence(arm, verdict, inputs)
        if reads_the_future(entry) and verdict.reads_the_future is False:
            trained = comparison["arms"][arm]["scores"].get("as_trained") or {}
            aside.append(
                f"{arm} was trained with later tokens in view and is scored without; with them its"
                f" perplexity of {number(trained.get('ppl'))} is not a language model's."
            )
    first = [arm for arm in found if found[arm].primary]  # the primary endpoint leads
    told = [sentences[arm] for arm in sorted(found, key=lambda arm: arm not in first)]
    if len(told) > FEW:
        told = [sentences[arm] for arm in first] + _groups(found, first, inputs)
    told += _seeds_needed(first or list(found), comparison)
    declared = comparison.get("primary") is not None
    answers = {ANSWERS[found[arm].kind] for arm in (first if declared else found)}
    if len(answers) < 2:
        answer = answers.pop() if answers else "Not answered yet."
    else:
        helped = ANSWERS["better"] in answers
        answer = "It depends on the arm." if helped else "No arm is shown to help."
    nothing = ["No arm with a control network is compared with a baseline here."]
    return Headline(answer, told + aside or nothing)


def _sentence(arm: str, verdict: Verdict, inputs: Inputs) -> str:
    """One arm beside the baseline."""
    ppl = number(inputs.summary[arm].get("val_ppl"))
    baseline = number(inputs.summary.get(BASELINE, {}).get("val_ppl"))
    middle, lowest, highest = margin(*verdict.difference)
    if verdict.kind == "two checkpoints":
        return (
            f"{arm} has perplexity {ppl}, a plain transformer of its size {baseline}: the"
            f" difference of two checkpoints, {middle} (95 % interval over the text {lowest} to"
            f" {highest}). How much other seeds differ is not known."
        )
    chance = ""
    if verdict.may_be_chance:
        n = inputs.comparison.get("comparisons")
        chance = f", which may be chance among {count(n)} comparisons (p = {number(verdict.p)})"
    within = ""
    if verdict.kind in ("negligible", "equivalent"):
        within = f", within the ±{inputs.comparison.get('margin')} nats a token that count as none"
    return (
        f"{arm} is {KINDS[verdict.kind]} a plain transformer of its size: perplexity {ppl} against"
        f" {baseline}, a difference of {middle} (95 % interval {lowest} to {highest}){chance}"
        f"{within}."
    )


def _groups(found: Mapping[str, Verdict], told: Sequence[str], inputs: Inputs) -> list[str]:
    """Many arms in a sentence for each kind of verdict; those already told left out."""
    baseline = number(inputs.summary.get(BASELINE, {}).get("val_ppl"))
    sentences = []
    for kind, words in KINDS.items():
        arms = [
            f"{arm} ({margin(*verdict.difference)[0]})"
            for arm, verdict in found.items()
            if verdict.kind == kind and arm not in told
        ]
        if arms:
            sentences.append(
                f"{words[0].upper()}{words[1:]} a plain transformer of its size, whose perplexity"
                f" is {baseline}: {', '.join(arms)}."
            )
    return sentences


def _seeds_needed(arms: Sequence[str], comparison: Mapping[str, Any]) -> list[str]:
    """With one seed, how many would show what: of the first arm, since they hardly differ in it."""
    found = comparison.get("differences", {}).get(arms[0], {}).get("with_seeds") if arms else None
    if not found:
        return []
    would = " and ".join(f"{number(nats)} by {n} seeds" for n, nats in found.items())
    return [
        f"If the difference scatters over seeds by {number(comparison.get('seed_sd'))} nats a token"
        f" (sd), a true one would be found four times in five from: {would}."
    ]


def difference_rows(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """Each arm's difference to the baseline, then to the reference arm: arm, figures, name."""
    rows = []
    for arm, figures in found.items():
        rows.append((arm, figures, arm))
        if beside := figures.get("to_reference"):
            rows.append((arm, beside, f"{arm}, to the reference arm"))
    return rows


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
