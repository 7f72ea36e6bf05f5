"""Studies: a plan before its runs, a size at a time, kept beside the plan."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from yaml import AliasEvent, parse

from ncn.common.errors import InputError
from ncn.common.paths import ADAPTATION
from ncn.settings import Params
from ncn.settings.values import validated
from ncn.studies import queue
from ncn.studies.freeze import again, freeze, in_markdown
from ncn.studies.plan import WHOLE, check_committed, names, read_study
from ncn.studies.tools import TASKS
from tests.conftest import PARAMS, ROOT
from tests.project import fresh_clone, isolated

PROFILE = """
study:
  only_at: {{static: [s]}}
sizes:
  s: {{model: {{d_model: 32}}}}
  m: {{train: {{epochs: 0.15}}}}
arms:
  baseline: {{controller: none}}
  static: {{controller: static}}
  ncn_causal: {{salience: causal}}
seeds: {seeds}
"""
Run = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A repository with params.yaml and a study `tiny`, not committed yet."""
    monkeypatch.chdir(tmp_path)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")

    def run(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("init", "-q")
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    (tmp_path / "studies/tiny").mkdir(parents=True)
    (tmp_path / "studies/tiny/plan.md").write_text("# plan")
    (tmp_path / "studies/tiny/profile.yaml").write_text(PROFILE.format(seeds="[1, 2]"))
    run("add", "params.yaml")
    run("commit", "-qm", "settings")
    return run


def commit_all(git: Run, message: str = "all") -> str:
    git("add", "-A")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def settings_of(study: Any, size: str) -> Params:
    return validated(Params, YAML(typ="safe").load(study.params(size)), size)


@pytest.mark.usefixtures("git")
def test_a_size_has_its_arms_and_its_settings_and_no_other() -> None:
    study = read_study("tiny")
    small, middle = (settings_of(study, size) for size in ("s", "m"))
    assert [*small.arms] == ["baseline", "static", "ncn_causal"]
    assert [*middle.arms] == ["baseline", "ncn_causal"]
    assert (small.model.d_model, middle.train.epochs) == (32, 0.15)
    assert small.seeds == [1, 2]
    assert study.params("s") == study.params("s")


@pytest.mark.usefixtures("git")
def test_the_settings_of_a_size_are_plain_yaml() -> None:
    path = Path("studies/tiny/profile.yaml")
    path.write_text(
        path.read_text()
        .replace("baseline: {", "baseline: &x {")
        .replace("  ncn_causal:", "  other: *x\n  ncn_causal:")
    )
    text = read_study("tiny").params("s")
    assert not any(isinstance(event, AliasEvent) for event in parse(text))
    arms = YAML(typ="safe").load(text)["arms"]
    assert arms["other"] == arms["baseline"] == {"controller": "none"}


def test_every_study_of_the_project_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("studies", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert names()
    for study in map(read_study, names()):
        for size in study.sizes:
            params = settings_of(study, size)
            assert params.at_size == (None if size == WHOLE else size)
            assert "baseline" in params.arms


def test_a_plan_comes_before_its_runs(git: Run) -> None:
    study = read_study("tiny")
    with pytest.raises(InputError, match=r"plan\.md is not committed: a plan comes before"):
        check_committed(study)
    git("add", "studies/tiny/plan.md")
    git("commit", "-qm", "half of it")
    with pytest.raises(InputError, match=r"profile\.yaml is not committed"):
        check_committed(study)
    commit_all(git)
    check_committed(study)
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "# a word\n")
    with pytest.raises(InputError, match=r"params\.yaml is not committed \(1 such\)"):
        check_committed(study)


@pytest.mark.usefixtures("git")
def test_what_cannot_be_a_study_is_said_in_a_line() -> None:
    with pytest.raises(InputError, match=r"no study 'other' in studies/; there are tiny"):
        read_study("other")
    Path("studies", "t" * 65).mkdir()
    Path("studies", "t" * 65, "plan.md").touch()
    with pytest.raises(InputError, match=r"^studies/t+: a name of 65 letters: at most 64 are"):
        read_study("t" * 65)
    path = Path("studies/tiny/profile.yaml")
    path.write_text(path.read_text().replace("static: [s]", "static: [xl]"))
    with pytest.raises(InputError, match=r"only_at\.static: \['xl'\]: .* its sizes s, m"):
        read_study("tiny")
    path.write_text("study: {overr: []}")
    with pytest.raises(InputError, match=r"overr: unknown key; allowed are only_at, over"):
        read_study("tiny")


def test_the_queue_is_read_as_dvc_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = (
        "Task     Name    Created    Status\n7c215df  tiny-s  07:06 PM   Running\n"
        "c92e1cf  tiny-m  Nov 26, 2026   Success\nc92e1c0          07:06 PM   Queued\n\n"
        "Worker status: 2 active, 0 idle\n"
    )
    monkeypatch.setattr(queue, "dvc", lambda *arguments: printed)
    assert list(queue.tasks()) == [("tiny-s", "Running"), ("tiny-m", "Success")]


def test_a_size_that_failed_says_what_its_stage_said() -> None:
    dvcs = "ERROR: failed to reproduce 'tune@ncn': failed to run: python -m stages.tune\n\n"
    stages = "tune-ncn: step 12 of 12\nerror: ncn: the best of tune.lr is still at the end\n"
    assert queue.why(stages + dvcs) == "ncn: the best of tune.lr is still at the end"
    assert "failed to reproduce" in queue.why(dvcs)


def test_a_size_that_ran_is_kept_whole_beside_its_plan(git: Run) -> None:
    commit = commit_all(git)
    study = read_study("tiny")
    assert freeze(study, "s") is None
    differences = {"static": {"delta_loss": [-0.1, -0.2, 0.05], "p_holm": 0.3}}
    arms = {
        arm: {"parameters": 1000 + place, "val_loss": {"mean": 1.5, "sd": 0.01}}
        for place, arm in enumerate(("baseline", "static"))
    }
    comparison = {"arms": arms, "differences": differences, "in_words": {"static": "As planned."}}
    for name, content in (
        ("compare.json", comparison),
        ("tuning.json", {arm: {"lr": 0.004} for arm in arms}),
        ("summary.json", {"static": {"delta_ppl": -0.1}}),
        ("scaling.json", {"other": {}}),
    ):
        Path("metrics").mkdir(exist_ok=True)
        Path("metrics", name).write_text(json.dumps(content))
    Path("dvc.lock").write_text("stages: {}")
    Path("plots").mkdir()
    Path("plots/report.html").write_text("page")
    made = commit_all(git, "the experiment")
    git("update-ref", "refs/exps/12/34567890/tiny-s", made)
    git("reset", "-q", "--hard", commit)
    queued, task = int(git("show", "-s", "--format=%ct", made)), TASKS / made
    task.mkdir(parents=True)
    (task / f"{made}.run").write_text(json.dumps({"name": "tiny-s"}))
    (task / f"{made}.out").write_text("the last line")
    os.utime(task / f"{made}.out", (queued + 5400, queued + 5400))
    folder = freeze(study, "s")
    assert folder == Path("studies/tiny/s")
    assert "Trained again" not in in_markdown(study)  # nothing was
    assert not (folder / "metrics/scaling.json").exists()  # of all studies, not of this size
    assert (folder / "plots/report.html").read_text() == "page"
    machine = json.loads((folder / "machine.json").read_text())
    assert machine["commit"] == commit
    assert machine["hours"] == 1.5
    effects = {"forgotten": [0.3, 0.1, 0.5], "learned": [1.0, None, None]}
    entry = {"trained_parameters": 4606, **effects, "to_baseline": effects}
    adapted = {"arms": {"baseline-full": {**entry, "to_baseline": None}, "static-full": entry}}
    (folder / ADAPTATION).write_text(json.dumps(adapted))
    text = in_markdown(study)
    shown = "+0.3000 [+0.1000, +0.5000] | +1.0000"
    assert f"| `static-full` | 4,606 | {shown} | {shown} |" in text
    assert f"| `baseline-full` | 4,606 | {shown} | – | – |" in text
    assert "| `static` | 1,001 | 0.004 | 1.5000 (sd 0.0100) | -0.1000 [-0.2000, +0.0500] |" in text
    assert "As planned." in text
    assert "## Size m\n\nNot run yet." in text


@pytest.mark.usefixtures("git")
def test_the_result_of_many_arms_ranks_them() -> None:
    arms = ["baseline", "static", "a", "b", "c"]
    write_yaml = YAML(typ="safe").dump
    folder = Path("studies/tiny/s")
    (folder / "metrics").mkdir(parents=True)
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    content["arms"] = dict.fromkeys(arms)
    del content["text"]  # a version before this one wrote it
    write_yaml(content, folder / "params.yaml")
    ends = [-0.1, -0.2, -0.05]
    found = {"delta_loss": ends, "delta_ppl": ends, "p": 0.01, "p_holm": 0.04}
    figures = {"parameters": 1000, "flops_per_token": 2000, "scores": {}}
    loss = {"val_loss": {"mean": 1.5, "sd": 0.01}}
    comparison = {
        "seeds": [1, 2], "clusters": 300, "reference": "static", "in_words": {"a": "As planned."},
        "arms": dict.fromkeys(arms, figures | loss),
        "differences": {arm: found | {"to_reference": found} for arm in arms[1:]},
    }  # fmt: skip
    written = {
        "metrics/compare.json": comparison,
        "metrics/summary.json": {arm: {"future_leak": 0.0} for arm in arms},
        "metrics/tuning.json": {arm: {"lr": 0.004} for arm in arms},
        "machine.json": {"hours": None},
    }
    for name, each in written.items():
        (folder / name).write_text(json.dumps(each))
    step = {"mechanisms": {"arms": {"a": {"ratio": 1.25}}}}
    Path("metrics").mkdir()
    Path("metrics/benchmark.json").write_text(json.dumps(step))
    text = in_markdown(read_study("tiny"))
    shown = "-0.1000 [-0.2000, -0.0500] | 0.04"
    assert f"| 1 to 4 | `a` | 1,000 | 2,000 | 1.25 | {shown} | {shown} |" in text
    assert "| 5 | `baseline` | 1,000 | 2,000 | – | – | – | – | – |" in text
    assert "Of 10 pairs of arms, 4 have intervals that lie apart" in text


def test_a_size_runs_again_from_its_commit_or_where_that_is_gone_from_the_present_one(
    git: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    ran_from = commit_all(git)
    Path("later").write_text("")
    present = commit_all(git, "later")
    study = read_study("tiny")
    with pytest.raises(InputError, match="holds no result"):
        again(study, "s")
    frozen = study.frozen("s")
    frozen.mkdir()
    (frozen / "params.yaml").write_text("as it ran")
    (frozen / "machine.json").write_text(json.dumps({"commit": ran_from}))
    assert again(study, "s") == (ran_from, "as it ran")
    (frozen / "machine.json").write_text(json.dumps({"commit": "0123456" + "0" * 33}))
    assert again(study, "s") == (present, study.params("s"))
    said = "".join(capsys.readouterr())
    assert "the commit that it ran from, 0123456, is not in this repository" in said


def test_the_committed_results_say_what_the_frozen_files_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the ranking, whose step times move with every `make bench`."""
    monkeypatch.chdir(ROOT)
    for study in map(read_study, names()):
        if (committed := study.folder / "result.md").exists():
            told, anew = (
                [line for line in text.splitlines() if not re.match(r"\| \d", line)]
                for text in (committed.read_text(encoding="utf-8"), in_markdown(study))
            )
            assert told == anew, f"run `python -m ncn study freeze {study.name}` and commit it"


def test_a_study_runs_through_the_queue_is_frozen_and_runs_again(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    project = fresh_clone(tmp_path / "project", isolated(tmp_path / "home"))
    project.run("git", "config", "user.name", "test")
    project.run("git", "config", "user.email", "test@example.org")
    folder = project.folder / "studies/tiny"
    folder.mkdir(parents=True)
    (folder / "profile.yaml").write_text(PROFILE.format(seeds="[1]"))
    (folder / "plan.md").write_text("# plan")
    command = ("python", "-m", "ncn", "study")
    assert "plan.md is not committed" in project.run(*command, "run", "tiny", status=1)
    project.commit("the plan")
    before = (project.folder / "params.yaml").read_text()
    assert "holds no result" in project.run(*command, "check", "tiny", status=1)
    output = project.run(*command, "run", "tiny", "--size", "m")
    assert "m: success, 2 of 2 runs" in output
    assert (project.folder / "params.yaml").read_text() == before
    assert project.run("git", "status", "--porcelain") == ""
    project.run(*command, "freeze", "tiny")
    assert "tiny: s (not run), m (frozen)" in project.run(*command, "list")
    kept = YAML(typ="safe").load((folder / "m/params.yaml").read_text())
    assert (kept["at_size"], [*kept["arms"]]) == ("m", ["baseline", "ncn_causal"])
    assert "ncn_causal" in (folder / "result.md").read_text()
    project.commit("frozen")
    assert "tiny, size m, run again: identical" in project.run(*command, "check", "tiny")
