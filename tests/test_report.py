"""The report: one page that needs nothing beside itself, and says what it lacks."""

import base64
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ncn.artifacts import (
    BRAIN_SCAN,
    BRAIN_SCAN_PLOTS,
    COMPARISON,
    CONVERGENCE,
    CONVERGENCE_PLOT,
    REPORT,
    SAMPLES,
    SUMMARY,
    TOKENS,
    evaluation_metrics,
    run_name,
    training_metrics,
)
from ncn.charts import arm_colours
from ncn.config import SIGNALS, Params
from ncn.files import write_json
from ncn.report import (
    PUBLISHED_SETTINGS,
    delta_chart,
    gather,
    has_control,
    interval,
    not_finite,
    number,
    render,
)
from stages import report as stage

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
CURVE = {
    "status": "still improving",
    "slope_per_1k": -0.12345,
    "slope_low": -0.2,
    "slope_high": -0.05,
    "last_loss": 1.34567,
    "grammar_95": {"sei": 0.31234, "step": 240, "sei_by_smoothing_span": {"25": 0.35, "100": None}},
    "intellectual_99": {"sei": None, "step": None, "reason": "the phase has not ended"},
    "tokens_to_reach": {"4.0": 20480, "3.0": 40960, "2.5": None, "2.0": None},
    "power_law": {"a": None, "b": None, "c": None, "reason": "the fit did not converge"},
}


class Page(HTMLParser):
    """What a page asks for, and the text of its table cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}
        ]
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"} and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += " ".join(data.split())

    def row(self, head: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == head)


def summary_of(params: Params) -> dict[str, dict[str, float]]:
    entries: dict[str, dict[str, float]] = {}
    for place, arm in enumerate(params.arms):
        loss = 1.23456 + 0.01 * place
        entries[arm] = {
            "val_loss": loss,
            "val_ppl": math.exp(loss),
            "val_bpb": 0.456789,
            "parameters": 1056896 + place,
            "flops_per_token": 2_000_000 + 50_000 * place,
            "future_leak": 0.837123 if arm == "ncn" else 0.0,
        }
        if arm != "baseline":
            entries[arm] |= {
                "val_ppl_reactive": 3.98765,
                "delta_ppl": -0.0123456,
                "delta_ppl_low": -0.0234567,
                "delta_ppl_high": 0.0034567,
            }
    return entries


@pytest.fixture
def params(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The committed settings, in a folder that holds all inputs of the report."""
    monkeypatch.chdir(tmp_path)
    write_json(SUMMARY, summary_of(params))
    in_words = {arm: f"{arm}: said in words." for arm in params.arms}
    write_json(COMPARISON, {"sequences": 3200, "seeds": params.seeds, "in_words": in_words})
    part = {"rows": 900, "tokens": 115200, "bytes_per_token": 3.9}
    split = params.split.model_dump() | {"seed": params.seed}
    counts = {"stories": 1000, "tokens": 234567, "vocab_size": 2048, "context_length": 128}
    meta = counts | {"split": split, "train": part, "val": part, "digest": "ab" * 32}
    write_json(TOKENS / "meta.json", meta)
    curves, scans = {}, {}
    signal = {"mean": 1.0, "sd": 0.1, "layer_means": [0.91] * params.model.n_layers}
    scan = [{"text": text} | dict.fromkeys(SIGNALS, signal) for text in params.brain_scan.texts]
    for arm in params.arms:
        for seed in params.seeds:
            run = run_name(arm, seed)
            trained = {"parameters": 1056896, "d_ff": 512, "steps": 940, "tokens": 1925120}
            losses = {"first_loss": 7.6, "last_loss": 1.3}
            write_json(training_metrics(run), trained | losses | {"data": meta["digest"]})
            yardsticks = {"uniform": math.log(2048), "unigram": 5.9, "bigram": math.log(22.204)}
            write_json(evaluation_metrics(run), {"yardsticks": yardsticks})
            curves[run] = CURVE
            if has_control(params, arm):
                scans[run] = {"trained": scan, "untrained": scan}
                BRAIN_SCAN_PLOTS.mkdir(parents=True, exist_ok=True)
                (BRAIN_SCAN_PLOTS / f"{run}.png").write_bytes(PIXEL)
    write_json(CONVERGENCE, {"runs": curves, "published run 1": CURVE})
    write_json(BRAIN_SCAN, scans)
    texts = {run: f" a tale by {run} <b>" for run in curves}
    write_json(SAMPLES, {"samples": dict.fromkeys(params.generate.prompts, texts)})
    CONVERGENCE_PLOT.write_bytes(PIXEL)
    return params


def page_of(params: Params) -> Page:
    return Page(render(params, gather(params)))


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))  # unlike write_json, this writes NaN


def test_the_page_asks_for_nothing_beside_itself(params: Params) -> None:
    html = render(params, gather(params))
    page = Page(html)
    pictures = 1 + len(params.seeds) * sum(has_control(params, arm) for arm in params.arms)
    assert page.tags.count("img") == pictures
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"script", "iframe", "object", "embed", "audio", "video"} & set(page.tags)
    assert "url(" not in html
    assert "@import" not in html
    assert "://" not in html


def test_complete_inputs_leave_nothing_missing(params: Params) -> None:
    inputs = gather(params)
    assert inputs.missing == []
    assert "What is missing" not in render(params, inputs)


def test_equal_inputs_give_equal_bytes(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load_params", lambda: params)
    stage.main()
    first = REPORT.read_bytes()
    REPORT.unlink()
    stage.main()
    assert REPORT.read_bytes() == first
    assert str(Path.cwd()).encode() not in first


def test_the_table_shows_the_figures_of_the_summary(params: Params) -> None:
    page = page_of(params)
    assert page.row("ncn") == [
        "ncn",
        "1.245",
        "3.471",
        "−0.01235[−0.02346, +0.00346]",
        "0.4568",
        "1,056,897",
        "2,050,000× 1.025",
        "yes: logits move by up to 0.8371",
        "3.988",
    ]
    assert page.row("baseline")[3] == "–"
    assert page.row("ncn_causal")[7] == "no"
    assert page.row("bigram")[2] == "22.20"


def test_every_arm_has_its_verdict_its_row_and_its_colour(params: Params) -> None:
    arms = params.arms | {"run_1": {"init": "zero", "frozen": True}}
    more = params.model_copy(update={"arms": arms})
    html = render(more, gather(more))
    for arm, colour in arm_colours(["published", *arms]).items():
        assert arm in html
        assert f"--arm: {colour}" in html
    assert all(f"{arm}: said in words." in html for arm in params.arms)
    assert "run_1: not compared yet" in html


def test_every_seed_has_its_rows_and_the_page_says_that_it_averages(params: Params) -> None:
    assert "One seed: the interval is over sequences" in page_of(params).text
    page = page_of(params.model_copy(update={"seeds": [*params.seeds, 77]}))
    assert "mean of 2 seeds" in page.text
    assert "One seed" not in page.text
    heads = [row[0] for row in page.rows if row]
    expected = 3 + len(params.generate.prompts)  # how it ends, tokens to reach, the runs; samples
    assert all(heads.count(run_name(arm, 77)) == expected for arm in params.arms)


def test_an_arm_that_was_not_trained_is_named_and_not_raised(params: Params) -> None:
    run = run_name("ncn", params.seeds[0])
    training_metrics(run).unlink()
    edit(SUMMARY, lambda summary: summary.pop("ncn"))
    (BRAIN_SCAN_PLOTS / f"{run}.png").unlink()
    page = page_of(params)
    assert f"{training_metrics(run)} does not exist" in page.text
    assert f"{SUMMARY} says nothing of ncn" in page.text
    assert f"{BRAIN_SCAN_PLOTS / run}.png does not exist" in page.text
    assert page.row("ncn")[1:] == ["–"] * 8
    assert page.row("ncn_causal")[2] == "3.506"


def test_a_page_of_nothing_at_all_still_names_every_input(params: Params) -> None:
    files = [path for path in Path().rglob("*") if path.is_file()]
    for path in files:
        path.unlink()
    page = page_of(params)
    assert all(f"{path} does not exist" in page.text for path in files)
    assert all(arm in page.text for arm in params.arms)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '"text"'])
def test_json_of_another_shape_is_named_and_not_raised(params: Params, content: str) -> None:
    paths = [path for path in Path().rglob("*.json") if path.is_file()]
    for path in paths:
        path.write_text(content)
    missing = gather(params).missing
    assert all(any(gap.startswith(f"{path} ") for gap in missing) for path in paths)
    assert page_of(params).row("baseline")[2] == "–"


@pytest.mark.parametrize("key", ["val_loss", "val_ppl", "future_leak", "delta_ppl_low"])
def test_nan_is_named_and_shown_as_a_dash(params: Params, key: str) -> None:
    edit(SUMMARY, lambda summary: summary["ncn"].update({key: math.nan}))
    page = page_of(params)
    assert f"{SUMMARY}: ncn.{key} is not a number" in page.text
    assert not any("nan" in cell.split() for row in page.rows for cell in row)


def test_damaged_json_is_named_and_not_raised(params: Params) -> None:
    CONVERGENCE.write_text("{")
    page = page_of(params)
    assert f"{CONVERGENCE} is not JSON" in page.text
    assert page.row("ncn")[2] == "3.471"


def test_figures_of_other_tokens_are_named(params: Params) -> None:
    run = run_name("ncn", params.seeds[0])
    edit(training_metrics(run), lambda train: train.update(data="cd" * 32))
    assert f"{run} was trained on other tokens than data/tokens" in page_of(params).text


def test_markup_in_names_and_texts_is_escaped(params: Params) -> None:
    attack = "<script>alert(1)</script>"
    edit(COMPARISON, lambda comparison: comparison["in_words"].update(ncn=attack))
    scan = params.brain_scan.model_copy(update={"texts": [attack]})
    arms = params.arms | {attack: {}}  # load_params would refuse the name
    changed = params.model_copy(update={"arms": arms, "brain_scan": scan})
    html = render(changed, gather(changed))
    assert "script" not in Page(html).tags
    assert html.count("&lt;script&gt;") > 5


def test_the_published_figure_stands_only_beside_the_published_experiment(params: Params) -> None:
    assert "4.5184" not in page_of(params).text
    assert "data.source is builtin, published tinystories-v2" in page_of(params).text
    changes: dict[str, dict[str, object]] = {}
    for key, value in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        changes.setdefault(section, {})[name] = value
    same = {name: getattr(params, name).model_copy(update=each) for name, each in changes.items()}
    page = page_of(params.model_copy(update=same))
    assert page.row("published run 1")[1:3] == ["1.5082", "4.5184"]
    assert "not the published experiment" not in page.text


def test_the_chart_puts_low_point_and_high_in_order_around_zero(params: Params) -> None:
    chart = delta_chart(summary_of(params), arm_colours(params.arms))
    assert chart is not None
    assert [row.arm for row in chart.rows] == [arm for arm in params.arms if arm != "baseline"]
    for row in chart.rows:
        assert 0 < row.low < row.value < chart.zero < row.high < 100
        assert row.hollow == (row.arm == "ncn")
    assert (chart.zero, "0") in chart.ticks
    assert delta_chart({"baseline": {"val_ppl": 3.4}}, {}) is None


def test_equal_arms_have_a_chart_too() -> None:
    same = {"ncn": dict.fromkeys(("delta_ppl", "delta_ppl_low", "delta_ppl_high"), 0.0)}
    chart = delta_chart(same, {"ncn": "#0072B2"})
    assert chart is not None
    assert chart.rows[0].value == chart.zero == 50


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.234567, "1.235"),
        (0.0123456, "0.01235"),
        (-12.3456, "−12.35"),
        (12345.6, "12,346"),
        (0, "0"),
        (0.0000123456, "1.235e−05"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_four_significant_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_intervals_share_their_decimals() -> None:
    assert interval(0.5, -1.25, 2.25, signed=True) == "+0.500 [−1.250, +2.250]"
    assert interval(0.5, None, 2.0) == "0.5000"
    assert interval(0.0, 0.0, 0.0) == "0 [0, 0]"


def test_nan_is_found_at_any_depth() -> None:
    assert list(not_finite({"a": [{"b": math.inf}, 1.0], "c": None})) == ["a[0].b"]


def test_every_prompt_stands_with_the_text_of_every_run(params: Params) -> None:
    page = page_of(params)
    for prompt in params.generate.prompts:
        assert prompt in page.text
    for run in (run_name(arm, seed) for arm in params.arms for seed in params.seeds):
        assert page.text.count(f"a tale by {run} <b>") == len(params.generate.prompts)
