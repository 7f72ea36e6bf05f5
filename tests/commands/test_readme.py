"""The README is true."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ncn.__main__ import COMMANDS
from ncn.commands.readme import BLOCK, FIGURES, filled
from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import CONVERGENCE, SUMMARY, evaluation_metrics, run_name
from ncn.settings import Params
from tests.conftest import ROOT
from tests.results import write_results

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_figure_is_that_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert filled(README) == README, "run `python -m ncn readme`"


@pytest.fixture
def here(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The README, filled from a made-up run in the present folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    write_results(params)
    return filled(README)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (SUMMARY, ("ncn", "val_ppl")),
        (SUMMARY, ("ncn", "delta_ppl_low")),
        (SUMMARY, ("baseline", "parameters")),
        (evaluation_metrics(run_name("baseline", 1)), ("yardsticks", "bigram")),
        (CONVERGENCE, ("published run 1", "penalty", "high")),
    ],
)
def test_a_figure_that_changed_is_noticed(here: str, path: Path, keys: tuple[str, ...]) -> None:
    assert filled(here) == here
    content = read_json(path)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] *= 2
    path.write_text(json.dumps(content))
    assert filled(here) != here


def test_a_setting_that_changed_is_noticed(here: str) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("bytes: 2227753162", "bytes: 3227753162"))
    assert "(3.2 GB" in filled(here)


def test_a_typed_figure_is_overwritten(here: str) -> None:
    forged = here.replace("perplexity of 4.52", "perplexity of 3.99").replace("3.471", "1.234")
    assert forged != here
    assert filled(forged) == here


def test_no_figure_of_the_prose_is_typed_by_hand() -> None:
    prose = BLOCK.sub("", README)
    for sentence in FIGURES.values():
        prose, found = re.subn(sentence, "", prose)
        assert found == 1, sentence
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", prose, flags=re.DOTALL)
    prose = re.sub(
        r"Python 3\.\d+ to 3\.\d+|preprint,? [\d.]+|Li, 2023|signals at 1", "", prose
    )  # no figures
    assert re.findall(r"(?<![\w.-])\d[\d.,]*", prose) == []


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
    for command in re.findall(r"python -m ncn ([\w-]+)", README):
        assert command in COMMANDS, command


def test_metrics_of_an_older_pipeline_are_named(here: str) -> None:
    content = read_json(CONVERGENCE)
    del content["published run 1"]["penalty"]
    CONVERGENCE.write_text(json.dumps(content))
    with pytest.raises(InputError, match="metrics/ has no 'penalty': run `dvc repro`"):
        filled(here)


def test_a_readme_without_its_block_is_refused() -> None:
    with pytest.raises(InputError, match="no block from"):
        filled("nothing here")


def test_readme_is_beside_its_licence() -> None:
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT License")
