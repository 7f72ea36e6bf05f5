"""The experiments of `dvc exp run` at a glance, as git keeps them: no data is needed.

python -m ncn experiments [--arm ARM]

DVC keeps an experiment as a commit at refs/exps/BASE/NAME, where BASE is the commit it began from.
"""

import argparse
import json
import re
from typing import Any, NamedTuple

from ncn.commands.summary import PARAMS, committed_params, committed_summary, difference
from ncn.common.errors import InputError
from ncn.common.files import as_written
from ncn.common.nested import changed_keys, leaves
from ncn.common.paths import SUMMARY
from ncn.studies.tools import git, head

REFERENCE = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")
SHOWN = 3  # changed settings of an experiment


class Row(NamedTuple):
    """An experiment: its name, the commit it began from, what it changed, what it found."""

    name: str
    base: str
    changed: str
    found: str


def experiments(arm: str | None = None) -> list[Row]:
    """A row for the last commit, then one for each experiment, the newest first.

    Args:
        arm: whose difference is shown; None: that of `compare.primary`, else of each arm.

    Raises:
        InputError: not in a git repository, no experiment has such an arm, or a file of one is not
            as a stage writes it.
    """
    commit = head()
    listed = git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/exps")
    rows = [Row("(committed)", commit[:7], "", found(commit, arm))]
    for match in map(REFERENCE.fullmatch, listed.splitlines()):
        if match is None:  # DVC's own, of a queue for one
            continue
        base, name = match[1] + match[2], match[3]
        changed = changes(committed_params(match[0]) or {}, committed_params(base) or {})
        rows.append(Row(name, base[:7], changed, found(match[0], arm)))
    if arm is not None and not any(row.found for row in rows):
        raise InputError(f"--arm {arm}: nothing has a difference of this arm to the baseline")
    return rows


def changes(params: dict[str, Any], before: dict[str, Any]) -> str:
    """The settings that an experiment changed, as `key=value`."""
    values = dict(leaves(params))
    keys = changed_keys(params, before)
    shown = [f"{key}={json.dumps(values.get(key), default=str)}" for key in keys[:SHOWN]]
    more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return " ".join(shown + more) or "no setting"


def found(revision: str, arm: str | None) -> str:
    """The difference to the baseline with its 95 % interval, of one arm or of each."""
    params, summary = committed_params(revision) or {}, committed_summary(revision) or {}
    files = (f"{path} of {revision}" for path in (PARAMS, SUMMARY))
    with as_written(*files, fix="commit what `dvc repro` writes"):
        primary = params.get("compare", {}).get("primary")
        wanted = arm or (primary if primary in summary else None)
        return "; ".join(
            f"{name} {words}"
            for name, entry in summary.items()
            if wanted in (None, name) and (words := difference(entry))
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--arm", help="whose difference is shown; without: the primary one's")


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each experiment: what it changed, and the difference that it found."""
    header = Row("experiment", "from", "changed", "perplexity difference to the baseline [95 %]")
    rows = [header, *experiments(arguments.arm)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        print("  ".join([*cells, row.found]).rstrip())
