"""git and dvc as a study calls them."""

import os
import subprocess
import sys
from pathlib import Path

from ncn.common.errors import InputError

# DVC starts its stages as `python -m ...`: that has to be this Python.
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def git(*arguments: str, folder: Path | None = None) -> str:
    """What git prints.

    Raises:
        InputError: it fails; its last line.
    """
    return _run(["git", *arguments], folder)


def dvc(*arguments: str, folder: Path | None = None) -> str:
    """What dvc prints; raises as `git` does."""
    return _run([sys.executable, "-m", "dvc", *arguments], folder)


def experiment_commit(name: str) -> str | None:
    """The newest commit of the experiment of that name, from whatever commit it began."""
    listed = git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/exps")
    refs = [ref for ref in listed.split() if ref.endswith(f"/{name}")]
    return git("rev-parse", refs[0]).strip() if refs else None


def start_workers(number: int) -> None:
    """Have DVC start workers of its queue: they live on, so nothing of theirs is waited for."""
    command = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(number)]
    nothing = subprocess.DEVNULL
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT, stdin=nothing, stdout=nothing, stderr=nothing,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise InputError(f"dvc queue start --jobs {number} failed: try it by hand")


def _run(command: list[str], folder: Path | None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | ENVIRONMENT, capture_output=True, text=True,
        encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        words = " ".join(command).replace(f"{sys.executable} -m ", "")
        raise InputError(f"{words}: {said[-1] if said else f'exit status {done.returncode}'}")
    return done.stdout
