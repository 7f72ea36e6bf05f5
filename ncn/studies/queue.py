"""The sizes of a study through DVC's queue, and how far they are.

A worker of the queue runs one size at a time, in a folder of its own below .dvc/tmp/exps, at the
commit that was current when the size was queued. Its models go to DVC's cache and its states to
.scratch, so whatever ends it, the same command goes on from there.
"""

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ncn.common.errors import InputError
from ncn.common.files import write_text
from ncn.common.progress import say
from ncn.settings import read_yaml
from ncn.studies.plan import WHOLE, Study, check_committed
from ncn.studies.tools import dvc, experiment_commit, git, start_workers

PARAMS = Path("params.yaml")
WORKSPACES = Path(".dvc/tmp/exps")
LOOK_SECONDS = 60.0  # a look takes DVC some seconds of a core
SPEAK_SECONDS = 300.0
GAVE_UP = "error: "  # how `run_command` ends a stage
TASK = re.compile(r"[0-9a-f]{7}\s+([A-Za-z]\S*)\s.*\b(Queued|Running|Success|Failed)$")


class Size(NamedTuple):
    """A size on its way: `runs` of `wanted` are trained and scored."""

    size: str
    state: str  # as DVC calls it: Queued, Running, Success, Failed; or Absent
    runs: int
    wanted: int

    def __str__(self) -> str:
        return f"{self.size}: {self.state.lower()}, {self.runs} of {self.wanted} runs"


def run_sizes(study: Study, sizes: Sequence[str], workers: int) -> None:
    """Queue what is not there yet, start the workers, and watch until all sizes are done.

    Raises:
        InputError: the plan or the code is not committed, or a size fails.
    """
    waiting = [each.size for each in states(study, sizes) if each.state in ("Absent", "Failed")]
    if waiting:
        check_committed(study)
    for size in waiting:
        enqueue(study, size)
    start_workers(workers)
    say(f"{study.name}: ^C ends this view, not the work; `dvc queue stop --kill` ends the work")
    watch(study, sizes)


def enqueue(study: Study, size: str) -> None:
    """Put a size into the queue; params.yaml is as before afterwards."""
    name = study.experiment(size)
    for failed in (task for task, state in tasks() if task == name and state == "Failed"):
        dvc("queue", "remove", failed)
    write_text(PARAMS, study.params(size))
    try:
        dvc("exp", "run", "--queue", "--name", name)
    finally:
        git("checkout", "--quiet", "--", str(PARAMS))


def watch(study: Study, sizes: Sequence[str]) -> None:
    """Say how far the sizes are, now and then and where something changed, until all are done.

    Raises:
        InputError: a size failed; the last lines of its log.
    """
    began, spoke, before = time.monotonic(), -SPEAK_SECONDS, [""]
    start = sum(each.runs for each in states(study, sizes))
    while True:
        found = states(study, sizes)
        words = [f"{each.size} {each.state}" for each in found]
        if words != before or time.monotonic() - spoke >= SPEAK_SECONDS:
            done, wanted = sum(each.runs for each in found), sum(each.wanted for each in found)
            pace = (time.monotonic() - began) / (done - start) if done > start else None
            left = f", about {pace * (wanted - done) / 60:,.0f} min left" if pace else ""
            say(f"{study.name}: {'; '.join(map(str, found))}{left}")
            before, spoke = words, time.monotonic()
        if failed := [each.size for each in found if each.state == "Failed"]:
            log = dvc("queue", "logs", study.experiment(failed[0]))
            raise InputError(f"{study.name}, size {failed[0]} failed: {why(log)}")
        if all(each.state == "Success" for each in found):
            return
        time.sleep(LOOK_SECONDS)


def why(log: str) -> str:
    """What the log of a size that failed says of it: the last line in which a stage gave up, which
    DVC's own lines follow; the last ones where no stage did."""
    lines = [line for line in log.splitlines() if line.strip()]
    said = [line.removeprefix(GAVE_UP) for line in lines if line.startswith(GAVE_UP)]
    return said[-1] if said else " | ".join(lines[-3:])


def states(study: Study, sizes: Sequence[str]) -> list[Size]:
    """How far each size is."""
    known = dict(tasks())
    found = []
    for size in sizes:
        name = study.experiment(size)
        wanted = len(study.arms(size)) * len(seeds(study))
        state = "Success" if experiment_commit(name) else known.get(name, "Absent")
        runs = wanted if state == "Success" else scored(study, size) if state == "Running" else 0
        found.append(Size(size, state, runs, wanted))
    return found


def tasks() -> Iterator[tuple[str, str]]:
    """The name and the state of each task of the queue, the newest last."""
    for line in dvc("queue", "status").splitlines():
        if match := TASK.match(line):
            yield match[1], match[2]


def seeds(study: Study) -> list[int]:
    """Of every arm."""
    found: list[int] = study.profile.get("seeds") or read_yaml(PARAMS)["seeds"]
    return found


def scored(study: Study, size: str) -> int:
    """The runs that are scored in the folder in which a worker runs the size."""
    for workspace in WORKSPACES.glob("*/params.yaml"):
        content = read_yaml(workspace)
        mine = (content.get("at_size") or WHOLE) == size
        if mine and set(content["arms"]) == set(study.arms(size)):
            return len(list((workspace.parent / "data" / "scores").glob("[!.]*")))
    return 0
