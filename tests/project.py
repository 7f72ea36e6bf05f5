"""A clone of the project, small, in which commands run as a user runs them."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncn.commands.profile import apply_profile
from tests.conftest import PARAMS, ROOT
from tests.forked_python import forked_python


def isolated(home: Path, forked: bool = True) -> dict[str, str]:
    """This Python first on PATH, or one that forks; nothing of DVC, git or the hub outside `home`.

    tests/forked_python.py says which tests need the real one.
    """
    places = [*([forked_python()] if forked else []), Path(sys.executable).parent]
    mine = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return mine | {
        "PATH": os.pathsep.join([*map(str, places), os.environ["PATH"]]),
        "HOME": str(home),
        "HF_HOME": str(home / "hub"),
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        # Tiny tensors: two threads would only wait for each other.
        "OMP_NUM_THREADS": "1",
    }


class Project:
    """A clone of the project that commands run in."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def run(self, *command: str, status: int = 0, **extra: str) -> str:
        """What a command prints; it has to end with `status`."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | extra, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        self.run("git", *identity, "commit", "-qm", message)

    def metrics(self, name: str) -> Any:
        return json.loads((self.folder / "metrics" / name).read_text())

    @property
    def lock(self) -> str:
        return (self.folder / "dvc.lock").read_text()


def fresh_clone(folder: Path, environment: dict[str, str]) -> Project:
    """The working tree's tracked and new files, committed, with tests/params.yaml made small."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        made = name == "dvc.lock" or name.startswith(("metrics/", "plots/"))
        made &= not name.startswith("metrics/benchmark")  # measured by `make bench`: an input
        if not made and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copy2(PARAMS, folder / "params.yaml")
    apply_profile("smoke", folder / "params.yaml", folder / "profiles")
    project = Project(folder, environment)
    project.run("git", "init", "-q")
    project.commit("the project, small")
    return project


def copied(project: Project, folder: Path, environment: dict[str, str]) -> Project:
    """A copy of all of it, DVC's cache and git's experiments too, to be changed at will."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder, environment)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker of pytest-xdist to ask for it fills; the others wait."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker's own is a folder in that of the session
    folder, whole = base / name, base / f"{name}.whole"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # gone with its process, so a killed one blocks nobody
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone after its first `dvc repro`, committed; all files share it, so only copies change."""

    def make(folder: Path) -> None:
        (folder / "home").mkdir()
        clone = fresh_clone(folder / "project", isolated(folder / "home"))
        clone.run("dvc", "repro")
        clone.commit("the first run")

    folder = made_once(tmp_path_factory, "finished", make)
    return Project(folder / "project", isolated(folder / "home"))


@pytest.fixture(scope="session")
def varied(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A copy of `finished` after one experiment, shared likewise, and what that printed."""

    def make(folder: Path) -> None:
        (folder / "home").mkdir()
        clone = copied(finished, folder / "project", isolated(folder / "home"))
        (folder / "printed").write_text(clone.run("dvc", "exp", "run", "-S", "ncn.hidden=64"))

    folder = made_once(tmp_path_factory, "varied", make)
    project = Project(folder / "project", isolated(folder / "home"))
    return project, (folder / "printed").read_text()
