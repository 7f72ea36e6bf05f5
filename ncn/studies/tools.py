"""git and dvc, as studies and the commands behind them call them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ncn.common.errors import InputError
from ncn.common.files import as_written, read_json

# Of DVC's queue: REVISION/REVISION.run and .out, the log; the revision is what was queued.
TASKS = Path(".dvc/tmp/exps/run")
# A project that was downloaded as an archive has none.
NO_COMMIT = (
    "not in a git repository with a commit: go to the project's folder; if it was downloaded"
    " without its history, git init && git add -A && git commit -m 'As downloaded'"
)
# Of git and of dvc.
SAY_THAT = ("not a git repository", "Needed a single revision")
# DVC starts its stages as `python -m ...`: that has to be this Python.
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def head() -> str:
    """The commit that is checked out.

    Raises:
        InputError: git is not installed, or there is no repository with a commit.
    """
    return git("rev-parse", "--verify", "HEAD").strip()


def git(*arguments: str, folder: Path | None = None) -> str:
    """What git prints.

    Raises:
        InputError: it is not installed, there is no repository, or it fails; its last line.
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


def hours_of(experiment: str) -> float | None:
    """How long the experiment took in DVC's queue, in hours: of each try, finished or not, from
    when it was queued to the last line of its log, so a wait for another size counts. None where
    DVC keeps no log of it.
    """
    tries = []
    for note in TASKS.glob("*/*.run"):
        log = note.with_suffix(".out")
        with as_written(note, fix="delete it"):
            name = read_json(note).get("name")
        if name == experiment and log.exists():
            queued = int(git("show", "--no-patch", "--format=%ct", note.stem))
            tries.append(log.stat().st_mtime - queued)
    return round(sum(tries) / 3600, 2) if tries else None


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
    environment = os.environ | ENVIRONMENT | {"LC_ALL": "C.UTF-8"}  # for SAY_THAT
    if shutil.which(command[0]) is None:
        raise InputError(f"{command[0]} is not installed, or not on PATH")
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8",
        errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        if any(words in done.stderr for words in SAY_THAT):
            raise InputError(NO_COMMIT)
        words = " ".join(command).replace(f"{sys.executable} -m ", "")
        why = last_line(done.stderr or done.stdout, f"exit status {done.returncode}")
        raise InputError(f"{words}: {why}")
    return done.stdout


def last_line(said: str, otherwise: str = "no reason given") -> str:
    """The line that says what happened, of what a program said when it failed."""
    return (said.strip().splitlines() or [otherwise])[-1].removeprefix("ERROR: ")
