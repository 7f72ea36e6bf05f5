"""The report: one page that needs nothing beside itself, and says what it lacks."""

import json
import math
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ncn.common.files import write_json
from ncn.common.paths import (
    ADAPTATION,
    BENCHMARK,
    BRAIN_SCAN,
    CLAIMS,
    COMPARISON,
    CONDITIONAL,
    CONVERGENCE,
    CURVES,
    DIFFERENCES,
    REPORT,
    REQUIREMENTS,
    SCALING,
    SCAN_TABLES,
    SCAN_TESTS,
    SCANS,
    SUMMARY,
    TUNING,
    run_name,
    sequence_losses,
    training_log,
    training_metrics,
)
from ncn.common.tsv import read_tsv, write_tsv
from ncn.conditional.curves import NOTHING
from ncn.figures.palette import arm_colours
from ncn.published.run_1 import PUBLISHED_SETTINGS
from ncn.report import page_charts as report_charts
from ncn.report.inputs import gather, has_control, not_finite
from ncn.report.numbers import interval, margin, number, typeset
from ncn.report.page import headline, render
from ncn.report.page_charts import page_charts, tables_of
from ncn.report.vega import to_svg
from ncn.settings import PUBLISHED_SERIES, Params
from ncn.signals import SIGNALS
from stages import report as stage
from tests.conftest import PARAMS, ROOT, profiled, with_arm
from tests.results import N_SEQUENCES, VERDICTS, summary_of, write_results


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


@pytest.fixture
def params(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The committed settings, in a folder that holds all inputs of the report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_charts, "to_svg", lambda spec: drawn_once(json.dumps(spec)))
    write_results(params)
    return params


@cache
def drawn_once(spec: str) -> str:
    """The picture of a chart: most tests change few of them."""
    return to_svg(json.loads(spec))


def page_of(params: Params) -> Page:
    return Page(render(params, gather(params)))


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))  # unlike write_json, this writes NaN


def differs(arm: str, **figures: object) -> None:
    """Change an arm's difference to the baseline; in perplexity it changes in nats too."""
    if "delta_ppl" in figures:
        figures |= {"delta_loss": figures["delta_ppl"]}
    edit(COMPARISON, lambda comparison: comparison["differences"][arm].update(figures))


def test_more_arms_than_the_default_ones_are_ranked(params: Params) -> None:
    static = params.arms | {"static": {"controller": "static"}}
    params = with_arm(params.model_copy(update={"arms": static}), salience="causal")
    write_results(params)
    edit(COMPARISON, lambda comparison: comparison.update(reference="static"))
    differs("special", delta_ppl=[-0.5, -0.6, -0.4], to_reference={"delta_loss": [0.1, 0.1, 0.1]})
    edit(BENCHMARK, lambda b: b.update(mechanisms={"arms": {"special": {"ratio": 1.125}}}))
    page = page_of(params)
    (row,) = [row for row in page.rows if row[:2] == ["1", "special"]]
    assert row[4] == "1.125"
    assert row[5].startswith("−0.5000")
    assert "Of 10 pairs of arms, 4 have intervals that lie apart" in page.text
    assert "Loss − static’s" in page.text


def test_the_page_asks_for_nothing_beside_itself(params: Params) -> None:
    html = render(params, gather(params))
    page = Page(html)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"link rel=stylesheet", "img", "iframe", "object", "embed"} & set(page.tags)
    assert "default-src 'none'" in html  # the browser refuses what this test overlooks
    assert "Ranked by loss" not in html  # of no more arms than the default ones
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_names_in_the_pictures_are_not_used_twice(params: Params) -> None:
    ids = re.findall(r'\sid="([^"]+)"', render(params, gather(params)))
    assert len(ids) == len(set(ids))


def test_every_chart_has_its_picture_in_the_page(params: Params) -> None:
    html = render(params, gather(params))
    drawn = page_charts(params, gather(params), comparable=False)
    assert {"differences", "loss", "gap", "val_loss", "published", "ends", "scatter"} <= set(
        drawn.specs
    )
    # A further signal is shown only where an arm has it, and here none has.
    further = {name for name, signal in SIGNALS.items() if signal.further}
    for name in drawn.specs:
        if name.partition("-")[2] in further:
            continue
        assert re.search(rf'data-chart="{name}"><svg[^>]*class="marks"', html), name


def test_a_further_signal_is_shown_for_the_arm_that_has_it_alone(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = with_arm(params, salience="causal", signals=[*SIGNALS])
    write_results(params)
    html = render(params, gather(params))
    for name in (name for name, signal in SIGNALS.items() if signal.further):
        assert f"{name} by layer and token, special-1 trained" in html, name
        assert f"{name} by layer and token, ncn-1" not in html, name
        assert re.search(rf'data-chart="{name}_mean"><svg[^>]*class="marks"', html), name


def test_a_chart_draws_tables_that_are_there_and_only_arms_that_it_can_colour(
    params: Params,
) -> None:
    drawn = page_charts(params, gather(params), comparable=True)
    for spec in drawn.specs.values():
        assert tables_of(spec) <= set(drawn.tables)
    for rows in drawn.tables.values():
        assert {row["arm"] for row in rows} <= {PUBLISHED_SERIES, *params.arms}
    assert drawn.specs["loss"]["params"][0]["value"] == [PUBLISHED_SERIES, *params.arms]


def test_complete_inputs_leave_nothing_missing(params: Params) -> None:
    inputs = gather(params)
    assert inputs.missing == []
    assert "What is missing" not in render(params, inputs)


def test_equal_inputs_give_equal_bytes(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load_params", lambda: params)
    monkeypatch.setattr(report_charts, "to_svg", to_svg)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    shutil.copy(PARAMS, "params.yaml")
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
        "1,056,897778,369",
        "2,050,000× 1.025",
        "yes: logits move by up to 0.8371",
        "3.004",
        "3.988",
    ]
    assert page.row("baseline")[3] == "–"
    assert page.row("ncn_causal")[7:] == ["no", "–", "3.988"]
    assert page.row("bigram")[2] == "22.20"


def test_every_arm_has_its_words_its_row_and_its_colour(params: Params) -> None:
    arms = params.arms | {"run_1": {"init": "zero", "frozen": True}}
    more = params.model_copy(update={"arms": arms})
    html = render(more, gather(more))
    for place, (arm, colour) in enumerate(arm_colours([PUBLISHED_SERIES, *arms]).items()):
        assert arm in html
        assert f"--arm-{place}: {colour}" in html
    assert all(f"{arm}: said in words." in html for arm in params.arms)
    assert "run_1: not compared yet" in html


def test_every_seed_has_its_rows_and_the_page_says_that_it_averages(params: Params) -> None:
    assert "One seed: the interval is over the text" in page_of(params).text
    more = params.model_copy(update={"seeds": [*params.seeds, 77]})
    write_results(more)
    page = page_of(more)
    assert "mean of 2 seeds" in page.text
    assert "One seed" not in page.text
    heads = [row[0] for row in page.rows if row]
    # How it ends, tokens to reach, the runs; samples; its signals' tests and means.
    rows = 3 + len(params.generate.prompts)
    for arm in params.arms:
        scans = 2 + len(params.brain_scan.texts) if has_control(params, arm) else 0
        assert heads.count(run_name(arm, 77)) == rows + scans


def test_how_a_learning_rate_was_found_is_shown_where_it_was(params: Params) -> None:
    text = page_of(params).text
    assert "Learning rates, tuned for each arm" in text
    assert "0.002: 1.432" in text
    edit(TUNING, lambda content: [entry.update(tuned=False) for entry in content.values()])
    assert "Learning rates, tuned" not in page_of(params).text


def test_differences_counted_otherwise_and_studies_are_shown_where_there_are_any(
    params: Params,
) -> None:
    page = page_of(params)
    assert "Near duplicates are 7 of the 60 scored" in page.text
    assert "\N{MINUS SIGN}0.03210 [\N{MINUS SIGN}0.05230, \N{MINUS SIGN}0.01190]" in page.text
    assert "Study trial" in page.text
    assert "2,345,678" in page.text
    assert "how its difference to the baseline moves with size is not known" in page.text
    write_json(SCALING, {})
    without = page_of(params)
    assert "What the studies found" not in without.text
    assert "its difference to the baseline moves with size" not in without.text


def test_second_trainings_are_shown_where_there_are_any(params: Params) -> None:
    page = page_of(params)
    assert ["baseline", "lora", "17,984", "+0.2500", "+1.000", "–", "–"] in page.rows
    beside = ["\N{MINUS SIGN}0.06250", "+0"]
    assert ["ncn", "lora", "17,984", "+0.1875", "+1.000", *beside] in page.rows
    write_json(ADAPTATION, {})
    assert "Trained again" not in page_of(params).text


def test_an_arm_that_was_not_trained_is_named_and_not_raised(params: Params) -> None:
    run = run_name("ncn", params.seeds[0])
    for path in (training_metrics(run), training_log(run), sequence_losses(run)):
        path.unlink()
    edit(SUMMARY, lambda summary: summary.pop("ncn"))
    for table in (CURVES, SCANS):
        write_tsv(table, [row for row in read_tsv(table) if row["arm"] != "ncn"])
    page = page_of(params)
    assert f"{training_metrics(run)} does not exist" in page.text
    assert f"{training_log(run)} does not exist" in page.text
    assert f"{SUMMARY} says nothing of ncn" in page.text
    assert f"{SCANS} says nothing of {run}" in page.text
    assert page.row("ncn")[1:4] == ["–"] * 3
    assert page.row("ncn_causal")[2] == "3.506"


def test_a_page_of_nothing_at_all_still_names_every_input(params: Params) -> None:
    files = [path for path in Path().rglob("*") if path.is_file()]
    for path in files:
        path.unlink()
    page = page_of(params)
    read = [path for path in files if path != DIFFERENCES]  # DVC's charts draw that one
    assert all(f"{path} does not exist" in page.text for path in read)
    assert all(arm in page.text for arm in params.arms)
    assert "Not answered yet." in page.text
    assert "No arm with a control network is compared with a baseline here." in page.text


MISSING = [CLAIMS, BENCHMARK, REQUIREMENTS, CURVES, CONVERGENCE, BRAIN_SCAN, SCANS, SCAN_TESTS]


@pytest.mark.parametrize("path", [*MISSING, SCAN_TABLES["heads"]])
def test_a_missing_file_is_named_and_the_rest_stands(params: Params, path: Path) -> None:
    path.unlink()
    inputs = gather(params)
    assert len(inputs.missing) == 1
    assert inputs.missing[0].startswith(f"{path} does not exist")
    assert ("make bench" in inputs.missing[0]) == (path == BENCHMARK)
    assert Page(render(params, inputs)).row("ncn")[2] == "3.471"


def test_no_published_series_is_named(params: Params) -> None:
    write_tsv(CURVES, [row for row in read_tsv(CURVES) if row["arm"] != PUBLISHED_SERIES])
    gone = "data/reference/run_1.tsv does not exist"
    edit(CONVERGENCE, lambda content: content.update({"missing": [gone]}))
    assert gone in page_of(params).text
    edit(CONVERGENCE, lambda content: content.pop("published run 1"))
    assert f"{CONVERGENCE} says nothing of published run 1" in page_of(params).text
    assert "published" not in page_charts(params, gather(params), comparable=False).specs


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("", "is empty"),
        ("arm\tseed\ttokens\tloss\n", "holds no rows"),
        ("arm\tseed\tstep\nncn\t1\t5\n", "has no column tokens, loss"),
        ("arm\tseed\ttokens\tloss\nncn\t1\t9\tnan\nncn\t1\t9\t2\n", "1 row lacks a number"),
        ("arm\tseed\ttokens\tloss\nncn\t1\n", "line 2 has 2 of 4 columns"),
    ],
)
def test_a_log_that_cannot_be_drawn_is_named(params: Params, text: str, gap: str) -> None:
    log = training_log(run_name("ncn", params.seeds[0]))
    log.write_text(text)
    assert f"{log}" in page_of(params).text
    assert gap in page_of(params).text


def test_why_an_arm_is_not_compared_is_said_once(params: Params) -> None:
    why = "ncn is not compared: a loss is not a finite number"
    edit(COMPARISON, lambda comparison: comparison.update(missing=[why]))
    edit(CONVERGENCE, lambda content: content.update(missing=[why]))
    assert gather(params).missing == [why]


def test_a_long_list_of_gaps_is_folded(params: Params) -> None:
    REQUIREMENTS.unlink()
    assert "<details open>\n<summary>1 gap<" in render(params, gather(params))
    edit(COMPARISON, lambda comparison: comparison.update(missing=[f"gap {n}" for n in range(20)]))
    assert "<details>\n<summary>21 gaps<" in render(params, gather(params))


def test_sequences_that_an_arm_was_not_scored_on_are_not_drawn(params: Params) -> None:
    path = sequence_losses(run_name("ncn", params.seeds[0]))
    write_tsv(path, read_tsv(path)[:50])
    rows = page_charts(params, gather(params), comparable=False).tables["sequences"]
    assert sum(row["arm"] == "ncn" for row in rows) == 50
    assert sum(row["arm"] == "ncn_causal" for row in rows) == N_SEQUENCES


@pytest.mark.parametrize("content", ["[]", "{}", "null", '"text"'])
def test_json_of_another_shape_is_named_and_not_raised(params: Params, content: str) -> None:
    paths = [path for path in Path().rglob("*.json") if path.is_file()]
    for path in paths:
        path.write_text(content)
    missing = gather(params).missing
    named = {path for path in paths if any(gap.startswith(f"{path} ") for gap in missing)}
    no_gap = {SCALING, ADAPTATION} if content == "{}" else set()
    assert named == set(paths) - no_gap
    assert page_of(params).row("baseline")[2] == "–"


def test_what_is_left_out_by_the_gate_is_beside_what_is_left_out_otherwise(params: Params) -> None:
    page = page_of(params)
    three = ["0.01230−0.001 to 0.05", "0.0246", "0.0369"]
    row = page.row("feed-forward")
    assert row[1:4] == [f"{params.conditional.skip_below[0]:g}", "16.67", "1,234,567"]
    assert [cell[:6] for cell in row[4:]] == [f"+{each[:5]}" for each in three]
    (mixed,) = [each for each in page.rows if each[:3] == ["low precision", "4", "8"]]
    assert mixed[3] == "1,200"
    edit(CONDITIONAL, lambda found: found.update(NOTHING))
    assert not [each for each in page_of(params).rows if each[:1] == ["feed-forward"]]


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
    assert attack not in html
    assert html.count("&lt;script&gt;") > 5


def test_the_published_figure_stands_only_beside_the_published_experiment(params: Params) -> None:
    assert "4.5184" not in page_of(params).text
    assert "data.source is builtin, published tinystories-v2" in page_of(params).text
    changes: dict[str, dict[str, object]] = {}
    for key, value in PUBLISHED_SETTINGS.items():
        section, name = key.split(".")
        changes.setdefault(section, {})[name] = value
    del changes["train"]["sequences"]
    changes["train"] |= {"micro_batch_size": 16, "grad_accum_steps": 4}
    same = {name: getattr(params, name).model_copy(update=each) for name, each in changes.items()}
    page = page_of(params.model_copy(update=same))
    assert page.row("published run 1")[1:3] == ["1.5082", "4.5184"]
    assert "not the published experiment" not in page.text


@pytest.fixture
def seeds(params: Params) -> Params:
    """The same with three seeds: there are tests, and arms take sides."""
    several = params.model_copy(update={"seeds": [1, 2, 3]})
    write_results(several)
    return several


@pytest.mark.parametrize(
    ("ends", "equivalent", "answer", "words"),
    [
        ((-0.04, -0.03, -0.02), False, "In this run, yes.", "is better than"),
        (
            (-0.04, -0.03, -0.02),
            True,
            "Too little to matter.",
            "is really but negligibly different",
        ),
        ((-0.02, 0.01, 0.03), False, "This run cannot tell.", "is not told apart from"),
        ((-0.02, 0.01, 0.03), True, "It makes no difference.", "is as good as"),
        ((0.02, 0.03, 0.04), False, "Not in this run.", "is worse than"),
        ((0.02, 0.03, 0.04), True, "Too little to matter.", "is really but negligibly different"),
    ],
)
def test_the_headline_is_that_of_the_primary_endpoint(
    seeds: Params, ends: tuple[float, float, float], equivalent: bool, answer: str, words: str
) -> None:
    low, value, high = ends
    differs("ncn_causal", delta_ppl=[value, low, high], equivalent=equivalent)
    differs("ncn", delta_ppl=[-0.5, -0.6, -0.4])
    shown = headline(seeds, gather(seeds))
    assert shown.answer == answer
    assert shown.sentences[0].startswith(f"ncn_causal {words}")
    assert ("the ±0.01 nats a token that count as none" in shown.sentences[0]) == equivalent
    assert shown.sentences[1].startswith("ncn is better than")
    assert shown.sentences[2].startswith("ncn was trained with later tokens in view")
    assert "its perplexity of 3.004 is not a language model's" in shown.sentences[2]


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.5])
def test_one_seed_is_said_first_and_takes_no_side(params: Params, value: float) -> None:
    for arm in ("ncn", "ncn_causal"):
        differs(arm, delta_ppl=[value, value - 0.1, value + 0.1])
    shown = headline(params, gather(params))
    assert shown.answer == "One seed cannot say."
    assert "difference of two checkpoints" in shown.sentences[0]
    assert "How much other seeds differ is not known." in shown.sentences[0]
    needed = " ".join(shown.sentences)
    assert "by 0.01400 nats a token (sd)" in needed
    assert "0.02510 by 5 seeds and 0.01340 by 10 seeds" in needed
    page = page_of(params).text
    for word in ("count as none", "better than", "worse than", "Equivalent?", "Smallest det"):
        assert word not in page, word


def test_arms_that_disagree_and_arms_that_all_leak_have_their_own_answer(seeds: Params) -> None:
    differs("ncn", delta_ppl=[-0.02, -0.03, -0.01])
    assert headline(seeds, gather(seeds)).answer == "This run cannot tell."
    edit(COMPARISON, lambda comparison: comparison.update(primary=None))
    assert headline(seeds, gather(seeds)).answer == "It depends on the arm."
    differs("ncn", delta_ppl=[0.15, 0.1, 0.2])
    assert headline(seeds, gather(seeds)).answer == "No arm is shown to help."
    edit(SUMMARY, lambda s: [s[arm].update(future_leak=0.5) for arm in ("ncn", "ncn_causal")])
    edit(COMPARISON, lambda c: c["arms"]["ncn"]["scores"].pop("causal"))
    assert headline(seeds, gather(seeds)).answer == "Not answered yet."
    edit(SUMMARY, lambda s: s["ncn_causal"].pop("future_leak"))
    shown = headline(seeds, gather(seeds))
    assert "Whether ncn_causal reads later tokens is not known" in " ".join(shown.sentences)


def test_a_primary_endpoint_that_is_missing_is_not_answered_by_another(seeds: Params) -> None:
    edit(COMPARISON, lambda comparison: comparison["differences"].pop("ncn_causal"))
    shown = headline(seeds, gather(seeds))
    assert shown.answer == "Not answered yet."
    assert shown.sentences[0].startswith("ncn is not told apart")


def test_among_many_arms_an_interval_alone_tells_no_arm_apart(seeds: Params) -> None:
    differs("ncn_causal", delta_ppl=[0.2, 0.1, 0.3], p_holm=0.0612)
    shown = headline(seeds, gather(seeds))
    assert shown.answer == "This run cannot tell."
    assert "not told apart" in shown.sentences[0]
    assert "chance among 2 comparisons (p = 0.06120)" in shown.sentences[0]


def test_a_p_at_its_floor_and_the_reference_have_their_place_in_the_table(seeds: Params) -> None:
    beside = {
        "delta_ppl": [-0.3, -0.4, -0.2],
        "delta_loss": [-0.1, -0.2, -0.05],
        "p": 0.01,
        "p_holm": 0.03,
    }
    differs("ncn", p=1e-12, p_holm=2e-12, to_reference=beside)
    page = page_of(seeds)
    assert "at most: the least computed" in page.text
    assert page.row("ncn, to the reference arm")[1:2] == ["−0.3000[−0.4000, −0.2000]"]
    assert "of which ncn_causal to the baseline is the primary one" in page.text


def test_many_arms_share_a_sentence_and_their_words_are_folded(params: Params) -> None:
    more = profiled("ablations").model_copy(update={"seeds": [1, 2, 3]})
    write_results(more)
    shown = headline(more, gather(more))
    assert len(shown.sentences) == 3
    assert shown.sentences[0].startswith("ncn_causal is not told apart")
    assert shown.sentences[1].startswith("Not told apart from a plain transformer of its size")
    told = [arm for arm in more.arms if arm not in {"baseline", "ncn_causal"}]
    assert all(f"{arm} (−0.012)" in shown.sentences[1] for arm in told)
    folded = "<details>\n<summary>The same in words"
    assert folded in render(more, gather(more))
    assert folded not in render(params, gather(params))


def test_a_signal_that_an_arm_lacks_is_not_scanned(params: Params) -> None:
    more = params.model_copy(update={"arms": params.arms | {"gain_only": {"signals": ["gain"]}}})
    write_results(more)
    inputs = gather(more)
    signals = {row["signal"] for row in inputs.scans if row["arm"] == "gain_only"}
    assert signals == {"gain"}
    html = render(more, inputs)
    assert ["gain_only-1", "signals gain"] in [row[:2] for row in Page(html).rows]
    assert "gain by layer and token, gain_only-1" in html
    assert "precision by layer and token, gain_only-1" not in html


def test_the_differences_are_drawn_as_the_summary_has_them(params: Params) -> None:
    rows = page_charts(params, gather(params), comparable=False).tables["differences"]
    assert [row["arm"] for row in rows] == [arm for arm in params.arms if arm != "baseline"]
    for row in rows:
        mine = summary_of(params)[row["arm"]]
        assert row["value"] == pytest.approx(mine["delta_ppl"], rel=1e-4)
        assert row["low"] < row["value"] < row["high"]
        assert not row["future"]
    edit(COMPARISON, lambda comparison: comparison["arms"]["ncn"]["scores"].pop("causal"))
    rows = page_charts(params, gather(params), comparable=False).tables["differences"]
    assert [row["arm"] for row in rows if row["future"]] == ["ncn"]


def test_sequence_by_sequence_an_arm_is_shown_by_its_score(params: Params) -> None:
    path = sequence_losses(run_name("ncn", params.seeds[0]))
    rows = [row | {"causal_loss": float(row["loss"]) + 7} for row in read_tsv(path)]
    write_tsv(path, rows)
    (mine,) = (run for run in gather(params).runs if run.arm == "ncn")
    assert mine.losses[0] == pytest.approx(rows[0]["causal_loss"])


def test_the_histogram_counts_every_sequence_of_every_arm(params: Params) -> None:
    rows = page_charts(params, gather(params), comparable=False).tables["histogram"]
    for arm in set(params.arms) - {"baseline"}:
        assert sum(row["count"] for row in rows if row["arm"] == arm) == N_SEQUENCES


def test_what_never_moves_is_no_chart(params: Params) -> None:
    for run in gather(params).runs:
        log = training_log(run.name)
        write_tsv(log, [row | {"loss_scale": 1.0, "val_loss": ""} for row in read_tsv(log)])
    drawn = page_charts(params, gather(params), comparable=False)
    assert not {"loss_scale", "val_loss"} & set(drawn.specs)
    assert "grad_norm" in drawn.specs


def test_every_arm_of_the_ablations_has_a_colour_of_its_own(params: Params) -> None:
    arms = profiled("ablations").arms
    assert len(arms) > len(params.arms) + 5
    assert len(set(arm_colours([PUBLISHED_SERIES, *arms]).values())) == len(arms) + 1


def test_several_seeds_have_a_tick_each(params: Params) -> None:
    more = params.model_copy(update={"seeds": [1, 2, 3]})
    write_results(more)
    drawn = page_charts(more, gather(more), comparable=False)
    assert len(drawn.tables["seeds"]) == 3 * (len(params.arms) - 1)
    assert "seeds" in tables_of(drawn.specs["differences"])


def test_how_sure_a_difference_is_stands_beside_it(seeds: Params) -> None:
    rows = [row for row in page_of(seeds).rows if row and row[0] == "ncn_causal"]
    ends = "−0.01235[−0.02346, +0.00346]"
    assert ["ncn_causal", ends, ends, "0.04000", "no0.2000"] in [row[:5] for row in rows]


def test_every_reading_of_a_scan_stands_with_its_effect_and_its_p(params: Params) -> None:
    rows = page_of(params).rows
    ends = "−0.2500[−0.3000, −0.2000]"
    cells = ["gain", "0.1100(0.001000)", "0.03000", "+0.4200", "0.6000", "0.02000"]
    assert ["ncn-1", *cells, ends, "0.001000", ends] in rows
    share = "0.1000[0.0900, 0.1100]"
    assert ["ncn-1", *[share] * 3, "0.8700", "0.8100", "0.04000" + "1.250", "0.7500"] in rows
    drawn = page_charts(params, gather(params), comparable=False).specs
    assert {"layers-gain", "losses-ffn_gate", "heads"} <= set(drawn)


def test_every_claim_stands_with_its_verdict_and_its_rule(params: Params) -> None:
    page = page_of(params)
    for place, verdict in enumerate(VERDICTS):
        row = next(row for row in page.rows if row and f"Claim number {place}" in row[0])
        assert "supported where the interval" in row[0]
        assert row[2:4] == [verdict, f"The figure is {place}."]
    assert "0.2500[0.1500, 0.3500]nats" in [cell for row in page.rows for cell in row]


def test_versions_are_those_of_the_lock(params: Params) -> None:
    assert "torch 2.13.0, numpy 2.4.1." in page_of(params).text


def test_settings_stand_as_in_yaml(params: Params) -> None:
    text = page_of(params).text
    assert "sliders none" in text
    assert "frozen false" in text


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
    assert interval(0.0, -1e-9, 0.5) == "0.0000 [0.0000, 0.5000]"
    assert interval(0.0, -4e-16, 3e-16) == "0 [0, 0]"
    assert interval(2e-9, -1e-9, 3e-9) == "2.000e−09 [−1.000e−09, 3.000e−09]"


def test_a_margin_has_the_decimals_that_its_interval_is_worth() -> None:
    assert margin(0.0157, 0.0097, 0.0216) == ("+0.016", "+0.010", "+0.022")
    assert margin(-1.234, -3.0, 2.0) == ("−1.2", "−3.0", "+2.0")
    assert margin(0.0, 0.0, 0.0) == ("+0.0000", "+0.0000", "+0.0000")


def test_words_have_the_signs_of_the_numbers_beside_them() -> None:
    words = "-1.2 [-3, +4], within +-0.01, 0.99-1.05, 8e-07, layer 1 - layer 2, run-1"
    assert (
        typeset(words) == "−1.2 [−3, +4], within ±0.01, 0.99-1.05, 8e-07, layer 1 - layer 2, run-1"
    )


def test_nan_is_found_at_any_depth() -> None:
    assert list(not_finite({"a": [{"b": math.inf}, 1.0], "c": None})) == ["a[0].b"]


def test_every_prompt_stands_with_the_text_of_every_run(params: Params) -> None:
    page = page_of(params)
    for prompt in params.generate.prompts:
        assert prompt in page.text
    for run in (run_name(arm, seed) for arm in params.arms for seed in params.seeds):
        assert page.text.count(f"a tale by {run} <b>") == len(params.generate.prompts)
