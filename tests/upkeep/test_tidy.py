"""What `tidy` says of unfinished work, which it never removes, and of what kills left."""

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from dvc.ignore import DvcIgnoreFilter
from dvc.repo import Repo

from ncn.common.scratch import locked
from ncn.upkeep import tidy
from tests.conftest import PARAMS, ROOT

PART = f".scratch/download/{'0' * 64}.part"
HALF_WRITTEN = [
    ".params.yaml.new",
    "data/.raw.new",
    "data/.tokens.new",
    "data/models/.ncn-1.new",
    "metrics/.summary.json.new",
    "plots/train/.old-1.tsv.new",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def left_by_a_kill(age: float) -> None:
    """Each as it may be found, last changed `age` seconds ago; a folder's file is its newest."""
    then = time.time() - age
    for place in map(Path, [*HALF_WRITTEN, PART]):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffixes[0] in (".json", ".tsv", ".yaml", ".part"):
            place.write_text("half")
            os.utime(place, (then, then))
        else:
            (place / "text").mkdir(parents=True, exist_ok=True)
            inside = place / "text" / ".a.txt.new"
            inside.write_text("half")
            os.utime(inside, (then, then))
            os.utime(place / "text", (0, 0))
            os.utime(place, (0, 0))


def tidied(capsys: pytest.CaptureFixture[str], dry: bool = False) -> list[str]:
    tidy.run(argparse.Namespace(dry_run=dry))
    return capsys.readouterr().out.splitlines()


def test_what_a_kill_left_half_written_goes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw/text").mkdir(parents=True)
    mine = [Path("data/raw/text/.a.new"), Path(".mine.new")]
    for file in mine:
        file.write_text("mine")
        os.utime(file, (0, 0))
    left_by_a_kill(age=3700)
    named = [*HALF_WRITTEN, PART]
    assert tidied(capsys, dry=True) == [f"would be removed: {each}" for each in sorted(named)]
    assert all(map(os.path.exists, named))
    assert tidied(capsys) == [f"removed: {each}" for each in sorted(named)]
    assert not any(map(os.path.exists, named))
    assert all(file.exists() for file in mine)
    assert tidied(capsys) == [
        "nothing is there that params.yaml does not name, and nothing half written"
    ]


def test_what_may_be_being_written_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_by_a_kill(age=3500)
    assert [line.split(": ")[:2] for line in tidied(capsys)] == [
        ["kept", each] for each in sorted([*HALF_WRITTEN, PART])
    ]
    assert all(map(os.path.exists, [*HALF_WRITTEN, PART]))
    left_by_a_kill(age=3700)
    with locked(Path(PART).parent, "downloads"):
        assert [line for line in tidied(capsys) if line.startswith("kept")] == [
            f"kept: {PART}: half written, perhaps now: it goes once an hour has passed"
        ]
    assert Path(PART).exists()


def test_git_and_dvc_do_not_see_what_a_kill_left(project: Path) -> None:
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, project)
    subprocess.run(["git", "init", "-q"], check=True)
    left_by_a_kill(age=0)
    shown = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["??", ".dvcignore", "??", ".gitignore", "??", "params.yaml"]
    with Repo.init(no_scm=True) as repo:
        seen = DvcIgnoreFilter(repo.fs, repo.root_dir)
        assert [str(each) for each in seen.find(repo.fs, str(project / "data/models"))] == []


def test_unfinished_tokenizing_is_said_with_what_removes_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(".scratch/tokenize-0123456789abcdef")
    with locked(folder, "tokenizes"):
        (folder / "000000.train").write_bytes(bytes(2_000_000))
        tidy.run(argparse.Namespace(dry_run=True))
    assert (
        f"kept: {folder}: 2 MB of token ids, unfinished; tokenizes now" in capsys.readouterr().out
    )
    tidy.run(argparse.Namespace(dry_run=False))
    assert (
        f"kept: {folder}: 2 MB of token ids, unfinished; rm -r {folder}" in capsys.readouterr().out
    )
    assert (folder / "000000.train").exists()
