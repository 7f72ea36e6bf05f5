"""Resumable training state: an interrupted run goes on from it, and ends like an undisturbed one.

    $DVC_ROOT/.scratch/RUN-KEY/
        lock                    held by the process that trains, so that no two do
        000000400.DIGEST.pt     all that step 401 depends on, named by its sha256
        000000450.DIGEST.pt
        finished                the md5 of its outputs: they are written, maybe not yet recorded

KEY names everything that the result depends on, so a state never continues another experiment.

Nothing random is in it: the order of the rows and the dropout are streams named by seed and step.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from ncn.common.dvc_cache import holds
from ncn.common.files import as_written, md5_of_directory, replacing, sha256_of, write_text
from ncn.common.progress import say
from ncn.common.scratch import PATIENCE, is_locked, locked, scratch
from ncn.settings import ModelConfig, Saving, Train, read_yaml
from ncn.settings.stage_inputs import stage_source
from ncn.training.processes import processes

FINISHED = "finished"
FORMAT = 1  # of the files: another one is not read
KEPT = 2


def state_key(
    config: ModelConfig, train: Train, seed: int, data: str, source: Mapping[str, str]
) -> str:
    """Sixteen hex digits that change with anything the trained model or its log depends on.

    Args:
        config: what the arm builds.
        train: the optimiser's settings.
        seed: of initialisation, row order and dropout.
        data: the digest of the rows.
        source: the digest of each module, see `stage_source`.
    """
    named = {
        "model": config.model_dump(mode="json"),
        "train": train.model_dump(mode="json"),
        "seed": seed,
        "data": data,
        "source": dict(source),
        "torch": torch.__version__,
        "cuda": torch.cuda.is_available(),
        "processes": processes(),
    }
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def states_of(
    run: str,
    config: ModelConfig,
    train: Train,
    seed: int,
    data: str,
    saving: Saving,
    stage: str = "train",
) -> "States":
    """The states of a run of `stage` with everything its result depends on: see `state_key`."""
    key = state_key(config, train, seed, data, stage_source(stage))
    return States(scratch() / f"{run}-{key}", saving)


class DamagedError(Exception):
    """A state that cannot be used, and why."""


class States:
    """The states of one training run, its folder locked between `with` and the end of it.

    Args:
        folder: below `ncn.common.scratch.scratch()`.
        saving: how often to save.
        patience: seconds to wait for another process to let go of the folder.

    Raises:
        InputError: (on entering) another process trains into the folder.
    """

    def __init__(self, folder: Path, saving: Saving, patience: float = PATIENCE) -> None:
        self.folder = folder
        self._saving = saving
        self._patience = patience
        self.resumed = 0  # step of the state that `newest` found
        self._saved = 0  # step of the newest whole state
        self._tried = 0  # step of the last attempt to save one: a full disk is left alone after it
        self._tried_at = time.monotonic()

    def __enter__(self) -> Self:
        self._lock = locked(self.folder, "trains", self._patience)
        prune(self.folder.parent, self.folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.close()

    def due(self, step: int, last: bool) -> bool:
        """Whether the state after `step` should be saved; that of the last one always."""
        minutes = (time.monotonic() - self._tried_at) / 60
        return (
            last
            or step - self._tried >= self._saving.every_steps
            or minutes >= self._saving.every_minutes
        )

    def save(self, step: int, state: Mapping[str, Any]) -> OSError | None:
        """Keep `state`, of tensors and plain values, and the one before it.

        Where there is no room for it, training goes on and the older ones stay: one line says so.

        Returns:
            Why it was not kept; None: it was.
        """
        if step == self._saved:
            return None
        self._tried, self._tried_at = step, time.monotonic()
        written = self.folder / "new"
        try:
            with replacing(written, "wb") as file:
                torch.save({"format": FORMAT, "step": step, **state}, file)
            written.replace(self.folder / f"{step:09}.{sha256_of(written)}.pt")
            _sync(self.folder)
        except (OSError, RuntimeError) as error:
            # Where its file fails half-way, torch.save raises a RuntimeError in the course of that.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            written.unlink(missing_ok=True)
            say(f"step {step} not saved ({cause.strerror}); the last good state: {self.last_good}")
            return cause
        self._saved = step
        for old in self._files()[KEPT:]:
            old.unlink()
        return None

    def newest(self) -> dict[str, Any] | None:
        """The newest whole state, or None. Damaged ones are put aside, with one line each."""
        for path in self._files():
            try:
                state = _read(path)
            except DamagedError as damage:
                path.replace(path.with_suffix(".damaged"))
                say(f"{path} is damaged ({damage}): going back to the state before it")
                continue
            self.resumed = self._saved = self._tried = state["step"]
            return state
        return None

    def finish(self, output: Path) -> None:
        """The run's outputs are written, into the folder `output`.

        The states stay for as long as DVC may fail to record them, on a full disk for one: it would
        delete the outputs and start again.
        """
        write_text(self.folder / FINISHED, md5_of_directory(output))

    def discard(self) -> None:
        """Delete the states; what else lies in the folder stays."""
        for path in self._files():
            path.unlink()

    def forget_if_recorded(self, stage: str, output: Path) -> None:
        """Begin anew if DVC has recorded what these states led to: it was told to do it again."""
        finished = self.folder / FINISHED
        if finished.exists() and finished.read_text() == recorded(stage, output):
            finished.unlink()
            self.discard()

    @property
    def last_good(self) -> str:
        """What there is to go on from, for people."""
        return f"step {self._saved:,} in {self.folder}" if self._saved else "the beginning"

    def _files(self) -> list[Path]:
        """The states, newest first."""
        return sorted(self.folder.glob("*.pt"), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    """The state in `path`, on the CPU. Nothing in it is executed.

    Raises:
        DamagedError: it is not what was written, or written by another version.
    """
    name = re.fullmatch(r"(\d+)\.([0-9a-f]{64})\.pt", path.name)
    if name is None or sha256_of(path) != name[2]:
        raise DamagedError("its sha256 is not the one in its name")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes torch raise anything
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"not a state: {why}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DamagedError("written by another version")
    if state.get("step") != int(name[1]):
        raise DamagedError("its step is not the one in its name")
    return state


def prune(root: Path, mine: Path) -> None:
    """Delete the states of other runs that are finished, and whose outputs DVC's cache holds.

    Unfinished ones stay, however old: `python -m ncn tidy` says which there are.
    """
    for finished in root.glob(f"*/{FINISHED}"):
        try:
            if finished.parent != mine and holds([finished.read_text()]):
                shutil.rmtree(finished.parent, ignore_errors=True)
        except FileNotFoundError:  # another trainer is at work there, and begins anew
            continue


class Unfinished(NamedTuple):
    """A state that its run may go on from: its folder, step and size, and whether it trains now."""

    folder: Path
    step: int
    size: int
    trains: bool


def unfinished(root: Path) -> list[Unfinished]:
    """Every state below `root` of a run that has not ended."""
    found = []
    for lock in sorted(root.glob("*/lock")):
        folder = lock.parent
        files = sorted(folder.glob("*.pt"))
        if files and not (folder / FINISHED).exists():
            step = int(files[-1].name.split(".")[0])
            size = sum(file.stat().st_size for file in files)
            found.append(Unfinished(folder, step, size, is_locked(lock)))
    return found


def recorded(stage: str, output: Path) -> str | None:
    """The md5 that dvc.lock has of a stage's output, a folder; None: of none."""
    lock = read_yaml("dvc.lock") if Path("dvc.lock").exists() else {}
    with as_written("dvc.lock"):
        outs = lock.get("stages", {}).get(stage, {}).get("outs", [])
        return next((out["md5"] for out in outs if out["path"] == str(output)), None)


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
