"""What counts as words, and that only words are recorded without a run."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from ncn.common.errors import InputError
from ncn.upkeep.accept import difference, meaning, run

CODE = b'''"""A module."""

def half(x: float) -> float:
    """Its half."""
    return x / 2  # not x >> 1
'''
WORDS = [
    CODE.replace(b"A module", b"Some module"),
    CODE.replace(b'    """Its half."""\n', b""),
    CODE.replace(b"  # not x >> 1", b""),
    CODE.replace(b"return x / 2", b"return (\n        x / 2\n    )"),
]
MORE = [
    CODE.replace(b"x / 2", b"x / 3"),
    CODE.replace(b"half", b"other"),
    CODE.replace(b"return x", b"return (yield x)"),
    CODE.replace(b"    return", b"    'half'\n    return"),
    CODE + b"VALUE = 'words'\n",
]
DEFINITION = """
stages:
  one: {cmd: "echo > out.txt", deps: [code], outs: [out.txt: {cache: false}]}
  two: {cmd: "true", deps: [code/b.py, out.txt]}
"""


def test_words_are_what_python_does_not_read() -> None:
    before = meaning("ncn/model/x.py", CODE)
    assert {meaning("ncn/model/x.py", each) for each in WORDS} == {before}
    assert before not in {meaning("ncn/model/x.py", each) for each in MORE}


def test_the_docstring_of_a_rule_is_no_mere_word() -> None:
    of_claims = [meaning("ncn/claims/rules.py", each) for each in (CODE, *WORDS)]
    assert of_claims[1] != of_claims[0] != of_claims[2]
    assert of_claims[3] == of_claims[4] == of_claims[0]


def test_what_is_no_python_is_named() -> None:
    with pytest.raises(InputError, match=r"^ncn/x\.py: line 1: "):
        meaning("ncn/x.py", b"def")


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline of two stages that has run and is committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    Path("code").mkdir()
    for name in ("a", "b"):
        Path(f"code/{name}.py").write_bytes(CODE)
    Path("code/style.css").write_text("a {}")
    Path("dvc.yaml").write_text(DEFINITION)
    command("git", "init", "-q")
    command(sys.executable, "-m", "dvc", "init", "-q")
    command(sys.executable, "-m", "dvc", "repro", "-q")
    commit()


def commit() -> None:
    command("git", "add", "-A")
    command("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "a run")


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def accepted(capsys: pytest.CaptureFixture[str]) -> str:
    difference.cache_clear()
    run(Namespace(dry_run=False))
    return capsys.readouterr().out


@pytest.mark.usefixtures("dvc")
def test_only_words_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    Path("code/b.py").write_bytes(WORDS[0])
    assert "recorded in dvc.lock: 2 stages" in accepted(capsys)
    assert command(sys.executable, "-m", "dvc", "status").startswith("Data and pipelines are up")
    commit()
    Path("code/a.py").write_bytes(MORE[0])
    Path("code/b.py").write_bytes(WORDS[2])
    words = accepted(capsys)
    assert "one: runs again: code/a.py\n" in words
    assert "two: only words changed\n" in words
    commit()
    Path("code/a.py").write_bytes(CODE)
    Path("code/style.css").write_text("b {}")
    assert "one: runs again: code/style.css\n" in accepted(capsys)


@pytest.mark.usefixtures("dvc")
def test_code_that_only_an_experiment_committed_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("code/b.py").write_bytes(MORE[0])
    command(sys.executable, "-m", "dvc", "repro", "-q")
    experiment = "refs/exps/00/0000/tried"
    command("git", "add", "-A")
    tried = command("git", "-c", "user.name=x", "-c", "user.email=x", "stash", "create").strip()
    command("git", "reset", "-q")
    Path("code/b.py").write_bytes(MORE[0].replace(b"# not x >> 1", b"# a third"))
    assert "is in none of its last 100 commits: commit each accepted edit" in accepted(capsys)
    command("git", "update-ref", experiment, tried)
    assert "recorded in dvc.lock: 2 stages" in accepted(capsys)
