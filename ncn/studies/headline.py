"""What the studies found, for the README: made from what is frozen, and from nothing else."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncn.analysis.verdict import Side, verdict_of
from ncn.common.paths import ADAPTATION, COMPARISON, SCALING, STUDIES, SUMMARY, adapted_name
from ncn.settings import BASELINE
from ncn.settings.yaml12 import parse_yaml
from ncn.studies.plan import WHOLE

Read = Callable[[Path], str | None]  # the text of a file of the project; None where there is none

SIDES: dict[Side, str] = {
    "better": "lower",
    "worse": "higher",
    "open": "not distinguishable",
}

NOTHING = "No study has been run yet: `python -m ncn study list` shows what is planned.\n"


def headline(read: Read) -> str:
    """The endpoint that each study declared, in words and a line a size, and what is to be said of
    it by size.

    Every arm, and the words on each size, are in the study's own `result.md`.
    """
    studies = json.loads(read(SCALING) or "{}")
    if not studies:
        return NOTHING
    answers, rows, sentences, every = [], [], [], []
    for name, found in studies.items():
        sides = dict[str, dict[str, Side]]()
        for size in found["sizes"]:
            folder = STUDIES / name / size
            comparison, summary = (
                json.loads(read(folder / path) or "{}") for path in (COMPARISON, SUMMARY)
            )
            rows += _rows(name, size, found, comparison)
            for other, side in _sides(comparison, summary):
                sides.setdefault(other, {})[size] = side
        if first := comparison["primary"]:
            answers.append(f"`{name}`, loss of `{first}`: {_counted(sides)}.")
            answers += _forgotten(name, first, json.loads(read(folder / ADAPTATION) or "{}"))
        if len(found["sizes"]) > 1:
            others = tuple(f"{arm}:" for arm in found["arms"] if arm != first)
            told = [words for words in found["in_words"] if not words.startswith(others)]
            sentences += [f"`{name}`, by size: {words}" for words in told if first]
        planned = (parse_yaml(read(STUDIES / name / "profile.yaml") or "") or {}).get("sizes") or {}
        if waiting := [size for size in planned if size not in found["sizes"]]:
            sentences.append(f"`{name}`: not run yet: {', '.join(waiting)}.")
        every.append(f"[{name}]({STUDIES / name / 'result.md'})")
    return "\n".join(
        [
            *(f"- {answer}" for answer in answers),
            "",
            "| study | size | parameters | tokens | arm | loss − baseline's (nats a token) [95 %] |"
            " p, Holm |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "p: after Holm over the comparisons of its size; over sizes and studies it is not"
            " corrected.",
            "",
            *(f"- {sentence}" for sentence in sentences),
            "",
            f"Every arm, and what is said of each size: {', '.join(every)}.",
            "",
        ]
    )


def _sides(comparison: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[tuple[str, Side]]:
    """On which side of the baseline, and of the reference where there is one, the endpoint is."""
    first, reference = comparison["primary"], comparison.get("reference")
    others: list[str] = [BASELINE] if reference is None else [BASELINE, reference]
    for other in others:
        verdict = verdict_of(first, summary, comparison, to_reference=other == reference)
        if verdict is not None:
            yield other, "open" if verdict.n_seeds < 2 else verdict.side


def _counted(sides: Mapping[str, Mapping[str, Side]]) -> str:
    """Of each other arm, the sizes at which the endpoint is lower or higher."""
    words = []
    for other, by_size in sides.items():
        at = {side: [size for size, each in by_size.items() if each == side] for side in SIDES}
        told = [f"{SIDES[side]}{_listed(sizes)}" for side, sizes in at.items() if sizes]
        words.append(f"beside `{other}` {', '.join(told)}")
    return "; ".join(words)


def _listed(sizes: Sequence[str]) -> str:
    """Where: nothing to be said of a study of one size without a name."""
    *first, last = sizes
    if last == WHOLE:
        return ""
    return f" at {', '.join(first)} and {last}" if first else f" at {last}"


def _forgotten(name: str, arm: str, adaptation: Mapping[str, Any]) -> Iterator[str]:
    """Whether the arm forgets less than the baseline under a second training, where one was."""
    mine = adaptation.get("arms", {}).get(adapted_name(arm, "full"), {}).get("to_baseline")
    if mine is None or None in mine["forgotten"]:
        return
    value, low, high = mine["forgotten"]
    side = SIDES["better" if high < 0 else "worse" if low > 0 else "open"]
    yield (
        f"`{name}`, what `{arm}` forgets of its text under a second training, beside `{BASELINE}`:"
        f" {side} ({value:+.4f} nats a token, 95 % interval {low:+.4f} to {high:+.4f})."
    )


def _rows(
    name: str, size: str, found: Mapping[str, Any], comparison: Mapping[str, Any]
) -> list[str]:
    """A line for the declared endpoint of a size; for each arm but the baseline where none was."""
    primary = comparison["primary"]
    rows = []
    for arm in comparison["differences"]:
        if primary not in (None, arm):
            continue
        each = comparison["differences"][arm]
        [point] = [point for point in found["arms"][arm]["points"] if point["size"] == size]
        value, low, high = each["delta_loss"]
        cells = [
            f"`{name}`",
            size,
            f"{point['parameters']:,}",
            f"{point['tokens']:,}",
            f"`{arm}`",
            f"{value:+.4f} [{low:+.4f}, {high:+.4f}]",
            "–" if each["p_holm"] is None else f"{each['p_holm']:.2g}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows
