"""Two branches with results of their own: a merge leaves each file whole."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

MADE = ("dvc.lock", "metrics/summary.json", "metrics/train/ncn-1.json", "plots/train/ncn-1.tsv")


def test_no_result_is_ever_made_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    shutil.copy(ROOT / ".gitattributes", tmp_path)

    def git(*command: str) -> int:
        identity = ("-c", "user.name=x", "-c", "user.email=x")
        return subprocess.run(["git", *identity, *command], capture_output=True).returncode

    def results(of: str) -> None:
        for name in MADE:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            # Each branch changes lines of its own, which git alone would merge without a word.
            lines = [f"{of}\n" if of.startswith(str(n)) else f"{n}\n" for n in range(9)]
            Path(name).write_text("".join(lines))
        git("add", "-A")
        assert git("commit", "-qm", of) == 0

    git("init", "-q", "-b", "main")
    results("both")
    git("switch", "-qc", "other")
    results("1 of theirs")
    git("switch", "-q", "main")
    results("7 of ours")
    ours = Path("dvc.lock").read_text()
    assert git("merge", "other") != 0
    assert {Path(name).read_text() for name in MADE} == {ours}
    git("checkout", "--theirs", *MADE)
    assert all("of theirs" in Path(name).read_text() for name in MADE)
    assert not any("of ours" in Path(name).read_text() for name in MADE)
