"""Work over processes: everything once, faults in a line, nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncn.common.errors import InputError
from ncn.corpus.workers import spread
from tests.conftest import ROOT


def square(number: int) -> int:
    return number**2


def refuse(number: int) -> int:
    if number == 3:
        raise InputError("three is not allowed")
    return number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wait(number: int, folder: str) -> int:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(0.2)
    return number


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(spread(square, ((n,) for n in range(7)), workers)) == [n**2 for n in range(7)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_refuses_is_refused_here(workers: int) -> None:
    with pytest.raises(InputError, match="three is not allowed"):
        list(spread(refuse, ((n,) for n in range(7)), workers))


def test_a_worker_that_is_killed_is_said() -> None:
    with pytest.raises(InputError, match=r"ended with status -9; .* the same command goes on"):
        list(spread(die, ((n,) for n in range(7)), 2))


def test_workers_end_with_whoever_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from tests.corpus.test_workers import wait\n"
        "from ncn.corpus.workers import spread\n"
        "if __name__ == '__main__':\n"
        f"    list(spread(wait, ((n, {str(tmp_path)!r}) for n in range(999)), 2))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    deadline = time.monotonic() + 120  # the modules of the tests are many
    while len(list(tmp_path.glob("[0-9]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in tmp_path.glob("[0-9]*")]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
