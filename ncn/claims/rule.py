"""What a rule is: it reads metrics/ and makes a finding of a claim. The rules are beside it.

Missing inputs are no case of a rule: `look` raises for what is absent or not finite, and the
finding is then "undecided at this scale", with its name.

Runs of several seeds are pooled, by `over_seeds` and `most_of`: what has to hold in every run would
be the harder to meet the more of them there are.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import (
    ADAPTATION,
    BENCHMARK,
    COMPARISON,
    CONVERGENCE,
    SAMPLES,
    SCAN_TESTS,
    SUMMARY,
    evaluation_metrics,
    run_name,
)
from ncn.published.run_1 import differences_to_published
from ncn.settings import Params
from ncn.statistics.interval import LEVEL, Interval
from ncn.statistics.sample import student

Judgement = Literal[
    "supported",
    "real but negligible",
    "not supported",
    "undecided at this scale",
    "not testable here",
]
YES: Judgement = "supported"
NEGLIGIBLE: Judgement = "real but negligible"
NO: Judgement = "not supported"
UNDECIDED: Judgement = "undecided at this scale"
UNTESTABLE: Judgement = "not testable here"

# What makes the evidence anew.
EVALUATE, COMPARE, GENERATE = "dvc repro evaluate", "dvc repro compare", "dvc repro generate"
REPORT, ADAPT = "dvc repro report", "dvc repro adaptation"
CURVES, SCAN, BENCH = "dvc repro convergence", "dvc repro brain_scan", "make bench"


class MissingError(Exception):
    """An input that a rule needs is absent or not a finite number; the text names it."""


class ElsewhereError(Exception):
    """The claim is about another experiment than this one; the text says which."""


class Finding(NamedTuple):
    """What a rule makes of the metrics."""

    verdict: Judgement
    evidence: str
    figure: float | None = None
    interval: list[float] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Metrics:
    """Everything the rules read; an absent file is an empty mapping."""

    params: Params
    summary: Mapping[str, Any]
    comparison: Mapping[str, Any]
    convergence: Mapping[str, Any]
    scans: Mapping[str, Any]
    evaluations: Mapping[str, Any]  # by run
    benchmark: Mapping[str, Any]
    samples: Mapping[str, Any]
    adaptation: Mapping[str, Any]

    def runs(self, arm: str) -> list[str]:
        """The runs of an arm, one a seed."""
        return [run_name(arm, seed) for seed in self.params.seeds]

    def scan(self, run: str, test: str) -> Mapping[str, Any]:
        """One test of the brain scan of a run."""
        found: Mapping[str, Any] = look(self.scans, SCAN_TESTS, run, test)
        return found

    def probe(self, run: str, name: str) -> Any:
        """One measurement on the trained model of a run."""
        return look(self.evaluations.get(run, {}), evaluation_metrics(run), "probes", name)


def look(content: Any, where: Path | str, *keys: str) -> Any:
    """The value below `keys`; raises MissingError where there is none, or it is not finite."""
    for place, key in enumerate(keys):
        if not isinstance(content, Mapping) or content.get(key) is None:
            raise MissingError(f"{where} has no {'.'.join(keys[: place + 1])}")
        content = content[key]
    if isinstance(content, float) and not math.isfinite(content):
        raise MissingError(f"{where}: {'.'.join(keys)} is {content}")
    if isinstance(content, list) and any(
        each is None or (isinstance(each, float) and not math.isfinite(each)) for each in content
    ):
        raise MissingError(f"{where}: {'.'.join(keys)} holds a number that is not finite")
    return content


def read_metrics(params: Params) -> Metrics:
    """Read metrics/ as far as it is there."""

    def read(path: Path) -> dict[str, Any]:
        try:
            content = read_json(path)
        except InputError:
            return {}
        return content if isinstance(content, dict) else {}

    runs = [run_name(arm, seed) for arm in params.arms for seed in params.seeds]
    return Metrics(
        params=params,
        summary=read(SUMMARY),
        comparison=read(COMPARISON),
        convergence=read(CONVERGENCE),
        scans=read(SCAN_TESTS),
        evaluations={run: read(evaluation_metrics(run)) for run in runs},
        benchmark=read(BENCHMARK),
        samples=read(SAMPLES),
        adaptation=read(ADAPTATION),
    )


@dataclass(frozen=True)
class Claim:
    """A claim of the preprint and the rule that judges it.

    name: in metrics/claims.json. text: in the preprint's sense; section: of it.
    command: makes the evidence anew.
    rule: of (metrics, arm), or of (metrics) for a claim about no arm of ours; its docstring is the
        rule that metrics/claims.json quotes.
    needs: signals that an arm's control network must set for the claim to be about it; None for a
        claim about no arm with a control network.
    """

    name: str
    text: str
    section: str
    command: str
    rule: Callable[..., Finding]
    needs: tuple[str, ...] | None

    @property
    def rule_in_words(self) -> str:
        """How the verdict follows from the figures: the rule's docstring.

        Read from its source, since `python -OO` drops docstrings.
        """
        source = textwrap.dedent(inspect.getsource(getattr(self.rule, "func", self.rule)))
        definition = ast.parse(source).body[0]
        assert isinstance(definition, ast.FunctionDef)
        return " ".join((ast.get_docstring(definition) or "").split())


def claim(
    name: str, text: str, section: str, command: str, needs: tuple[str, ...] | None = ()
) -> Callable[[Callable[..., Finding]], Claim]:
    """Make a rule and what it judges a claim: see `Claim`."""
    return lambda rule: Claim(name, text, section, command, rule, needs)


def only_as_published(params: Params, arm: str) -> None:
    """Raise ElsewhereError where an arm is of another experiment than the published one."""
    if differences := differences_to_published(params, arm):
        shown = "; ".join(differences[:3])
        more = f" and {len(differences) - 3} more settings" if len(differences) > 3 else ""
        raise ElsewhereError(f"this is another experiment: {shown}{more}")


def over_seeds(values: Sequence[float], own: Sequence[float] | None = None) -> Interval:
    """The mean over runs, one a seed, with its 95 % interval (Student's t).

    Args:
        values: one a run.
        own: the interval [value, low, high] of the only run within itself; None: it has none, and
            the interval is the value.
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Interval(*own) if own is not None else Interval(mean, mean, mean)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    quantile = student(len(values) - 1)
    half = quantile * math.sqrt(variance / len(values))
    return Interval(mean, mean - half, mean + half)


def most_of(p_values: Sequence[float]) -> float:
    """The p of K runs together: K / k times the k-th smallest, k the least majority of them.

    Valid however the runs depend on each other (they share rows and null distributions); a p below
    a level means that most runs are. Rüger, Metrika 25, 1978.
    """
    k = len(p_values) // 2 + 1
    return min(1.0, len(p_values) / k * sorted(p_values)[k - 1])


def p_in_words(p: float, least: float) -> str:
    """`p = 0.03`; where no smaller one was possible, that."""
    floor = ", the least possible" if p <= least * (1 + 1e-9) else ""
    return f"p = {p:.2g}{floor}"


def failed(least: float) -> Judgement:
    """The verdict on a test that did not reach LEVEL: undecided where none could have."""
    return NO if least < LEVEL else UNDECIDED


def counted(things: Any, name: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
