"""Runs that params.yaml does not name go, unless that would lose them."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from ncn.common.dvc_cache import why_unknown
from ncn.common.leftovers import clear_adapted, remove_unnamed
from ncn.common.paths import ADAPTED, CACHED_RUNS, COPIED_RUNS, MODELS, SCORED, TUNED

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep")  # of a package of DVC's


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, of which DVC's cache holds both models and the scores of one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for run in ("ncn-1", "ncn-2"):
        for folder in (MODELS, SCORED):
            (folder / run).mkdir(parents=True)
            (folder / run / "scores.json").write_text(f"{folder} {run}")
        for folder in COPIED_RUNS:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{run}.tsv").write_text(run)
    for arm in ("ncn", "old"):
        (TUNED / arm).mkdir(parents=True)
        (TUNED / arm / "chosen.json").write_text(arm)
    with Repo.init(no_scm=True) as repo:
        repo.add(["data/models/ncn-1", "data/models/ncn-2", "data/scores/ncn-1"])
    for file in Path("data").rglob("*.dvc"):
        file.unlink()
    return tmp_path


def there() -> set[str]:
    return {str(each) for folder in (*CACHED_RUNS, *COPIED_RUNS) for each in folder.glob("[!.]*")}


def test_only_what_comes_back_from_the_cache_or_is_a_copy_goes(project: Path) -> None:
    before = there()
    assert remove_unnamed(["ncn"], [1], dry=True) == remove_unnamed(["ncn"], [1])
    assert before - there() == {
        "data/models/ncn-2",
        *(f"{folder}/ncn-2.tsv" for folder in COPIED_RUNS),
    }
    assert remove_unnamed(["ncn"], [1]).kept == [Path("data/scores/ncn-2"), Path("data/tuning/old")]


def test_what_the_cache_holds_is_unknown_without_a_repository(project: Path) -> None:
    assert why_unknown() is None
    shutil.rmtree(".dvc")
    assert "not inside of a DVC repository" in (why_unknown() or "")


def test_a_model_that_was_changed_by_hand_stays(project: Path) -> None:
    (project / "data/models/ncn-2/scores.json").write_text("mine")
    assert Path("data/models/ncn-2") in remove_unnamed(["ncn"], [1]).kept
    assert remove_unnamed(["ncn"], [1, 2]) == ([], [Path("data/tuning/old")])


def test_a_model_that_was_trained_again_goes_likewise(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ADAPTED).mkdir()
    (project / ADAPTED / ".gitignore").touch()
    shutil.copytree(project / "data/models/ncn-1", project / ADAPTED / "ncn-full-1")
    shutil.copytree(project / "data/models/ncn-2", project / ADAPTED / "ncn-full-2")
    (project / ADAPTED / "ncn-lora-1").mkdir()
    (project / ADAPTED / "ncn-lora-1/mine").touch()
    clear_adapted(["ncn-full-1"])
    left = sorted(place.name for place in (project / ADAPTED).iterdir())
    assert left == [".gitignore", "ncn-full-1", "ncn-lora-1"]
    assert "ncn-full-2" in (said := capsys.readouterr().err)
    assert "ncn-lora-1 is no run of params.yaml, and DVC's cache has no copy" in said
