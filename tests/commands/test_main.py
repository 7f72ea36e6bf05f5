"""One command line: every command can be found, and finding it costs nothing."""

import subprocess
import sys

import pytest

from ncn.__main__ import COMMANDS, loaded, run, usage
from ncn.common.errors import InputError
from tests.conftest import ROOT

# What `python -m ncn` has imported when it has printed its help.
IMPORTED = """
import sys
sys.argv = ["ncn", *sys.argv[1:]]
from ncn.__main__ import main
main()
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_help_and_has_its_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"\n  {command} " in usage()
    with pytest.raises(SystemExit) as ending:
        run(command, loaded(command), ["--help"])
    assert ending.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m ncn {command}")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_the_help_loads_nothing_that_takes_long(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == usage() + "\n"
    assert not {"torch", "numpy", "pydantic", "ruamel", "dvc"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("scroe", "no command 'scroe': did you mean 'score'?"),
        ("sumary", "no command 'sumary': did you mean 'summary'?"),
        ("xyzzy", "no command 'xyzzy': there are profile, summary, "),
    ],
)
def test_a_mistyped_command_is_answered_in_one_line(typed: str, words: str) -> None:
    assert loaded(typed) is None
    with pytest.raises(InputError) as refused:
        run(typed, None, [])
    assert str(refused.value).startswith(words)
    assert "\n" not in str(refused.value)


def test_an_unknown_argument_is_answered_in_one_line() -> None:
    with pytest.raises(InputError, match=r"--fast: see python -m ncn summary --help$"):
        run("summary", loaded("summary"), ["--fast"])
