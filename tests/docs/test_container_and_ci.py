"""Dockerfile and .github/workflows/test.yml: neither runs here, but what they name has to exist."""

import re
import shlex
from typing import Any

from dvc.cli.parser import get_main_parser

from ncn.settings import read_yaml
from tests.conftest import ROOT
from tests.docs.pages import blocks

WORKFLOW = ".github/workflows/test.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PACKAGES = {"git", "make", "chromium"}  # what the README asks for beside Python


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments; comments are none."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines) if name]


def arguments(instruction: str) -> list[str]:
    return [words for name, words in instructions() if name == instruction]


def ignored(path: str) -> set[str]:
    """The patterns of an ignore file, in one form."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    patterns = {line.strip("/").removeprefix("**/") for line in lines}
    return {each for each in patterns if each and not each.startswith("#")}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def jobs() -> dict[str, Any]:
    jobs: dict[str, Any] = read_yaml(ROOT / WORKFLOW)["jobs"]
    return jobs


def commands(job: str) -> list[list[str]]:
    """Every command that a job of the workflow runs, as words."""
    runs = [step["run"] for step in jobs()[job]["steps"] if "run" in step]
    return [shlex.split(line) for run in runs for line in run.splitlines()]


def test_the_container_runs_the_commands_of_the_readme() -> None:
    listed = [
        shlex.split(line, comments=True) for each in blocks("README.md") for line in each.commands
    ]
    readme = {" ".join(words) for words in listed if words[0] == "make"}
    assert readme == set(re.findall(r"^#   docker run .*?\bncn (make \w+)$", DOCKERFILE, re.M))
    assert arguments("CMD") == ['["make", "repro"]']
    assert {command.split()[1] for command in readme} | {"setup"} <= make_targets()


def test_every_path_that_the_container_copies_exists() -> None:
    copied = [shlex.split(words) for words in arguments("COPY")]
    sources = [source for words in copied for source in words[:-1] if not source.startswith("--")]
    assert len(sources) == 4
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_container_is_slim_and_its_user_is_not_root() -> None:
    order = [name for name, _words in instructions()]
    assert arguments("FROM") == ["python:3.12-slim"]
    assert order.index("USER") < order.index("COPY")
    assert arguments("USER") == ["ncn"]
    installed = arguments("RUN")[0].partition("--no-install-recommends")[2].partition("&&")[0]
    assert set(installed.split()) == PACKAGES


def test_the_container_gets_git_and_nothing_that_git_ignores() -> None:
    assert ignored(".gitignore") <= ignored(".dockerignore")
    assert ".git" not in ignored(".dockerignore")


def test_what_the_workflow_runs_exists() -> None:
    assert ["bash", ".ci/run"] in commands("test")
    assert (ROOT / ".ci/run").is_file()
    made = [words[1] for job in jobs() for words in commands(job) if words[0] == "make"]
    assert made == ["setup"]
    assert set(made) <= make_targets()
    (dvc,) = (words for words in commands("metrics") if words[0] == ".venv/bin/dvc")
    asked = get_main_parser().parse_args(dvc[1 : dvc.index(">")])
    assert (asked.func.__name__, asked.a_rev, asked.b_rev) == (
        "CmdMetricsDiff",
        "origin/$TARGET",
        "HEAD",
    )


def test_only_the_comment_may_write_and_no_fork_runs_it() -> None:
    assert read_yaml(ROOT / WORKFLOW)["permissions"] == {"contents": "read"}
    assert "permissions" not in jobs()["test"]
    assert jobs()["metrics"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in jobs()["metrics"]["if"]
    text = (ROOT / WORKFLOW).read_text(encoding="utf-8")
    assert "secrets" not in text
    assert set(read_yaml(ROOT / WORKFLOW)["on"]) == {"push", "pull_request"}


def test_no_text_of_a_pull_request_becomes_part_of_a_command() -> None:
    """A branch may be called `$(...)`: a script reads it as a variable."""
    runs = [step.get("run", "") for job in jobs().values() for step in job["steps"]]
    assert [run for run in runs if "${{" in run] == []


def test_actions_are_pinned_to_a_major_version() -> None:
    used = [step["uses"] for job in jobs().values() for step in job["steps"] if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"actions/[\w-]+@v\d+", each)] == []
