"""What `tidy` says of unfinished work, which it never removes."""

import argparse
import shutil
from pathlib import Path

import pytest

from ncn.common.scratch import locked
from ncn.upkeep import tidy
from tests.conftest import ROOT


def test_unfinished_tokenizing_is_said_with_what_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
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
