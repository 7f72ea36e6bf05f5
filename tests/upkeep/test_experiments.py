"""Experiments at a glance, out of git alone."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from ncn.__main__ import loaded, run
from ncn.commands.summary import beside_the_committed
from ncn.common.errors import InputError
from ncn.upkeep.experiments import Row, experiments
from tests.conftest import PARAMS as OF_THE_TESTS
from tests.conftest import ROOT

PARAMS = "ncn: {hidden: 8}\ntrain: {lr: 1, epochs: 2}\ncompare: {primary: b}\n"


def git(*command: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    done = subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(params: str, delta: float, *, reference: str | None = None) -> str:
    """A commit with these settings and this difference, at a reference or on the branch."""
    before = git("rev-parse", "HEAD") if reference else ""
    Path("params.yaml").write_text(params)
    Path("metrics").mkdir(exist_ok=True)
    entry = {"delta_ppl": delta, "delta_ppl_low": delta - 1, "delta_ppl_high": delta + 1}
    Path("metrics/summary.json").write_text(json.dumps({"baseline": {}, "a": entry, "b": entry}))
    git("add", "-A")
    git("commit", "-qm", "x")
    made = git("rev-parse", "HEAD")
    if reference:
        git("update-ref", reference, "HEAD")
        git("reset", "-q", "--hard", before)
    return made


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git("init", "-q")
    return commit(PARAMS, 1)


def test_a_row_says_what_changed_and_what_was_found(base: str) -> None:
    wider = PARAMS.replace("8", "64").replace("lr: 1", "lr: 3")
    commit(wider, -2, reference=f"refs/exps/{base[:2]}/{base[2:]}/wider")
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")  # of DVC's own
    commit(PARAMS.replace("8", "9"), 5)  # the branch went on: an experiment is beside its own base
    committed, wide = experiments()
    assert committed.name == "(committed)"
    assert committed.found == "b +5.0000 [+4.0000, +6.0000]"
    assert wide == Row(
        "wider", base[:7], "ncn.hidden=64 train.lr=3", "b -2.0000 [-3.0000, -1.0000]"
    )
    assert experiments("a")[1].found == "a -2.0000 [-3.0000, -1.0000]"


def test_what_cannot_be_shown_is_one_line(
    base: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--arm c: nothing has a difference"):
        experiments("c")
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    with pytest.raises(InputError, match="not in a git repository"):
        experiments()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("metrics/summary.json", "<<<<<<< HEAD\n{}\n=======\n", "is not JSON"),
        ("metrics/summary.json", "\udcff", "is not JSON"),
        ("metrics/summary.json", '{"b": {"delta_ppl": 1}}', "has no 'delta_ppl_low'"),
        ("metrics/summary.json", '{"b": 3}', "not as a stage writes it"),
        ("metrics/summary.json", "[1]", "not as a stage writes it"),
        ("params.yaml", "a: [", "is not YAML"),
        ("params.yaml", "- a", "expected sections"),
        ("params.yaml", "compare: 3", "not as a stage writes it"),
    ],
)
def test_a_committed_file_that_is_damaged_is_one_line_with_its_revision(
    base: str, file: str, text: str, words: str
) -> None:
    Path(file).write_text(text, encoding="utf-8", errors="surrogateescape")
    git("commit", "-qam", "x")
    experiment = f"refs/exps/{base[:2]}/{base[2:]}/broken"
    git("update-ref", experiment, "HEAD")
    for revision in (git("rev-parse", "HEAD"), experiment):
        with pytest.raises(InputError, match=words) as error:
            experiments()
        assert f"{file} of {revision}" in str(error.value)
        assert "\n" not in str(error.value)
        git("reset", "-q", "--hard", base)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("metrics/summary.json", "<<<<<<< HEAD", "metrics/summary.json of HEAD is not JSON"),
        ("metrics/summary.json", "[1]", "only here: a"),
        ("params.yaml", "a: [", "params.yaml of HEAD is not YAML"),
    ],
)
def test_the_summary_stands_beside_a_damaged_commit(
    base: str, file: str, text: str, words: str
) -> None:
    Path(file).write_text(text)
    git("commit", "-qam", "x")
    Path("metrics/summary.json").write_text("{}")
    Path("params.yaml").write_text(PARAMS)
    assert words in " ".join(beside_the_committed({"a": 1}))  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("experiments", []),
        ("accept", []),
        *(("study", [action, "grammar"]) for action in ("run", "freeze", "check")),
    ],
)
def test_a_command_that_needs_git_says_so_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # as an archive of the project: no repository
    for file in (ROOT / "dvc.lock", ROOT / "dvc.yaml", OF_THE_TESTS):
        shutil.copy(file, file.name)
    shutil.copytree(ROOT / "studies", "studies")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match=r"^not in a git repository .* git init && git add -A"):
        run(name, loaded(name), arguments)
    git("init", "-q")
    with pytest.raises(InputError, match=r"^not in a git repository with a commit"):
        run(name, loaded(name), arguments)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^git is not installed, or not on PATH$"):
        run(name, loaded(name), arguments)


def test_the_summary_is_shown_without_git_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (line,) = beside_the_committed({})
    assert line.startswith("against the committed metrics/summary.json: not in a git repository")
