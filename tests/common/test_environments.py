"""The environment is no input: the same bytes come out, or one line says what is wrong."""

import os
import subprocess
import sys
from hashlib import sha256

import pytest

from ncn.claims.judge import CLAIMS
from tests.conftest import ROOT

# Text that not every terminal has, and the rules, which are docstrings.
PROGRAM = """
import sys
from hashlib import sha256
from ncn.common.errors import run_command
def main():
    from ncn.claims.judge import CLAIMS
    words = "".join(claim.rule_in_words for claim in CLAIMS)
    print("interval ±0.1 €", sha256(words.encode()).hexdigest(), flush=FLUSH)
run_command(main)
"""
RULES = sha256("".join(claim.rule_in_words for claim in CLAIMS).encode()).hexdigest()


def ran(
    shell: str | None = None, flush: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("FLUSH", str(flush))
    in_shell = ["bash", "-c", (shell or "").format(f"{sys.executable} -c '{program}'")]
    return subprocess.run(
        in_shell if shell else [sys.executable, "-c", program],
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": ""} | environment,
        capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONOPTIMIZE": "2"},
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"HOME": "/proc/none"},
        {"TMPDIR": "/proc/none"},
    ],
    ids=str,
)
def test_the_environment_changes_not_a_byte(environment: dict[str, str]) -> None:
    done = ran(**environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"interval ±0.1 € {RULES}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_shows_escaped_what_it_cannot_show(encoding: str) -> None:
    done = ran(PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f" \\u20ac {RULES}\n")


@pytest.mark.parametrize(
    ("shell", "flush", "status"),
    [
        ("{} | true; exit ${{PIPESTATUS[0]}}", False, 0),
        ("{} | true; exit ${{PIPESTATUS[0]}}", True, 141),
        ("{} >&-", False, 0),
        ("{} 2>&-", False, 0),
        ("ulimit -n 32; umask 077; {}", False, 0),
    ],
)
def test_an_output_that_nobody_reads_is_no_traceback(shell: str, flush: bool, status: int) -> None:
    """Work that was done counts as done; earlier, the status is that of a broken pipe."""
    done = ran(shell, flush)
    assert (done.returncode, done.stderr) == (status, "")
