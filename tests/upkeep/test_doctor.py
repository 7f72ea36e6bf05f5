"""What the doctor sees: each fault that people meet, made on purpose."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.rwlock import rwlock

from ncn.__main__ import loaded, run
from ncn.common.paths import run_name
from ncn.settings import load_params
from ncn.upkeep import doctor
from tests.conftest import PARAMS, ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like the project's, without code and outputs, as the present one."""
    shutil.copy(PARAMS, tmp_path)
    for name in ("dvc.yaml", "requirements.lock", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    subprocess.run(["git", "init", "-q"], check=True)
    return tmp_path


def mark(check: Callable[[], doctor.Finding]) -> str:
    return check().mark


def test_this_environment_is_the_pinned_one(here: Path) -> None:
    assert doctor.packages().mark == "ok"
    assert doctor.python().mark == "ok"


def test_other_packages_are_named(here: Path) -> None:
    lock = "numpy==0.1\nno-such-package==1.0  # via x\npywin32==1 ; sys_platform == 'win32'\n"
    (here / "requirements.lock").write_text(lock)
    finding = doctor.packages()
    assert finding.mark == "problem"
    assert "numpy is" in finding.words
    assert "no-such-package is not installed" in finding.words
    assert "pywin32" not in finding.words
    assert finding.words.endswith(": make setup")


@pytest.mark.parametrize("lock", [b"\xff", b"numpy==no version", None])
def test_a_lock_that_cannot_be_read_is_a_line(here: Path, lock: bytes | None) -> None:
    (here / "requirements.lock").unlink()
    if lock is not None:
        (here / "requirements.lock").write_bytes(lock)
    assert re.fullmatch(r"requirements\.lock .*|requirements\.lock: .*", doctor.packages().words)
    assert doctor.packages().mark == "problem"


def test_a_dvc_of_another_environment_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "bin").mkdir()
    for name in ("dvc", "python", "git", "make"):
        (here / "bin" / name).write_text("#!/bin/sh\n")
        (here / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(here / "bin"))
    assert "of another environment" in doctor.commands().words
    monkeypatch.setenv("PATH", str(here))
    assert doctor.commands().words.startswith("git, make, dvc, python not on PATH")


def test_settings_that_the_pipeline_refuses_are_said(here: Path) -> None:
    assert mark(doctor.settings) == "ok"
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"n_heads: \d", "n_heads: 3", text))
    assert "n_heads 3" in doctor.settings().words
    assert mark(doctor.disk) == "ok"  # says nothing of its own on it
    Path("params.yaml").unlink()
    assert mark(doctor.settings) == "problem"
    assert "no params.yaml here" in doctor.folder().words


def test_a_folder_without_git_is_a_problem_unless_dvc_was_told_of_it(here: Path) -> None:
    shutil.rmtree(".git")
    assert mark(doctor.folder) == "problem"
    assert "git init" in doctor.folder().words
    Path(".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert mark(doctor.folder) == "note"


def test_a_git_that_does_not_know_who_commits_is_said(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for variable in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(variable, raising=False)
    subprocess.run(["git", "config", "user.name", "Ada"], check=True)
    assert doctor.identity().words.startswith("no user.email, ")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ada@example.org")
    assert mark(doctor.identity) == "ok"


def test_outputs_are_all_there_or_none_or_some_are_missing(here: Path) -> None:
    assert mark(doctor.outputs) == "note"
    Path("data/raw").mkdir(parents=True)
    finding = doctor.outputs()
    assert finding.mark == "problem"
    assert "data/tokens, data/models/baseline-1" in finding.words
    params = load_params()
    for name in (run_name(arm, seed) for arm in params.arms for seed in params.seeds):
        Path("data/models", name).mkdir(parents=True)
    Path("data/tokens").mkdir()
    assert mark(doctor.outputs) == "ok"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{}", "ok"),
        (b'{"write": {"a": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}', "note"),
        (b'{"read": {"a": [{"pid": 4194305, "cmd": "dvc repro"}]}}', "ok"),  # no such process
        (b"", "problem"),
        (b'{"write": {"a', "problem"),
        (b"\x94\xff", "problem"),
        (b"[1, 2]", "problem"),
        (b"1", "problem"),
        (b'{"read": []}', "problem"),
    ],
)
def test_a_lock_that_a_killed_dvc_left_is_found(here: Path, content: bytes, expected: str) -> None:
    doctor.RWLOCK.parent.mkdir(exist_ok=True)
    doctor.RWLOCK.write_bytes(content)
    assert mark(doctor.lock) == expected
    refused = False
    try:
        with rwlock(str(doctor.RWLOCK.parent), localfs, "dvc repro", [], [], hardlink=False):
            pass
    except (DvcException, UnicodeDecodeError):
        refused = True
    assert refused == (expected == "problem")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "note"),
        ("schema: '2.0'\nstages: {}\n", "ok"),
        ("schema: '2.0'\nstages:\n  a:\n   x: [", "problem"),
        ("<<<<<<< HEAD\nschema: '2.0'\n", "problem"),
        ("", "problem"),
    ],
)
def test_what_dvc_recorded_can_be_read_or_not(
    here: Path, content: str | None, expected: str
) -> None:
    if content is not None:
        doctor.DVC_LOCK.write_text(content)
    finding = doctor.recorded()
    assert finding.mark == expected
    assert ("git checkout dvc.lock" in finding.words) == (expected == "problem")
    Path("dvc.yaml").write_text("stages: [")
    assert content is None or mark(doctor.recorded) == "problem"


def test_a_remote_is_reached_or_not(here: Path) -> None:
    assert mark(doctor.remote) == "note"
    remote = f"[core]\n    remote = shared\n['remote \"shared\"']\n    url = {here}/shared\n"
    Path(".dvc/config.local").write_text(remote)
    assert "does not exist" in doctor.remote().words
    (here / "shared").mkdir()
    assert mark(doctor.remote) == "ok"
    (here / "shared").rmdir()
    Path("shared").symlink_to("/proc/sys")  # not even root may make a file there
    assert "dvc push may not write" in doctor.remote().words
    Path(".dvc/config.local").write_text("[core\n")
    assert mark(doctor.remote) == "problem"


def test_the_package_that_a_remote_needs_is_named_with_its_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"cloud": "s3://bucket/ncn", "server": "ssh://host/ncn", "folder": here}
    sections = [f"['remote \"{name}\"']\n    url = {url}\n" for name, url in urls.items()]
    Path(".dvc/config.local").write_text("[core]\n    remote = folder\n" + "".join(sections))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.remote() == doctor.problem(
        "s3:// needs dvc-s3, ssh:// needs dvc-ssh: pip install -c requirements.lock 'dvc[s3,ssh]'"
    )
    monkeypatch.setattr(doctor, "find_spec", lambda name: name)  # anything but None: installed
    assert doctor.remote() == doctor.ok(f"folder {here}")


def test_the_extra_for_remotes_is_the_pinned_dvc() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = next(each for each in project["dependencies"] if each.startswith("dvc=="))
    (remotes,) = project["optional-dependencies"]["remotes"]
    assert remotes.replace("[ssh,s3]", "") == pinned
    assert set(doctor.lacking_packages(["file", "remote", "https", ""])) == set()


def test_a_state_that_cannot_be_saved_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mark(doctor.scratch) == "ok"

    def refused(**_arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    assert "Permission denied" in doctor.scratch().words


def test_text_in_the_folder_that_dvc_empties_is_said(here: Path) -> None:
    assert mark(doctor.raw) == "ok"
    Path("data/raw/text").mkdir(parents=True)
    Path("data/raw/manifest.json").write_text('{"files": [{"path": "text/a.txt"}]}')
    Path("data/raw/text/a.txt").touch()
    assert mark(doctor.raw) == "ok"
    Path("data/raw/mine.txt").touch()
    assert doctor.raw().words.startswith("data/raw/mine.txt was not fetched by the pipeline")
    Path("data/raw/mine.txt").unlink()
    Path("data/raw/manifest.json").write_text("[")
    assert mark(doctor.raw) == "problem"


def test_a_machine_without_memory_or_rest_is_said(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "MEMORY", here / "meminfo")
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert mark(doctor.machine) == "ok"
    (here / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:  4000000 kB\n")
    assert doctor.machine().words.endswith("4.1 GB of memory free")
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (1e6, 0.0, 0.0))
    assert mark(doctor.machine) == "note"
    (here / "meminfo").write_text("MemAvailable:  400000 kB\n")
    assert mark(doctor.machine) == "problem"


def test_a_full_disk_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mark(doctor.disk) == "ok"
    monkeypatch.setattr(doctor, "FREE_BYTES", 1e18)
    assert mark(doctor.disk) == "problem"


def test_a_problem_is_a_status_of_1_and_every_check_has_its_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = {"one": lambda: doctor.ok("fine"), "two": lambda: doctor.problem("bad: fix it")}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    with pytest.raises(SystemExit) as ending:
        run("doctor", loaded("doctor"), [])
    assert ending.value.code == "1 problem: each line says what to do"  # printed, status 1
    assert (
        capsys.readouterr().out == "ok       one          fine\nproblem  two          bad: fix it\n"
    )


def test_the_quick_check_is_silent_where_nothing_would_be_lost(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("folder", "params.yaml"):
        monkeypatch.setitem(doctor.CHECKS, name, lambda: doctor.note("fine"))
    run("doctor", loaded("doctor"), ["--quick"])
    assert capsys.readouterr().out == ""
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/mine.txt").touch()
    with pytest.raises(SystemExit):
        run("doctor", loaded("doctor"), ["--quick"])
    assert capsys.readouterr().out.startswith("problem  data/raw     data/raw/mine.txt")
