"""What the studies found, for the README: made from what is frozen, and from nothing else."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ncn.common.paths import COMPARISON, SCALING, STUDIES
from ncn.settings.yaml12 import parse_yaml

Read = Callable[[Path], str | None]  # the text of a file of the project; None where there is none

NOTHING = "No study has been run yet: `python -m ncn study list` shows what is planned.\n"


def headline(read: Read) -> str:
    """The endpoint that each study declared, a line a size, and what is to be said of it by size.

    Every arm, and the words on each size, are in the study's own `result.md`.
    """
    studies = json.loads(read(SCALING) or "{}")
    if not studies:
        return NOTHING
    rows, sentences, every = [], [], []
    for name, found in studies.items():
        for size in found["sizes"]:
            comparison = json.loads(read(STUDIES / name / size / COMPARISON) or "{}")
            rows += _rows(name, size, found, comparison)
        if len(found["sizes"]) > 1:
            first = comparison["primary"]
            told = [words for words in found["in_words"] if words.startswith(f"{first}:")]
            sentences += [f"`{name}`, by size: {words}" for words in told]
        planned = (parse_yaml(read(STUDIES / name / "profile.yaml") or "") or {}).get("sizes") or {}
        if waiting := [size for size in planned if size not in found["sizes"]]:
            sentences.append(f"`{name}`: not run yet: {', '.join(waiting)}.")
        every.append(f"[{name}]({STUDIES / name / 'result.md'})")
    return "\n".join(
        [
            "| study | size | parameters | tokens | arm | loss − baseline's (nats a token) [95 %] |"
            " p, Holm |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            *(f"- {sentence}" for sentence in sentences),
            "",
            f"Every arm, and what is said of each size: {', '.join(every)}.",
            "",
        ]
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
