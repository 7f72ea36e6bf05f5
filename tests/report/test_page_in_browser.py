"""The report as a reader meets it: in a browser, on a phone, in the dark, on paper."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ncn.common.files import write_text
from ncn.common.paths import REPORT, training_log
from ncn.common.tsv import read_tsv
from ncn.report.inputs import gather
from ncn.report.page import render
from ncn.settings import Params
from tests.browser import visit
from tests.conftest import profiled
from tests.results import write_results

MARKS = "svg.marks :is(path, line, circle)[stroke], svg.marks path[fill]"


@pytest.fixture(scope="module")
def report(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of a made-up run with two seeds."""
    folder = tmp_path_factory.mktemp("report")
    two = params.model_copy(update={"seeds": [1, 2]})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_results(two)
        write_text(REPORT, render(two, gather(two)))
        yield folder / REPORT


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_chart_comes_alive_with_marks_and_the_page_asks_for_nothing(
    chromium: Browser, report: Path, width: int, dark: bool
) -> None:
    with visit(chromium, report, width, dark) as seen:
        seen.see_all()
        charts = seen.page.locator("[data-chart]")
        assert charts.count() > 20
        for place in range(charts.count()):
            assert charts.nth(place).locator(MARKS).count() > 3
            assert charts.nth(place).locator("svg").count() == 1  # the picture made way
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.said == []
    assert seen.asked == [report.as_uri()]


def test_no_chart_is_wider_than_its_place_on_a_phone(chromium: Browser, report: Path) -> None:
    with visit(chromium, report, width=390) as seen:
        seen.see_all()
        wide = """[...document.querySelectorAll('[data-chart]')].filter(each =>
            each.querySelector('svg').getBoundingClientRect().width > each.clientWidth + 1)"""
        assert seen.number(f"{wide}.length") == 0


def test_a_claims_figure_reads_as_one_line_on_a_phone(chromium: Browser, report: Path) -> None:
    with visit(chromium, report, width=390) as seen:
        figure = seen.page.locator(".claims td.figure[data-head]").nth(1)
        assert figure.inner_text() == "0.2500 [0.1500, 0.3500] nats"


def test_no_table_of_words_needs_scrolling_on_a_phone(chromium: Browser, report: Path) -> None:
    with visit(chromium, report, width=390) as seen:
        for section in ("claims", "differs"):
            box = seen.page.locator(f"#{section} .box").first
            assert box.evaluate("each => each.scrollWidth - each.clientWidth") <= 0


def test_without_scripts_the_pictures_stand_and_the_switches_do_not(
    chromium: Browser, report: Path
) -> None:
    with visit(chromium, report, width=390, scripts=False) as seen:
        for chart in seen.page.locator("[data-chart]").all():
            assert chart.locator(MARKS).count() > 3
        assert not any(each.is_visible() for each in seen.page.locator(".switches").all())
    assert seen.said == []


def test_an_arm_that_is_switched_off_leaves_every_chart_and_comes_back(
    chromium: Browser, report: Path
) -> None:
    lines = "document.querySelectorAll('[data-chart=loss] path[stroke=\"var(--arm-1)\"]').length"
    points = "document.querySelectorAll('[data-chart=scatter] path[fill=\"var(--arm-2)\"]').length"
    with visit(chromium, report) as seen:
        seen.see_all()
        before = seen.number(lines), seen.number(points)
        assert min(before) > 0
        seen.page.locator('#learning [data-arm="baseline"]').click()
        seen.page.locator('#sequences [data-arm="ncn"]').click()
        seen.page.wait_for_function(f"() => {lines} + {points} === 0")
        pressed = "document.querySelectorAll('[data-arm=ncn][aria-pressed=true]').length"
        assert seen.number(pressed) == 0
        seen.page.locator('#learning [data-arm="baseline"]').click()
        seen.page.locator('#learning [data-arm="ncn"]').click()
        seen.page.wait_for_function(f"() => {lines} === {before[0]} && {points} === {before[1]}")
    assert seen.said == []


def test_the_pointer_reads_the_figures_of_every_arm(chromium: Browser, report: Path) -> None:
    with visit(chromium, report) as seen:
        seen.see_all()
        box = seen.page.locator("[data-chart=loss] svg")
        box.scroll_into_view_if_needed()
        box.hover(position={"x": 300, "y": 120})
        tip = seen.page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        shown = [row.inner_text().split() for row in tip.locator("tr").all()]
        assert [key for key, _ in shown] == ["tokens", "baseline", "ncn", "ncn_causal"]
        at = float(shown[0][1].replace(",", ""))
        for arm, figure in shown[1:]:
            logs = [read_tsv(report.parent.parent / training_log(f"{arm}-{n}")) for n in (1, 2)]
            losses = [float(r["loss"]) for log in logs for r in log if float(r["tokens"]) == at]
            assert float(figure) == pytest.approx(sum(losses) / 2, abs=1e-3)


def test_the_dark_page_is_dark_and_the_paper_is_white(chromium: Browser, report: Path) -> None:
    lightness = """(property => {
        const [red, green, blue] = getComputedStyle(document.body)[property].match(/\\d+/g);
        return (+red + +green + +blue) / 765;
    })"""
    baseline = "getComputedStyle(document.body).getPropertyValue('--arm-1')"
    with visit(chromium, report, dark=True) as seen:
        assert seen.number(f"{lightness}('backgroundColor')") < 0.15
        assert seen.number(f"{lightness}('color')") > 0.8
        on_dark = seen.page.evaluate(baseline)
        seen.page.emulate_media(media="print")
        assert seen.number(f"{lightness}('backgroundColor')") == 1
        assert seen.number(f"{lightness}('color')") == 0
        assert seen.page.evaluate(baseline) != on_dark
        assert not seen.page.locator("#learning .switches").is_visible()
        assert seen.page.locator("[data-chart=loss] svg").is_visible()


def test_on_paper_a_row_of_charts_may_start_where_the_text_ends(
    chromium: Browser, report: Path
) -> None:
    # One that must not be torn from what follows takes Chromium's whole grid to the next page.
    glued = """[...document.querySelectorAll('.charts *')]
        .filter((each) => getComputedStyle(each).breakAfter === 'avoid')"""
    with visit(chromium, report) as seen:
        seen.page.emulate_media(media="print")
        assert seen.number(f"{glued}.length") == 0
        whole = "getComputedStyle(document.querySelector('.charts > figure')).breakInside"
        assert seen.page.evaluate(whole) == "avoid"


def test_a_page_of_many_arms_and_no_baseline_is_quiet_too(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ablations = profiled("ablations")
    arms = {arm: changes for arm, changes in ablations.arms.items() if arm != "baseline"}
    many = ablations.model_copy(update={"arms": arms})
    write_results(many)
    write_text(REPORT, render(many, gather(many)))
    with visit(chromium, tmp_path / REPORT, width=390) as seen:
        seen.see_all()
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.said == []
    assert len(seen.asked) == 1


def test_a_script_that_is_not_the_pages_own_does_not_run(
    chromium: Browser, report: Path, tmp_path: Path
) -> None:
    policy = report.read_text(encoding="utf-8").split("Content-Security-Policy", 1)[1].split(">")[0]
    assert "unsafe" not in policy.split("script-src")[1]
    foreign = "<script>document.title = 'foreign'</script><b onclick='document.title = 1'>x</b>"
    page = tmp_path / "page.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</main>", f"{foreign}</main>"))
    with visit(chromium, page) as seen:
        seen.page.locator("b", has_text="x").last.click()
        seen.see_all()
        assert seen.page.title() not in ("foreign", "1")
    assert [said for said in seen.said if "Content Security Policy" in said]
