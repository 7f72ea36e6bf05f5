"""`dvc plots show` and `dvc plots diff`: offline, with the arms in their own colours."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from ruamel.yaml import YAML

from ncn.common.paths import CURVES, FIGURES, SCANS, training_log
from ncn.common.tsv import read_tsv, write_tsv
from ncn.figures.brain_scan import draw_scans
from ncn.figures.palette import ARM_COLOURS, FURTHER_COLOURS, arm_colours
from ncn.figures.saving import save
from ncn.report.charts import SCAN_COLOURS
from ncn.report.vega import PLOTS_PAGE, plots_page
from ncn.settings import Params
from ncn.signals import SIGNALS
from tests.browser import visit
from tests.conftest import ROOT
from tests.results import write_results

TEMPLATES = ROOT / ".dvc" / "plots"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def plots(*command: str) -> Path:
    """The page that a `dvc plots` command writes."""
    return Path(run(sys.executable, "-m", "dvc", "plots", *command).split("file://")[-1].strip())


@pytest.fixture
def repository(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A repository with our plots, a finished run committed, and another run on top."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    shutil.copytree(TEMPLATES, ".dvc/plots")
    shutil.copy(ROOT / ".dvc" / "config", ".dvc/config")
    yaml = YAML()
    ours = yaml.load((ROOT / "dvc.yaml").read_text())
    with open("dvc.yaml", "w") as file:
        yaml.dump({"plots": ours["plots"]}, file)
    write_results(params)
    run("git", "init", "--quiet")
    run("git", "add", ".")
    run("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "a run")
    write_results(params.model_copy(update={"arms": params.arms | {"run_1": {"frozen": True}}}))
    return params


def test_the_page_is_that_of_the_pinned_vega() -> None:
    assert (ROOT / PLOTS_PAGE).read_text() == plots_page(), "run `python -m ncn plots-page`"


def test_the_templates_have_the_colours_of_the_report() -> None:
    arms = json.loads((TEMPLATES / "arms.json").read_text())["spec"]["encoding"]["color"]["scale"]
    fixed = dict(zip(arms["domain"]["unionWith"], arms["range"], strict=False))
    assert fixed == ARM_COLOURS
    assert arms["range"][len(fixed) :] == list(FURTHER_COLOURS)
    signals = json.loads((TEMPLATES / "signals.json").read_text())
    assert signals["spec"]["encoding"]["color"]["scale"]["range"] == list(SCAN_COLOURS)


def test_the_template_of_the_scan_has_the_signals_as_they_are_declared() -> None:
    text = (TEMPLATES / "signals.json").read_text()
    template = json.loads(text)
    assert template["facet"]["column"]["sort"] == list(SIGNALS)
    for end in (0, 1):
        ends = ", ".join(f"{name}: {signal.scale[end]:g}" for name, signal in SIGNALS.items())
        assert f'"{{{ends}}}[datum.signal]"' in text
    neutral = ", ".join(f"{name}: {signal.neutral:g}" for name, signal in SIGNALS.items())
    assert f'"{{{neutral}}}[datum.signal]"' in text


def test_show_draws_every_arm_in_its_colour_and_asks_for_nothing(
    chromium: Browser, repository: Params
) -> None:
    page = plots("show")
    with visit(chromium, page) as seen:
        seen.page.wait_for_function("() => document.querySelectorAll('svg.marks').length === 4")
        training = seen.page.locator("svg.marks").nth(1)
        for colour in (*(ARM_COLOURS[arm] for arm in repository.arms), FURTHER_COLOURS[0]):
            # One line in the facet of the loss, one in that of the validation loss.
            assert training.locator(f".mark-line path[stroke='{colour}']").count() == 2
        assert seen.page.locator("svg.marks").nth(3).locator(".mark-rect path").count() > 100
    assert seen.said == []
    assert seen.asked == [page.as_uri()]


def test_an_arm_has_the_colour_of_the_report_in_every_chart(
    chromium: Browser, repository: Params
) -> None:
    arms = repository.arms | {arm: {"frozen": True} for arm in ("zeta", "run_1", "alpha")}
    write_results(repository.model_copy(update={"arms": arms}))
    with visit(chromium, plots("show")) as seen:
        seen.page.wait_for_function("() => document.querySelectorAll('svg.marks').length === 4")
        for chart in (1, 2):
            marks = seen.page.locator("svg.marks").nth(chart)
            for arm, colour in arm_colours(arms).items():
                line = f".mark-line path[stroke='{colour}'][aria-label*='arm: {arm};']"
                assert marks.locator(line).count() > 0


def test_files_that_share_a_chart_leave_no_gap(chromium: Browser, repository: Params) -> None:
    write_results(repository.model_copy(update={"seeds": list(range(1, 9))}))
    gap = """(() => {
        const [, first, second] = [...document.querySelectorAll('svg.marks')]
            .map((each) => each.getBoundingClientRect());
        return second.top - first.bottom;
    })()"""
    with visit(chromium, plots("show")) as seen:
        seen.page.wait_for_function("() => document.querySelectorAll('svg.marks').length === 4")
        assert seen.number(gap) < 60


def test_diff_draws_both_revisions(chromium: Browser, repository: Params) -> None:
    log = training_log("ncn-1")
    rows = read_tsv(log)
    write_tsv(log, [row | {"loss": float(row["loss"]) + 1} for row in rows])
    page = plots("diff", "HEAD")
    with visit(chromium, page) as seen:
        seen.page.wait_for_function("() => document.querySelectorAll('svg.marks').length === 4")
        line = f".mark-line path[stroke='{ARM_COLOURS['ncn']}']"
        lines = seen.page.locator("svg.marks").nth(1).locator(line)
        assert lines.count() == 4
        dashes = {each.get_attribute("stroke-dasharray") for each in lines.all()}
        assert len(dashes) == 2
        differences = seen.page.locator("svg.marks").first
        assert differences.locator(".layer_1_marks path").count() == 2 * len(repository.arms) + 1
    assert seen.said == []
    assert seen.asked == [page.as_uri()]


def test_while_the_first_arm_trains_its_curve_is_there(
    chromium: Browser, repository: Params
) -> None:
    CURVES.unlink()
    for arm in (*repository.arms, "run_1"):
        training_log(f"{arm}-1").unlink()
    begun = {"arm": "ncn", "seed": 1, "val_loss": ""}
    points = [begun | {"step": n, "tokens": n * 1024, "loss": 8 / n} for n in (5, 10)]
    write_tsv(training_log("ncn-1"), points)
    with visit(chromium, plots("show")) as seen:
        seen.page.wait_for_function("() => document.querySelectorAll('svg.marks').length === 3")
        line = f".mark-line path[stroke='{ARM_COLOURS['ncn']}']"
        assert seen.page.locator("svg.marks").nth(1).locator(line).count() == 1
    assert seen.said == []


def test_diff_puts_the_scans_of_two_runs_side_by_side(repository: Params) -> None:
    text = repository.brain_scan.texts[0]
    save("brain_scan", draw_scans(read_tsv(SCANS), text))
    run("git", "add", ".")
    run("git", "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "a scan")
    save("brain_scan", draw_scans([row | {"value": "1.5"} for row in read_tsv(SCANS)], text))
    page = plots("diff", "HEAD")
    pictures = re.findall(r'<img src="(static/[^"]*brain_scan.svg)"', page.read_text())
    before, after = ((page.parent / picture).read_bytes() for picture in sorted(pictures))
    assert before != after
    assert after == (FIGURES / "brain_scan.svg").read_bytes()
