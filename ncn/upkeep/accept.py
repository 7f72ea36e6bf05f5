"""Record edits that changed only words, so that nothing runs again for them.

python -m ncn accept [--dry-run]

DVC knows files by their bytes: a comment or another line break makes every model stale. Here the
version that dvc.lock recorded is found in git, and both are compared as Python reads them: without
comments, layout and docstrings. A stage whose every change is of that kind is recorded by
`dvc commit`; of any other it is said what changed.
"""

import argparse
import ast
import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ncn.common.errors import InputError
from ncn.common.files import md5_of_listing
from ncn.settings.yaml12 import read_yaml
from ncn.studies.tools import dvc, head

LOCK = Path("dvc.lock")
COMMITS = 100  # of a file or folder that are looked through for the recorded version
DOCSTRINGS_COUNT = ("ncn/claims",)  # a rule's docstring stands in metrics/claims.json

Files = dict[str, bytes]  # by their path from the project's root


def stale() -> dict[str, list[Any]]:
    """What `dvc status` says of each stage that would run again.

    Raises:
        InputError: DVC fails; in its words.
    """
    stages: dict[str, list[Any]] = json.loads(dvc("status", "--json"))
    return stages


def more_than_words(stage: str, changes: list[Any], recorded: Mapping[str, str]) -> str | None:
    """What changed for a stage beside words; None: nothing.

    Args:
        stage: its name.
        changes: of `dvc status`.
        recorded: the md5 that dvc.lock has of each of its dependencies.
    """
    for change in changes:
        if not isinstance(change, dict) or set(change) - {"changed deps"}:
            kinds = [change] if isinstance(change, str) else [*change]
            return ", ".join(kinds)
        for path, how in change["changed deps"].items():
            if how != "modified" or path not in recorded:
                return f"{path} is {how}"
            if other := difference(path, recorded[path]):
                return other
    return None


@cache
def difference(path: str, digest: str) -> str | None:
    """What differs, beside words, between a file or folder and what dvc.lock recorded of it."""
    before = version(path, digest)
    if before is None:
        return (
            f"{path}: what dvc.lock recorded is in none of its last {COMMITS} commits: commit each"
            " accepted edit before the next"
        )
    place = Path(path)
    there = [place] if place.is_file() else place.rglob("*")
    now = {str(f): f.read_bytes() for f in there if f.is_file() and "__pycache__" not in f.parts}
    for name in sorted(before.keys() | now.keys()):
        one, other = before.get(name), now.get(name)
        if one is None or other is None:
            return f"{name} is {'new' if one is None else 'gone'}"
        if one != other and not (
            name.endswith(".py") and meaning(name, one) == meaning(name, other)
        ):
            return name
    return None


def meaning(name: str, source: bytes) -> str:
    """A module as Python reads it; where docstrings say nothing to a stage, without them.

    Raises:
        InputError: it is no Python; names the line.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"{name}: line {error.lineno}: {error.msg}") from None
    if not name.startswith(DOCSTRINGS_COUNT):
        for node in ast.walk(tree):
            documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def version(path: str, digest: str) -> Files | None:
    """The files of `path` in the newest commit in which they have this md5 of DVC's.

    Of all branches, and of experiments: `dvc exp run` commits the code that nobody has committed.
    """
    for commit in git("log", "--all", f"-{COMMITS}", "--format=%H", "--", path).decode().split():
        files = {}
        for line in git("ls-tree", "-r", "-z", commit, "--", path).decode().split("\0"):
            if line:
                about, name = line.split("\t", 1)
                files[name] = git("cat-file", "blob", about.split()[2])
        if digest_of(path, files) == digest:
            return files
    return None


def digest_of(path: str, files: Files) -> str:
    """The md5 that DVC would record of a file or folder."""
    digests = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    if path in digests:
        return digests[path]
    return md5_of_listing({name.removeprefix(f"{path}/"): md5 for name, md5 in digests.items()})


def git(*command: str) -> bytes:
    """What git prints.

    Raises:
        InputError: it fails; in its words.
    """
    done = subprocess.run(["git", *command], capture_output=True, check=False)
    if done.returncode:
        raise InputError(f"git {command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--dry-run", action="store_true", help="say it, and record nothing")


def run(arguments: argparse.Namespace) -> None:
    """Record the stages for which only comments, layout and docstrings changed; name the others."""
    head()  # what was recorded is looked for in git
    locked = read_yaml(LOCK)["stages"]
    accepted = []
    for stage, changes in stale().items():
        deps = locked.get(stage, {}).get("deps", ())
        reason = more_than_words(stage, changes, {dep["path"]: dep["md5"] for dep in deps})
        if reason:
            print(f"{stage}: runs again: {reason}")
        else:
            accepted.append(stage)
            print(f"{stage}: only words changed")
    if not accepted:
        print("nothing is recorded")
    elif not arguments.dry_run:
        dvc("commit", "--quiet", "--force", *accepted)
        print(f"recorded in {LOCK}: {len(accepted)} stages; commit it together with your edit")
