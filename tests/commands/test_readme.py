"""The README is true."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from ncn.__main__ import COMMANDS
from ncn.commands.readme import DVC_LOCK, block, filled
from ncn.commands.summary import committed, table
from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import (
    COMPARISON,
    PUBLISHED_RUN,
    SCALING,
    SUMMARY,
    evaluation_metrics,
    run_name,
)
from ncn.published.log import published_penalty
from ncn.published.run_1 import PUBLISHED_RUN_1
from ncn.settings import Params
from ncn.studies.headline import NOTHING
from tests.conftest import ROOT
from tests.results import write_results

README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCKED = "stages: {download: {params: {params.yaml: {data: {source: builtin}}}}}"


def test_the_committed_block_is_made_of_the_committed_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of the last commit: what a user has run since is no part of it."""
    monkeypatch.chdir(ROOT)
    if shutil.which("git") is None or (readme := committed(Path("README.md"))) is None:
        pytest.skip("skipped: there is no git here, or no commit")
    assert filled(readme, committed) == readme, "run `python -m ncn readme` and commit README.md"


@pytest.fixture
def run(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A made-up run in the present folder."""
    monkeypatch.chdir(tmp_path)
    write_results(params)
    DVC_LOCK.write_text(LOCKED)
    return params


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (SUMMARY, ("ncn", "val_ppl")),
        (SUMMARY, ("ncn", "delta_ppl_low")),
        (COMPARISON, ("arms", "baseline", "parameters")),
        (COMPARISON, ("arms", "ncn", "scores", "as_trained", "ppl")),
        (evaluation_metrics(run_name("baseline", 1)), ("yardsticks", "bigram")),
        (COMPARISON, ("sequences",)),
    ],
)
def test_a_figure_that_changed_is_noticed(run: Params, path: Path, keys: tuple[str, ...]) -> None:
    before = block()
    content = read_json(path)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] *= 2
    path.write_text(json.dumps(content))
    assert block() != before


def test_the_terminals_table_has_a_line_an_arm(run: Params) -> None:
    summary, comparison = read_json(SUMMARY), read_json(COMPARISON)
    lines = table(summary, comparison["arms"]).splitlines()
    assert [line.split()[0] for line in lines] == ["arm", *run.arms]
    assert "sees the future as trained?" in lines[0]
    assert "-0.0123 [-0.0235, +0.0035]" in lines[2]
    assert "1,056,897" in lines[2]


def test_scores_that_are_no_language_models_have_columns_of_their_own(run: Params) -> None:
    rows = [line.split(" | ") for line in block().splitlines() if line.startswith("| `")]
    assert [row[-2:] for row in rows] == [["–", "– |"], ["3.0042", "3.9876 |"], ["–", "3.9876 |"]]
    assert "of these checkpoints" in block()


def test_the_source_is_that_of_the_run_and_not_of_the_settings(run: Params) -> None:
    assert "This run used `data.source: builtin`" in block()
    DVC_LOCK.write_text(LOCKED.replace("builtin", "tinystories-v2"))
    assert "This run used" not in block()


def test_only_the_block_is_written_anew(run: Params) -> None:
    studies = "<!-- studies -->\nolder\n<!-- /studies -->\n"
    before = f"{studies}3.471 is typed\n<!-- result -->\nold\n<!-- /result -->\nso is 1.234\n"
    SCALING.unlink()
    after = filled(before)
    assert after == before.replace("older\n", NOTHING).replace("old\n", block())
    assert filled(after) == after


@pytest.mark.parametrize("path", [SUMMARY, COMPARISON, DVC_LOCK])
def test_a_file_that_is_missing_or_older_is_named(run: Params, path: Path) -> None:
    path.write_text("{}")
    if path != SUMMARY:
        with pytest.raises(InputError, match=r"has no '.*': run `dvc repro`"):
            block()
    path.unlink()
    with pytest.raises(InputError, match=f"{path} does not exist: run"):
        block()


def precision(z: float) -> float:
    return math.log1p(math.exp(z)) + 0.01


def gate(z: float) -> float:
    return 1 / (1 + math.exp(-z))


PENALTY = published_penalty(ROOT / PUBLISHED_RUN)
# Figures that prose may tell, by the sentence, and what they are: read here, made nowhere.
TRUE = {
    r"perplexity of\s+([\d.]+) for (\d+) M parameters": [
        f"{PUBLISHED_RUN_1['val_ppl']:.2f}", f"{PUBLISHED_RUN_1['parameters'] / 1e6:.0f}",
    ],
    r"TinyStoriesV2 \(([\d.]+) GB": [f"{2_227_753_162 / 1e9:.1f}"],
    r"starts at β ≈ ([\d.]+), γ ≈ ([\d.]+)": [
        f"{precision(0.525):.2g}", f"{gate(3.0):.2g}",  # the biases of preprint 4.1.4
    ],
    r"β = ([\d.]+), γ = ([\d.]+)": [f"{precision(0):.3g}", f"{gate(0):.3g}"],
    r"penalty at ([\d.]+) to ([\d.]+) throughout, in the range of\s+untrained control networks"
    r" \(([\d.]+) to ([\d.]+)": [
        f"{PENALTY['low']:.4f}", f"{PENALTY['high']:.4f}",
        *(f"{end:.4f}" for end in PENALTY["untrained"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("sentence", TRUE)
def test_a_figure_that_the_prose_tells_is_true(sentence: str) -> None:
    prose = "\n".join([README, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))])
    told = [list(found.groups()) for found in re.finditer(sentence, prose)]
    assert told
    assert all(figures == TRUE[sentence] for figures in told)


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


def test_a_readme_without_its_block_is_refused() -> None:
    with pytest.raises(InputError, match="no block from"):
        filled("nothing here")


def test_readme_is_beside_its_licence() -> None:
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT License")
