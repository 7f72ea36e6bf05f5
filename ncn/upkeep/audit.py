"""Look for known vulnerabilities of the locked packages, where a database of them can be reached.

python -m ncn audit

`make audit` fetches pip-audit into an environment of its own, whose packages then cannot disturb
the locked ones. Without it, or without an answer for every package, nothing is said to be safe.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from ncn.common.errors import InputError
from ncn.common.files import as_written
from ncn.common.paths import REQUIREMENTS
from ncn.studies.tools import last_line

PIP_AUDIT = Path(".venv/audit/bin/pip-audit")
SECONDS = 600


def report() -> dict[str, Any] | str:
    """What pip-audit found, or why there is no such answer."""
    command = [str(PIP_AUDIT), "--requirement", str(REQUIREMENTS), "--no-deps", "--disable-pip"]
    command += ["--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        return "pip-audit is not there; make audit fetches it where a package index is reached"
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except (ValueError, RecursionError):  # it ends with 1 for a vulnerability, or a dead network
        return last_line(done.stderr, "pip-audit said nothing")
    return found


def verdict(found: dict[str, Any]) -> str:
    """The answer in one line.

    Raises:
        InputError: a package has a known vulnerability, or this is no answer of pip-audit.
    """
    with as_written("pip-audit's answer", fix="run it by hand"):
        packages = found["dependencies"]
        holes = [
            f"{each['name']} {each['version']}: {hole['id']}"
            + (f" (fixed in {', '.join(hole['fix_versions'])})" if hole["fix_versions"] else "")
            for each in packages
            for hole in each.get("vulns", [])
        ]
        # An index without such a database says "not found", which it counts as nothing known.
        skipped = sum("skip_reason" in each for each in packages)
    if holes:
        raise InputError(f"known vulnerabilities: {'; '.join(holes)}: see make lock")
    if skipped:
        return f"not checked: the database has no answer for {skipped} of {len(packages)} packages"
    return f"no known vulnerabilities in {len(packages)} packages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""


def run(arguments: argparse.Namespace) -> None:
    """Say which locked packages have a known vulnerability, or `not checked` and why."""
    found = report()
    print(f"not checked: {found}" if isinstance(found, str) else verdict(found))
