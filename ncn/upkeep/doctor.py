"""`python -m ncn doctor`: what to look at when something does not work, and what to do about it.

It has to run where packages are missing, so it imports them only while it checks them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ncn.common.errors import InputError
from ncn.common.paths import RAW, REQUIREMENTS, TOKENS, model_directory, run_name
from ncn.sources.kept import refuse_foreign
from ncn.studies.tools import git, head, last_line

PYTHONS = ((3, 11), (3, 13))
SCRATCH = Path(".scratch")
DVC_YAML, DVC_LOCK = Path("dvc.yaml"), Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
FREE_BYTES = 2e9  # for the small experiment; text from the hub needs HUB_COPIES of itself
MEMORY, MEMORY_BYTES = Path("/proc/meminfo"), 1e9  # of which torch alone takes a third
HUB_COPIES = 4  # as fetched, as tokens, each once more in DVC's cache
REMOTE_SECONDS = 60  # on a busy machine, loading DVC alone takes more than 15
# Prints `there`, `closed` (a folder that cannot be written everywhere) or `absent`; what it raises
# ends in a line on stderr.
REACH = """
from glob import escape, glob
from os import W_OK, access
from dvc.repo import Repo
remote = Repo(".").cloud.get_remote()
local = remote.fs.protocol == "local"
folders = [remote.path, *glob(escape(remote.path) + "/files/md5/*")] if local else []
there = "there" if all(access(folder, W_OK) for folder in folders) else "closed"
print(there if remote.fs.exists(remote.path) else "absent")
"""


class Finding(NamedTuple):
    """One line: `ok`, `note` (nothing wrong, worth knowing) or `problem`, with what to do."""

    mark: Literal["ok", "note", "problem"]
    words: str


def ok(words: str) -> Finding:
    """Nothing to do."""
    return Finding("ok", words)


def note(words: str) -> Finding:
    """Nothing is wrong, but a reader may have expected something else."""
    return Finding("note", words)


def problem(words: str) -> Finding:
    """Something has to be done."""
    return Finding("problem", words)


def python() -> Finding:
    """Is this a Python that the pinned packages are for?"""
    version = sys.version.split()[0]
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return problem(f"{version}; 3.11 to 3.13 are needed: make setup PYTHON=python3.12")
    return ok(f"{version}, {sys.executable}")


def packages() -> Finding:
    """Is what requirements.lock pins installed?"""
    try:
        from packaging.version import Version

        from ncn.upkeep.lock import locked
    except ImportError:
        return problem("packaging is not installed: make setup")
    try:
        pinned = locked(REQUIREMENTS)
    except InputError as error:
        return problem(str(error))
    wanted = [each for each in pinned if each.marker is None or each.marker.evaluate()]
    wrong = []
    for each in wanted:
        try:
            found = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{each.name} is not installed")
            continue
        if not each.specifier.contains(Version(found), prereleases=True):
            wrong.append(f"{each.name} is {found}, not {each.specifier}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return problem(f"{'; '.join(wrong[:3])}{more}: make setup")
    return ok(f"the {len(wanted)} of {REQUIREMENTS}")


def torch_build() -> Finding:
    """Which torch is this, and how many threads does it use?"""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it links is missing
        return problem(f"cannot be imported ({error}): make setup")
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    words = f"{torch.__version__} ({build} build), {threads} threads on {cores} cores"
    limit = os.environ.get("OMP_NUM_THREADS")
    return ok(words + (f", as OMP_NUM_THREADS={limit} asks" if limit else ""))


def gpu() -> Finding:
    """Is there a GPU, and can torch use it?"""
    present = Path("/dev/nvidiactl").exists() or bool(shutil.which("nvidia-smi"))
    try:
        import torch
    except (ImportError, OSError):
        return problem("torch cannot be imported: see above") if present else ok("none")
    if torch.cuda.is_available():
        _free, total = torch.cuda.mem_get_info()
        return ok(f"{torch.cuda.get_device_name()}, {total / 2**30:.0f} GiB")
    if not present:
        return ok("none: everything runs on the CPU")
    if torch.version.cuda is None:
        return problem("there is one, but torch is a CPU build: install a CUDA build of torch")
    return problem("there is one, but torch cannot use it: check the driver with nvidia-smi")


def compiler() -> Finding:
    """Is there a C compiler, which torch.compile and Triton call?"""
    if found := shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc"):
        return ok(found)
    return note("none: train.compile and a GPU's kernels need one (apt install gcc)")


def commands() -> Finding:
    """Are git and make on PATH, and dvc and python those of this environment?"""
    if missing := [name for name in ("git", "make", "dvc", "python") if not shutil.which(name)]:
        return problem(f"{', '.join(missing)} not on PATH: source .venv/bin/activate, or install")
    here = Path(sys.executable).parent
    for name in ("dvc", "python"):  # DVC starts the stages with the python on PATH
        found = Path(shutil.which(name) or "")
        if found.parent.resolve() != here.resolve():
            return problem(
                f"{name} is {found}, of another environment than {here}: source .venv/bin/activate"
            )
    return ok(f"git, make; dvc {metadata.version('dvc')} and python of this environment")


def folder() -> Finding:
    """Is this the root of the project, with DVC set up?"""
    for name in ("params.yaml", "dvc.yaml", ".dvc/config"):
        if not Path(name).is_file():
            return problem(f"no {name} here: go to the project's folder, or git checkout {name}")
    try:
        head()
    except InputError as error:
        if without_git():
            return note(f"{error}; until then dvc repro runs, as core.no_scm says, and no dvc exp")
        return problem(f"{error}; or, for dvc repro alone: dvc config --local core.no_scm true")
    return ok(str(Path.cwd()))


def identity() -> Finding:
    """Does git know who commits, as `dvc exp run` does of what is not committed yet?"""
    for key in ("user.name", "user.email"):
        try:
            known = git("config", key).strip()
        except InputError:  # not set; that there is no git, `commands` says
            known = ""
        if not known and not os.environ.get(key.upper().replace("USER.", "GIT_COMMITTER_")):
            return note(f"no {key}, which git commit and dvc exp run need: git config {key} YOURS")
    return ok("git has user.name and user.email")


def without_git() -> bool:
    """Was DVC told to do without git?"""
    asked = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "core.no_scm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip().lower() == "true"


def settings() -> Finding:
    """Would the pipeline take params.yaml?"""
    try:
        from ncn.settings import load_params

        params = load_params()
    except ImportError as error:
        return problem(f"cannot be read ({error}): make setup")
    except OSError as error:
        return problem(f"cannot be read ({error.strerror}): git checkout params.yaml")
    except InputError as error:
        return problem(f"{error}: fix it, or git checkout params.yaml")
    return ok(f"{len(params.arms)} arms, {len(params.seeds)} seeds, source {params.data.source}")


def machine() -> Finding:
    """Are processors and memory free?"""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    words = f"{cores} cores, load {load:.1f}"
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB", MEMORY.read_text(), re.M)
    except OSError:  # no Linux
        found = None
    if found:
        free = int(found[1]) * 1024
        words += f", {free / 1e9:.1f} GB of memory free"
        if free < MEMORY_BYTES:
            return problem(f"{words}, {MEMORY_BYTES / 1e9:.0f} GB are needed: end what takes it")
    return note(f"{words}: busy, so runs take longer") if load > cores else ok(words)


def raw() -> Finding:
    """Is there something in data/raw that the pipeline did not fetch?"""
    try:
        refuse_foreign(RAW)
    except InputError as error:
        return problem(str(error))
    return ok("nothing but what the pipeline fetched")


def disk() -> Finding:
    """Is there room for what the experiment writes?"""
    needed = FREE_BYTES
    try:
        from ncn.settings import load_params

        data = load_params().data
        if data.source == "tinystories-v2":
            needed += HUB_COPIES * sum(file.bytes for file in data.hub.files)
    except (ImportError, OSError, InputError):
        pass  # said by `settings`
    free = shutil.disk_usage(".").free
    words = f"{free / 1e9:.1f} GB free"
    if free < needed:
        return problem(f"{words}, about {needed / 1e9:.0f} GB are needed: free some")
    return ok(words)


def scratch() -> Finding:
    """Can training save its state?"""
    try:
        with tempfile.TemporaryFile(dir=SCRATCH if SCRATCH.exists() else "."):
            pass
    except OSError as error:
        return problem(f"cannot be written ({error.strerror}): change its owner or rights")
    if not SCRATCH.exists():
        return ok("can be written; no training has begun here")
    size = sum(file.stat().st_size for file in SCRATCH.rglob("*") if file.is_file())
    return ok(f"can be written; states take {size / 1e6:.0f} MB")


def outputs() -> Finding:
    """Is what the pipeline makes below data/ there?"""
    expected = [RAW, TOKENS]
    try:
        from ncn.settings import load_params

        params = load_params()
        runs = [run_name(arm, seed) for arm in params.arms for seed in params.seeds]
        expected += [model_directory(run) for run in runs]
    except (ImportError, OSError, InputError):
        pass  # said by `settings`
    missing = [str(place) for place in expected if not place.is_dir()]
    if len(missing) == len(expected):
        return note("nothing is made yet: make repro, or dvc pull")
    if missing:
        return problem(f"{', '.join(missing)} missing: dvc repro, or dvc checkout")
    return ok(f"data/raw, data/tokens and {len(expected) - 2} models")


def recorded() -> Finding:
    """Can the pipeline, and what DVC recorded of it, be read?"""
    if not DVC_LOCK.exists():
        return note(f"no {DVC_LOCK}: nothing has run here yet")
    stages = 0
    for file in (DVC_YAML, DVC_LOCK):
        fix = f"git checkout {file}, then dvc repro: what was made comes from DVC's cache"
        try:
            from ncn.settings import read_yaml

            stages = len(read_yaml(file).get("stages") or {})
        except ImportError as error:
            return problem(f"cannot be read ({error}): make setup")
        except OSError as error:
            return problem(f"{file} cannot be read ({error.strerror}): {fix}")
        except InputError as error:
            return problem(f"{error}; half-written, or in conflict: {fix}")
    return ok(f"{stages} stages recorded")


def lock() -> Finding:
    """Did a DVC that was killed leave its lock half-written?"""
    try:
        entries = json.loads(RWLOCK.read_bytes())
        read, write = entries.pop("read", {}), entries.pop("write", {})
        if entries or not isinstance(read, dict) or not isinstance(write, dict):
            raise ValueError("of another form than DVC's")
    except FileNotFoundError:
        return ok("none")
    # empty, cut off, bytes of something else, nested without end
    except (AttributeError, TypeError, ValueError, RecursionError):
        return problem(f"{RWLOCK} is half-written by a killed dvc: rm {RWLOCK}")
    running = sorted({pid for pid in _pids([read, write]) if Path(f"/proc/{pid}").exists()})
    if running:
        return note(f"dvc runs now: process {', '.join(map(str, running))}")
    return ok("none that a running dvc holds")


def _pids(entries: object) -> Iterator[int]:
    """The numbers of the processes that a lock names."""
    if isinstance(entries, dict):
        if isinstance(pid := entries.get("pid"), int):
            yield pid
        entries = list(entries.values())
    if isinstance(entries, list):
        for entry in entries:
            yield from _pids(entry)


def remote() -> Finding:
    """Can models and data be shared?"""
    dvc = Path(sys.executable).with_name("dvc")
    if not dvc.exists():
        return problem("dvc is not installed: make setup")
    listed = subprocess.run(
        [dvc, "remote", "list"], env=os.environ | {"COLUMNS": "10000"},  # or it wraps a long place
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        return problem(f".dvc/config: {last_line(listed.stderr)}: git checkout .dvc/config")
    if not listed.stdout.strip():
        return note("none: needed only to share, dvc remote add -d NAME PLACE")
    schemes = [urlsplit(line.split(maxsplit=1)[1]).scheme for line in listed.stdout.splitlines()]
    if lacking := lacking_packages(schemes):
        needs = ", ".join(f"{scheme}:// needs {package}" for scheme, package in lacking.items())
        extras = ",".join(sorted({name.removeprefix("dvc-") for name in lacking.values()}))
        return problem(f"{needs}: pip install -c {REQUIREMENTS} 'dvc[{extras}]'")
    default = [line for line in listed.stdout.splitlines() if line.endswith("(default)")]
    if not default:
        return problem("no default among the remotes: dvc remote default NAME")
    place = " ".join(default[0].removesuffix("(default)").split())
    try:
        asked = subprocess.run(
            [sys.executable, "-c", REACH],
            capture_output=True, text=True, timeout=REMOTE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return problem(f"{place} does not answer within {REMOTE_SECONDS} s: check the network")
    if asked.returncode:
        return problem(f"{place} cannot be reached: {last_line(asked.stderr)}")
    if asked.stdout.strip().endswith("absent"):
        return problem(f"{place} does not exist: check the path; a first dvc push makes it")
    if asked.stdout.strip().endswith("closed"):
        return note(
            f"{place} can be read, but dvc push may not write: docs/sharing.md, or its owner"
        )
    return ok(place)


def lacking_packages(schemes: Iterable[str]) -> dict[str, str]:
    """The package of DVC that each scheme of a URL needs, where it is not installed."""
    from dvc.fs import known_implementations

    lacking = {}
    for scheme in schemes:
        module = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
        if module and find_spec(module) is None:
            lacking[scheme] = module.replace("_", "-")  # as DVC names its own: dvc_s3 is of dvc-s3
    return lacking


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": python,
    "packages": packages,
    "torch": torch_build,
    "GPU": gpu,
    "compiler": compiler,
    "commands": commands,
    "folder": folder,
    "identity": identity,
    "params.yaml": settings,
    "machine": machine,
    "disk": disk,
    "data/raw": raw,
    ".scratch": scratch,
    "outputs": outputs,
    "DVC files": recorded,
    "DVC lock": lock,
    "DVC remote": remote,
}


BEFORE_A_RUN = ("folder", "params.yaml", "data/raw")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="only what a run could lose",
    )
    add(
        "--times",
        action="store_true",
        help="also what training would take here",
    )


def run(arguments: argparse.Namespace) -> None:
    """Check what a run needs, a line each; exit status 1 if there is a problem."""
    problems = 0
    for name in BEFORE_A_RUN if arguments.quick else CHECKS:
        finding = CHECKS[name]()
        problems += finding.mark == "problem"
        if finding.mark == "problem" or not arguments.quick:
            print(f"{finding.mark:8} {name:12} {finding.words}", flush=True)
    if problems:
        sys.exit(f"{problems} problem{'s' if problems > 1 else ''}: each line says what to do")
    if arguments.times:
        from ncn.monitoring.cost import experiment_cost
        from ncn.settings import load_params

        print(experiment_cost(load_params()))
    if not arguments.quick:
        print("no problem found")
