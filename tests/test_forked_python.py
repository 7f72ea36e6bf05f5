"""A stage that forks runs as one that starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked_python import forked_python
from tests.project import isolated

STAGE = """
import atexit, os, signal, sys, threading

atexit.register(print, "at exit", flush=True)
print(__name__, __spec__.parent, os.getcwd(), sys.path[0], sys.argv, sys.stdin.read())
print(sorted(os.environ.items()), sorted(os.listdir("/proc/self/fd")), signal.getsignal(2))
print(sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.line_buffering)
ends = {
    "": lambda: None,
    "3": lambda: sys.exit(3),
    "words": lambda: sys.exit("error: words \\ud800"),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
}
at = threading.Thread(target=print, args=["a thread"])
at.start()
ends["".join(sys.argv[1:])]()
"""


@pytest.mark.parametrize("end", ["", "3", "words", "kill", "term"])
def test_a_stage_sees_and_leaves_what_it_would_in_a_python_of_its_own(
    tmp_path: Path, end: str
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/toy.py").write_text(STAGE)

    def ran(python: Path) -> tuple[int, str, str]:
        # Through a shell, which sets PWD, as DVC does it.
        words = [python, "-m", "stages.toy", *([end] if end else [])]
        command = ["sh", "-c", 'exec "$0" "$@"', *words]
        environment = isolated(tmp_path) | {"OF_THE_CALLER": "ünïcode\n"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, input="asked", capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    assert ran(forked_python() / "python") == ran(Path(sys.executable))
