"""What test files share is made once, and made again where that failed."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.project import made_once


def test_a_shared_folder_is_filled_once_and_whole_for_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def fill(folder: Path) -> None:
        (folder / "begun").touch(exist_ok=False)
        time.sleep(0.2)
        (folder / "ended").touch()

    def ask(_: int) -> bool:
        return (made_once(tmp_path_factory, "shared by three", fill) / "ended").exists()

    with ThreadPoolExecutor(3) as workers:
        assert list(workers.map(ask, range(3))) == [True] * 3


def test_a_shared_folder_that_failed_is_made_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        made_once(tmp_path_factory, "failed once", fail)
    folder = made_once(tmp_path_factory, "failed once", lambda folder: (folder / "all").touch())
    assert [path.name for path in folder.iterdir()] == ["all"]
