"""Unfinished work that the same command goes on from, and the lock that keeps it one process's.

It lies outside the stages' outputs, which DVC deletes before it starts a stage again, and in the
main repository also where DVC runs an experiment in a folder of its own.
"""

import fcntl
import math
import os
import time
from pathlib import Path
from typing import IO

from ncn.common.errors import InputError
from ncn.common.progress import say

PATIENCE = 30.0  # seconds; a process that was told to stop may be in the middle of a long step


def scratch() -> Path:
    """Where unfinished work lies."""
    return Path(os.environ.get("DVC_ROOT", "")) / ".scratch"


def locked(folder: Path, doing: str, patience: float = PATIENCE) -> IO[str]:
    """The open lock of `folder`, for as long as this process works there.

    Args:
        folder: made where it is not there.
        doing: what the holder of the lock does there, for people: trains.
        patience: seconds to wait for another process to let go of it; infinite: until it does.

    Raises:
        InputError: another process holds it for longer.
    """
    deadline = time.monotonic() + patience
    waiting = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "a+", encoding="utf-8")  # noqa: SIM115 (held, not read)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = f"process {lock.read().strip() or 'unknown'} {doing} in {folder}"
            lock.close()
            if time.monotonic() >= deadline:
                raise InputError(f"{holder}: wait until it ends, or stop it") from None
            if not waiting:
                limit = f"up to {patience:.0f} s " if math.isfinite(patience) else ""
                say(f"{holder}: waiting {limit}for it to end")
                waiting = True
            time.sleep(0.2)
            continue
        if _same_file(lock, folder / "lock"):
            lock.truncate(0)
            print(os.getpid(), file=lock, flush=True)
            return lock
        lock.close()  # its folder was deleted meanwhile


def is_locked(lock: Path) -> bool:
    """Whether a process works in the folder of this lock."""
    with open(lock, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _same_file(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
