"""The README is true."""

import re
from pathlib import Path

import pytest

from ncn.errors import InputError
from ncn.readme import filled
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_figure_is_that_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert filled(README) == README, "run `python -m ncn.readme`"


def test_every_file_it_links_or_lists_exists() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    listed = re.findall(r"^([\w./]+/|[\w.]+\.(?:yaml|md))[, ]", README, re.MULTILINE)
    assert linked
    assert listed
    for name in [*linked, *listed]:
        assert (ROOT / name).exists(), name


def test_every_make_target_and_module_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README.replace("git and make. No", "")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for module in re.findall(r"python -m ([\w.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module


def test_a_readme_without_its_block_is_refused() -> None:
    with pytest.raises(InputError, match="no block from"):
        filled("nothing here")


def test_readme_is_beside_its_licence() -> None:
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT License")
