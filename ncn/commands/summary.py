"""`python -m ncn summary`: the table of arms, the times, and how this run compares to the
committed one. `make repro` ends with it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncn.analysis.verdict import reads_the_future
from ncn.common.errors import InputError
from ncn.common.files import as_written, parse_json, read_json
from ncn.common.nested import changed_keys, differences
from ncn.common.paths import COMPARISON, REPORT, RESULTS, SUMMARY
from ncn.common.timing import read_timing
from ncn.settings.yaml12 import parse_sections, read_yaml
from ncn.studies.tools import git, head

Summary = dict[str, dict[str, float]]


def difference(entry: dict[str, float]) -> str | None:
    """The perplexity difference with its interval; None for the baseline itself."""
    if "delta_ppl" not in entry:
        return None
    interval = f"{entry['delta_ppl_low']:+.4f}, {entry['delta_ppl_high']:+.4f}"
    return f"{entry['delta_ppl']:+.4f} [{interval}]"


def sees_the_future(entry: dict[str, float]) -> str:
    """The future leak in words: of the form that was trained."""
    return f"yes: logits move by {entry['future_leak']:.2g}" if reads_the_future(entry) else "no"


def table(summary: Summary, arms: Mapping[str, Any]) -> str:
    """The arms side by side, as text, from metrics/summary.json and `arms` of compare.json.

    In the order of the latter, that of params.yaml.
    """
    header = ["arm", "loss", "perplexity", "difference [95 %]", "parameters"]
    header.append("sees the future as trained?")
    rows = [header]
    for arm, compared in arms.items():
        entry = summary[arm]
        rows.append(
            [
                arm,
                f"{entry['val_loss']:.4f}",
                f"{entry['val_ppl']:.4f}",
                difference(entry) or "-",
                f"{compared['parameters']:,}",
                sees_the_future(entry),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def in_words(summary: Summary, comparison: Mapping[str, Any]) -> list[str]:
    """The table, and how each arm compares."""
    with as_written(SUMMARY, COMPARISON):
        return [table(summary, comparison["arms"]), *map(str, comparison["in_words"].values())]


def times() -> str:
    """What the stages took when they last ran here."""
    lines = []
    for stage, noted in read_timing().items():
        speed = f", {noted['tokens'] / noted['seconds']:,.0f} tokens/s" if "tokens" in noted else ""
        lines.append(f"  {stage}: {noted['seconds']:.1f} s{speed}")
    return "\n".join(lines)


PARAMS = Path("params.yaml")
# README.md too: a test compares its result with that of the commit.
COMMIT = f"python -m ncn readme && git add README.md {' '.join(RESULTS)} && git commit -m 'A run'"


def committed(path: Path, revision: str = "HEAD") -> str | None:
    """The text of a file in a revision; None where there is none."""
    try:
        return git("show", f"{revision}:./{path}")
    except InputError:
        return None


def committed_params(revision: str = "HEAD") -> dict[str, Any] | None:
    """params.yaml of a revision; None where there is none; raises as `read_yaml` does."""
    text = committed(PARAMS, revision)
    return None if text is None else parse_sections(text, f"{PARAMS} of {revision}")


def committed_summary(revision: str = "HEAD") -> Any:
    """metrics/summary.json of a revision; None where there is none; raises as `read_json` does."""
    text = committed(SUMMARY, revision)
    return None if text is None else parse_json(text, f"{SUMMARY} of {revision}")


def changed_settings() -> list[str] | None:
    """The keys whose value is another than in the last commit; None where none is committed."""
    before = committed_params()
    if before is None:
        return None
    return changed_keys(read_yaml(PARAMS), before)


def what_next() -> list[str]:
    """Whether settings or only digits differ from the last commit, and what to commit."""
    if not git("status", "--porcelain", "--", *RESULTS).strip():
        return []
    keys = changed_settings()
    if keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        why = f"other settings than the committed ones: {', '.join(keys[:3])}{more}"
    elif keys is None:
        why = "a first run"
    else:
        why = "the settings are the committed ones: what differs is the code, or digits"
    return [f"{why}; before you experiment, commit this run:", f"  {COMMIT}"]


def beside_the_committed(summary: Summary) -> list[str]:
    """How this run compares with the committed one, and what to do next."""
    against = f"against the committed {SUMMARY}"
    try:
        head()
        before = committed_summary()
        if before is None:
            return [f"{against}: none is committed", *what_next()]
        with as_written(f"{SUMMARY} of HEAD", fix=f"commit another: {COMMIT}"):
            found = differences(summary, before, "committed")
        return [f"{against}: {found}", *what_next()]
    except InputError as problem:
        return [f"{against}: {problem}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Print what a person wants to see after `dvc repro`."""
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    print("\n".join(in_words(summary, comparison)))
    if taken := times():
        print("times, as the stages last ran here:", taken, sep="\n")
    print(f"report: {REPORT.resolve()}")
    print("\n".join(beside_the_committed(summary)))
