"""Kill training again and again, and see whether it ends as if nothing had happened.

    python -m tests.kill_campaign --kills 40 --seed 0

Each kill is one of SIGINT, SIGTERM, SIGKILL to the trainer, to DVC or to the process group, at a
random moment, while a state is being written, or before DVC has recorded the result, under
`dvc repro`, `dvc exp run`, `dvc exp run --temp` or the queue. After it: no process is left, nothing
counts as success, the trainer's last line says how to go on. Then the same command is started
again, and killed again or left to finish: what it leaves (weights, log, metrics, dvc.lock) has to
equal an undisturbed run's to the last bit. About 15 minutes for 40 kills on one core.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.project import Project, fresh_clone, isolated

RUN = "ncn_causal-1"
OUTPUTS = (
    f"data/models/{RUN}/model.safetensors",
    f"data/models/{RUN}/config.json",
    f"data/models/{RUN}/log.tsv",
    f"data/models/{RUN}/training.json",
    "dvc.lock",
)
COMMANDS = {
    "repro": [["dvc", "repro", "train"]],
    "exp run": [["dvc", "exp", "run", "train"]],
    "exp run --temp": [["dvc", "exp", "run", "--temp", "train"]],
    "queue": [["dvc", "exp", "run", "--queue", "train"], ["dvc", "queue", "start"]],
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
VICTIMS = ("trainer", "dvc", "group")
# Some seconds of training, with states of some megabytes, so that a kill can fall into a save.
SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"d_model": 96, "n_layers": 3, "n_heads": 4, "d_ff": 384, "dropout": 0.1},
    "tokenizer": {"vocab_size": 1000},
    "train": {
        "epochs": 0.3,
        "log_every": 5,
        "validation": {"every": 30, "sequences": 8},
    },
    "saving": {"every_steps": 7},
}
BEGUN = "its states are saved in"  # what the trainer says before its first step
DEADLINE_SECONDS = 600.0  # for anything that should happen soon, on a machine at load 50
POLL_SECONDS = 0.002
LOOK_SECONDS = 0.05  # through all processes: as often as at a file, that would take a core
# DVC 3.67 writes .dvc/tmp/rwlock in place, so a kill in the middle leaves half of it, and every
# command fails until somebody deletes it. Counted and shown, since no trainer can fix it.
TORN_LOCK = "Unable to read RWLock-file"


def processes(folder: Path) -> dict[int, str]:
    """Every process that works below `folder`, with its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:  # not a zombie
                        found[int(entry.name)] = command
            except OSError:
                continue  # it ended while we looked
    return found


def trainer(folder: Path) -> int | None:
    """The process that trains, if one does."""
    return next((pid for pid, it in processes(folder).items() if "-m stages.train" in it), None)


def ancestor_dvc(pid: int) -> int:
    """The DVC that started a process; a shell may stand between them."""
    while "dvc" not in Path(f"/proc/{pid}/cmdline").read_text():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


class Attempt:
    """The command of a mode, started in a session of its own."""

    def __init__(self, project: Project, mode: str) -> None:
        self.project, self.mode = project, mode
        self._log = project.folder.parent / "output"
        *before, last = COMMANDS[mode]
        for command in before:
            project.run(*command)
        with open(self._log, "wb") as log:
            self._started = subprocess.Popen(
                last, cwd=project.folder, env=project.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.trainer = self.until(lambda: trainer(project.folder), LOOK_SECONDS)
        self.began = time.monotonic()

    def until(self, condition: Callable[[], Any], seconds: float = POLL_SECONDS) -> Any:
        """The first true value of `condition`; None if the command ends before, or hangs."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if value := condition():
                return value
            if not self.alive():
                return None
            time.sleep(seconds)
        return None

    def alive(self) -> bool:
        """Whether anything of it still runs, the trainer and the queue's worker included."""
        return self._started.poll() is None or bool(processes(self.project.folder))

    def ended(self) -> bool:
        """Wait for the end of all of it; False if something stays."""
        self.until(lambda: False)
        return not self.alive()

    @property
    def status(self) -> int:
        """What the command ended with; for the queue, whether the experiment has failed."""
        if self.mode == "queue":
            return 0 if experiments(self.project) else 1
        return self._started.wait()

    def output(self) -> str:
        """All that was printed; for the queue, by the experiment."""
        logs = list((self.project.folder / ".dvc/tmp/exps/run").glob("*/*.out"))
        if self.mode == "queue" and logs:
            return max(logs, key=lambda path: path.stat().st_mtime).read_text()
        return self._log.read_text()


def experiments(project: Project) -> list[str]:
    """The experiments that DVC has recorded."""
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [
        ref.split("/")[-1] for ref in refs if re.fullmatch(r"refs/exps/../[0-9a-f]{38}/.*", ref)
    ]


class Campaign:
    """A project, its undisturbed result, and what the kills have shown so far."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Make what training needs, committed; then the undisturbed run."""
        (folder / "home").mkdir(parents=True)
        self.project = fresh_clone(folder / "project", isolated(folder / "home", forked=False))
        self.random = random.Random(seed)
        self.rows: list[tuple[str, ...]] = []
        self.problems: list[str] = []
        self.compared = 0
        self.torn_locks = 0
        yaml = YAML()
        path = self.project.folder / "params.yaml"
        params = yaml.load(path)
        params["arms"] = {"ncn_causal": {"salience": "causal"}}
        for section, changes in SETTINGS.items():
            params[section].update(changes)
        yaml.dump(params, path)
        self.project.run("git", "config", "user.name", "test")  # dvc exp apply needs them
        self.project.run("git", "config", "user.email", "test@example.org")
        self.project.run("dvc", "repro", "tune")
        self.project.commit("before training")
        undisturbed = Attempt(self.project, "repro")
        undisturbed.ended()
        assert undisturbed.status == 0, undisturbed.output()
        assert BEGUN in undisturbed.output()  # or nothing that a killed one says would be judged
        self.seconds = time.monotonic() - undisturbed.began
        self.expected = self._outputs()
        self._reset()

    def run(self, mode: str, kills: Sequence[tuple[signal.Signals, str, str]]) -> None:
        """Kill one attempt after the other; now and then, and at last, let one finish."""
        waiting = list(kills)
        while waiting:
            if self._kill(mode, *waiting[0]):
                waiting.pop(0)
                if waiting and self.random.random() < 2 / 3:
                    continue  # the next kill strikes the same run
                compared = self.compared
                while self.compared == compared and not self.problems:
                    self._finish(Attempt(self.project, mode))
            if self.problems:
                return

    def _kill(self, mode: str, number: signal.Signals, victim: str, moment: str) -> bool:
        """Start and kill; False if the training ended before it came to that."""
        scratch = self.project.folder / ".scratch"
        attempt = Attempt(self.project, mode)
        pid = attempt.trainer
        if pid is None:  # the last kill came when all was recorded
            self._finish(attempt)
            return False
        victims = {"trainer": pid, "dvc": ancestor_dvc(pid), "group": -os.getpgid(pid)}
        if moment == "recording":
            attempt.until(lambda: not Path(f"/proc/{pid}").exists())
        else:
            time.sleep(self.random.uniform(0, self.seconds))
        if moment == "saving":
            attempt.until(lambda: any(scratch.glob("*/.new.new")))
        if (trainer(self.project.folder) == pid) == (moment == "recording"):
            self._finish(attempt)
            return False
        saved = max((int(path.name.split(".")[0]) for path in scratch.glob("*/*.pt")), default=0)
        try:
            os.kill(victims[victim], number)
        except ProcessLookupError:  # DVC was faster
            self._finish(attempt)
            return False
        when = f"{time.monotonic() - attempt.began:.1f} s, {moment}"
        what = f"{mode}, {number.name} to {victim} after {when}"
        if not attempt.ended():
            self._problem(what, f"still running: {processes(self.project.folder)}", attempt)
        status = attempt.status
        if status:
            self._check_start(what, attempt)
            self.resumable = saved
            told = number != signal.SIGKILL or victim == "dvc"
            # It may have ended between our look and the signal.
            done = moment == "recording" or any(scratch.glob("*/finished"))
            said = "all was done" if done else self._last_words(what, attempt, told)
        elif (number, victim) == (signal.SIGINT, "dvc"):
            said = "went on: DVC leaves SIGINT to its stage"
            self._finish(attempt)
        else:
            said = "counted as success"
            self._problem(what, said, attempt)
        self.rows.append((mode, number.name, victim, when, str(status), said))
        print(f"kill {len(self.rows)}:", *self.rows[-1], sep="  ", file=sys.stderr, flush=True)
        return True

    def _check_start(self, what: str, attempt: Attempt) -> None:
        """No more may be lost than the work since the last whole state."""
        output = attempt.output()
        found = re.search(r"going on after step ([\d,]+)", output)
        start = int(found[1].replace(",", "")) if found else 0
        if start < self.resumable and BEGUN in output:
            self._problem(what, f"began at step {start}, not {self.resumable}", attempt)

    def _last_words(self, what: str, attempt: Attempt, told: bool) -> str:
        """How the trainer's output ends; DVC may add an error of its own."""
        output = attempt.output()
        if BEGUN not in output:
            return "had not begun"
        if not told:
            return "killed without a word"
        lines = [line for line in output.splitlines() if line and not line.startswith("ERROR")]
        found = re.search(rf"^{RUN}: stopped by SIG\w+ (.*)", lines[-1])
        if found is None:
            self._problem(what, f"the last line is {lines[-1]!r}", attempt)
            return lines[-1]
        if step := re.search(r"after step ([\d,]+)", found[1]):
            self.resumable = int(step[1].replace(",", ""))
        return found[1].split(";")[0]

    def _finish(self, attempt: Attempt) -> None:
        """Let it end, and compare what it leaves with the undisturbed run."""
        mode = attempt.mode
        ended = attempt.ended()
        if TORN_LOCK in attempt.output():
            self._note_torn_lock()
            return
        if not ended or attempt.status:
            self._problem(mode, f"ended with {attempt.status}", attempt)
            self._reset()
            return
        self._check_start(mode, attempt)
        if mode in ("exp run --temp", "queue"):
            (name,) = experiments(self.project)
            # 255: DVC misses what evaluate has not made here. What it applied is compared below.
            self.project.run("dvc", "exp", "apply", name, status=255)
        for name, content in self._outputs().items():
            if content != self.expected[name]:
                self._problem(mode, f"{name} differs from the undisturbed run's", attempt)
        for state in (self.project.folder / ".scratch").iterdir():
            if not (state / "finished").exists():
                self._problem(mode, f"{state} is left", attempt)
        self.compared += 1
        self._reset()

    def _note_torn_lock(self) -> None:
        """Do what DVC leaves to its user when a kill met it writing its own lock."""
        self.torn_locks += 1
        (self.project.folder / ".dvc/tmp/rwlock").unlink()

    def _outputs(self) -> dict[str, bytes]:
        return {name: (self.project.folder / name).read_bytes() for name in OUTPUTS}

    def _reset(self) -> None:
        """As before training: nothing that DVC could restore instead of running it."""
        self.resumable = 0
        run = self.project.run
        for ref in run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split():
            run("git", "update-ref", "-d", ref)
        run("git", "reset", "-q", "--hard")
        for made in (".dvc/cache/runs", "data/models", ".dvc/tmp/exps", ".scratch"):
            shutil.rmtree(self.project.folder / made, ignore_errors=True)

    def _problem(self, what: str, problem: str, attempt: Attempt) -> None:
        print(f"PROBLEM: {what}: {problem}\n{attempt.output()}", file=sys.stderr)
        self.problems.append(f"{what}: {problem}")

    def report(self) -> str:
        """One line a kill, then what they show."""
        header = ("command", "signal", "to", "after", "status", "the trainer's last words")
        widths = [max(map(len, column)) for column in zip(header, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (header, *self.rows)
        ]
        return "\n".join(
            [
                *lines,
                f"{len(self.rows)} kills; {self.compared} runs finished, compared with the"
                f" undisturbed one: {', '.join(OUTPUTS)}",
                f"{self.torn_locks} times a kill tore DVC's own .dvc/tmp/rwlock, which had to be"
                " deleted then",
                *(f"PROBLEM: {problem}" for problem in self.problems),
            ]
        )


def plan(kills: int, modes: Sequence[str], source: random.Random) -> dict[str, list[Any]]:
    """So many kills, every combination of mode, signal and victim equally often, in random order.

    Every third falls into a save; some of those of DVC come when the trainer is done, and DVC has
    not recorded it yet.
    """
    every = list(product(modes, SIGNALS, VICTIMS))
    source.shuffle(every)
    chosen = [every[number % len(every)] for number in range(kills)]
    planned: dict[str, list[Any]] = {mode: [] for mode in modes}
    for number, (mode, *rest) in enumerate(chosen):
        late = "recording" if rest[-1] == "dvc" and number % 2 else "training"
        planned[mode].append((*rest, "saving" if number % 3 == 0 else late))
    return planned


def main() -> None:
    """Run the campaign and print its table; status 1 where a check failed."""
    parser = argparse.ArgumentParser(description="Kill training, again and again.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder).resolve(), arguments.seed)
        planned = plan(arguments.kills, arguments.modes, campaign.random)
        for mode, kills in planned.items():
            campaign.run(mode, kills)
    print(campaign.report())
    sys.exit(bool(campaign.problems))


if __name__ == "__main__":
    main()
