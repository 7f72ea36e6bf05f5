"""The figures: the same bytes each time, told apart in grey, and whole with whatever data there is.

What a finished run leaves is made up in tests/results.py; extremes are made here.
"""

import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from ncn.analysis.scaling import scaling
from ncn.analysis.training_logs import analyse_log
from ncn.commands.figures import DRAWN
from ncn.common.files import read_json
from ncn.common.paths import COMPARISON, CONVERGENCE, CURVES, PUBLISHED_RUN, SCANS, SUMMARY
from ncn.common.tsv import read_tsv
from ncn.figures.brain_scan import colouring, draw_scans, read_scans
from ncn.figures.convergence import draw_convergence
from ncn.figures.curves import draw_curves
from ncn.figures.palette import SCAN_COLOURS, arm_looks
from ncn.figures.result import draw_result, result_rows
from ncn.figures.saving import write
from ncn.figures.scaling import draw_scaling
from ncn.figures.series import future_arms
from ncn.figures.style import WIDTH
from ncn.settings import PUBLISHED_SERIES, Params, load_params
from ncn.settings.profiles import experiment
from ncn.signals import SIGNALS
from tests.analysis.test_scaling import planted
from tests.conftest import PARAMS, ROOT
from tests.results import write_results

Rows = list[dict[str, Any]]
TWELVE = [
    "baseline", "ncn", "ncn_causal", "static", "x$y$",
    "a_name_so_long_that_no_axis_has_room_for_it", *(f"arm_{n}" for n in range(6)),
]  # fmt: skip


def luminance(colour: str) -> float:
    """0 black to 1 white, as grey print shows it."""
    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))


def words(figure: Figure) -> str:
    """All that is written in a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(match=has_text))


def has_text(artist: Any) -> bool:
    return hasattr(artist, "get_text") and isinstance(artist.get_text(), str)


def drawn(figure: Figure, folder: Path) -> Path:
    """The figure as a file; warnings, such as for a letter without glyph, are errors."""
    path = folder / "figure.png"
    write(figure, [path], dpi=50)
    return path


def comparison_of(seeds: int, *, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    noise = np.random.default_rng(0)
    names = [str(seed) for seed in range(1, seeds + 1)]
    ends = [0.004, -0.002, 0.01]
    return {
        "seeds": list(range(1, seeds + 1)),
        "cluster": "story",
        "clusters": 27630,
        "margin": 0.01,
        "in_words": dict.fromkeys(TWELVE, ""),
        "arms": {
            arm: {"val_loss": {"by_seed": {n: 0.8 + noise.normal(0, 0.01) for n in names}}}
            for arm in TWELVE
        },
        "differences": {
            arm: {"delta_loss": ends, "delta_ppl": ends} for arm in TWELVE[1:] if arm not in missing
        },
    }


def curve_rows(arms: list[str], seeds: int, points: int = 60) -> Rows:
    noise = np.random.default_rng(0)
    rows: Rows = []
    for place, arm in enumerate(arms):
        for seed in range(1, seeds + 1):
            steps = np.arange(1, points + 1) * 20
            losses = 1 + 0.02 * place + 6 * np.exp(-steps / 300) + noise.normal(0, 0.02, points)
            for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
                same = dict.fromkeys(("loss", "short", "long"), loss)
                rows.append({"arm": arm, "seed": seed, "step": step, "tokens": step} | same)
    return rows


def scan_rows(arms: list[str], tokens: list[str], value: float = 0.5) -> Rows:
    return [
        {"arm": arm, "seed": 1, "state": state, "text": 0, "position": position, "token": token}
        | {"layer": layer, "signal": signal, "value": value}
        for arm in arms
        for state in ("trained", "untrained")
        for signal in SIGNALS
        for position, token in enumerate(tokens)
        for layer in (1, 2, 3)
    ]


@pytest.fixture
def finished(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A folder with a finished run."""
    monkeypatch.chdir(tmp_path)
    write_results(params)
    Path("params.yaml").write_text(PARAMS.read_text())
    return params


@pytest.mark.usefixtures("finished")
def test_two_processes_write_the_same_bytes() -> None:
    names = ("curves", "brain_scan")  # one of each kind of layout
    for name in names:
        paths = [Path("first") / f"{name}.{kind}" for kind in ("svg", "png", "pdf")]
        write(DRAWN[name](load_params(), WIDTH), paths)
    # What a user set for other pictures does not matter, nor the order of sets.
    Path("matplotlibrc").write_text("font.size: 30\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "error", "-m", "ncn", "figures", *names, "--out=second"]
    command += ["--format=svg", "--format=png", "--format=pdf"]
    subprocess.run(command, check=True, env=environment)
    first, second = (
        {file.name: file.read_bytes() for file in Path(name).iterdir()}
        for name in ("first", "second")
    )
    assert len(first) == 6
    assert [name for name in first if first[name] != second[name]] == []
    assert not re.search(rb"matplotlib v|<dc:date>|<text|font-family", first["curves.svg"])
    assert not re.search(rb"CreationDate|Producer|[Mm]atplotlib v", first["brain_scan.pdf"])
    with Image.open("first/curves.png") as image:
        assert image.width == 1660
        assert image.info.keys() <= {"dpi"}


def test_what_the_layouts_solver_leaves_in_the_last_bits_is_cut(tmp_path: Path) -> None:
    """They follow the addresses of its variables: in half of all processes an SVG had other ids."""
    figure = draw_curves(curve_rows(["baseline", "ncn"], 1), ())
    drawn(figure, tmp_path)
    places = [axes.get_position().bounds for axes in figure.axes]
    places += [text.get_position() for text in figure.texts]
    assert np.allclose([np.round(x, 5) - x for place in places for x in place], 0, atol=1e-15)


def test_no_two_arms_look_alike_in_grey(params: Params) -> None:
    for arms in (params.arms, experiment("ablations", PARAMS).arms, TWELVE):
        looks = arm_looks([*arms, PUBLISHED_SERIES])
        for one, other in combinations(looks.values(), 2):
            assert one.marker != other.marker
            assert one.colour != other.colour


def test_a_scan_in_grey_keeps_its_order_and_its_middle_is_neutral() -> None:
    greys = [luminance(colour) for colour in SCAN_COLOURS]
    assert greys == sorted(greys)
    assert min(np.diff(greys)) > 0.05
    assert np.ptp(to_rgb(SCAN_COLOURS[2])) < 0.02


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_has_one_absolute_scale(name: str) -> None:
    colours, norm = colouring(SIGNALS[name].scale, SIGNALS[name].neutral)
    ends = [*SIGNALS[name].scale, SIGNALS[name].neutral]
    shown = [np.round(colours(norm(end))[:3], 2).tolist() for end in ends]
    wanted = [SCAN_COLOURS[0], SCAN_COLOURS[-1], SCAN_COLOURS[2]]
    assert shown == [np.round(to_rgb(colour), 2).tolist() for colour in wanted]


@pytest.mark.parametrize("value", [0.3, 30.0])
def test_the_data_move_no_end_of_any_signals_scale(value: float) -> None:
    figure = draw_scans(scan_rows(["ncn"], ["a", "b"], value), "a b")
    scales = [axes.get_ylim() for axes in figure.axes if axes.get_position().width < 0.05]
    assert scales == [signal.scale for signal in SIGNALS.values()]


@pytest.mark.parametrize(
    "tokens", [["·once"], ["·a", "$", "日本", "⏎", "·extraordinarily-long-token"] * 8], ids=len
)
def test_a_scan_takes_any_text(tokens: list[str], tmp_path: Path) -> None:
    rows = scan_rows(["ncn", "x$y$"], tokens)
    rows[0]["value"] = float("nan")
    rows[1]["value"] = ""
    for width in (8.3, 3.3):
        drawn(draw_scans(rows, "$ 日本 " * 40, width), tmp_path)


def test_a_scan_shows_the_first_seed_and_text_and_says_which_arms_it_leaves_out() -> None:
    rows = scan_rows([f"arm_{n}" for n in range(6)], ["a"])
    later = [row | {"seed": 2} for row in rows] + [row | {"text": 1} for row in rows]
    scans, left_out = read_scans(rows + later)
    assert [scan.run for scan in scans] == [f"arm_{n}, seed 1" for n in range(4)]
    assert left_out == ["arm_4", "arm_5"]
    assert "Not shown: arm_4, arm_5." in words(draw_scans(rows, "a"))


def test_trained_stands_above_untrained_with_the_tokens_along_the_axis(finished: Params) -> None:
    figure = draw_scans(read_tsv(SCANS), finished.brain_scan.texts[0])
    place = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert place["trained"] > place["untrained"]
    ticks = [[t.get_text() for t in axes.get_xticklabels()] for axes in figure.axes]
    assert ["Tim", "my", "·was", "·sad", "."] in ticks


@pytest.mark.parametrize("width", [8.3, 3.3])
@pytest.mark.parametrize("seeds", [1, 10])
def test_twelve_arms_find_room(seeds: int, width: float, params: Params, tmp_path: Path) -> None:
    comparison = comparison_of(seeds, missing=("static",))
    figure = draw_result({"ncn": {"future_leak": 4.2}}, comparison, width)
    drawn(figure, tmp_path)
    said = words(figure)
    assert said.count("not compared") == 1
    assert said.count("\nreads the future\n") == 1
    assert "scored causally" not in said
    comparison["arms"]["ncn"]["scores"] = {"as_trained": {}, "causal": {}}
    causal = words(draw_result({"ncn": {"future_leak": 4.2}}, comparison, width))
    assert "\nreads the future\n" not in causal
    assert causal.count("\nscored causally\n") == 1
    assert ("two checkpoints" in said.replace("\n", " ")) == (seeds == 1)
    rows = curve_rows(TWELVE, seeds)
    drawn(draw_curves(rows, {"ncn"}, width), tmp_path)
    drawn(draw_convergence(rows, {"runs": {}}, params.convergence, {"ncn"}, width), tmp_path)


def test_the_names_and_numbers_of_a_result_overlap_nowhere(tmp_path: Path) -> None:
    figure = draw_result({"ncn": {"future_leak": 4.2}}, comparison_of(3))
    drawn(figure, tmp_path)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
    boxes += [t.get_window_extent() for t in figure.axes[0].get_xticklabels()]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_result_is_the_comparison_in_nats_with_the_seeds_and_who_reads_the_future() -> None:
    comparison = comparison_of(3)
    by_seed = {arm: each["val_loss"]["by_seed"] for arm, each in comparison["arms"].items()}
    first, *_ = rows = result_rows({"ncn": {"future_leak": 4.2}}, comparison)
    assert [row.arm for row in rows] == TWELVE[1:]
    assert [row.arm for row in rows if row.future] == ["ncn"]
    assert first.nats == (0.004, -0.002, 0.01)
    assert first.seeds == [by_seed["ncn"][s] - by_seed["baseline"][s] for s in ("1", "2", "3")]


def test_the_published_series_has_axes_of_its_own(finished: Params) -> None:
    rows, found = read_tsv(CURVES), read_json(CONVERGENCE)
    last = max(int(row["step"]) for row in rows if row["arm"] == PUBLISHED_SERIES)
    curves = draw_curves(rows, future_arms(finished))
    ends = draw_convergence(rows, found, finished.convergence, future_arms(finished))
    for figure in (curves, ends):
        steps = {
            axes.get_title("left"): max(
                max(each.get_xdata(), default=0) for each in axes.get_lines()
            )
            for axes in figure.axes
            if axes.get_title("left")
        }
        theirs = {title for title in steps if title.startswith("published run 1")}
        assert theirs
        assert {steps[title] for title in theirs} == {last}
        assert max(steps[title] for title in steps.keys() - theirs) < last


def test_the_published_phases_are_marked_where_they_ended(params: Params, tmp_path: Path) -> None:
    log = analyse_log(ROOT / PUBLISHED_RUN, PUBLISHED_SERIES, "-", params.convergence, 64 * 512)
    found = {"runs": {}, "published run 1": log.summary}
    figure = draw_convergence(log.rows, found, params.convergence, ())
    drawn(figure, tmp_path)
    title = "published run 1: speed of learning"
    (speed,) = (axes for axes in figure.axes if axes.get_title("left") == title)
    assert {"2,400", "4,240"} <= {text.get_text() for text in speed.texts}
    curve = max(speed.get_lines(), key=lambda each: len(each.get_xdata()))
    steps, speeds = curve.get_xdata(), curve.get_ydata()
    for step, level in ((2400, 5), (4240, 1)):  # the line is below the level from there on
        place = list(steps).index(step)
        assert speeds[place] < level <= speeds[place - 1]


def test_what_is_not_there_is_said(params: Params, tmp_path: Path) -> None:
    found = {"runs": {}, "missing": ["plots/train/ncn-1.tsv is empty"]}
    alone = comparison_of(1) | {"in_words": {"ncn": ""}, "differences": {}}
    figures = [
        draw_result({}, alone),
        draw_scans([], "a"),
        draw_curves([], ()),
        draw_convergence([], found, params.convergence, ()),
    ]
    for figure in figures:
        drawn(figure, tmp_path)
        assert "nothing to show: " in words(figure)
    assert "Left out: plots/train/ncn-1.tsv is empty" in words(figures[3])


def test_a_gap_in_the_data_is_a_gap_in_the_line(params: Params, tmp_path: Path) -> None:
    rows = curve_rows(["baseline", "ncn"], 1, points=3)
    rows[1]["loss"], rows[2]["short"] = float("nan"), ""
    drawn(draw_curves(rows, ()), tmp_path)
    drawn(draw_convergence(rows, {"runs": {}}, params.convergence, ()), tmp_path)
    drawn(draw_curves(rows[:1], ()), tmp_path)
    drawn(draw_convergence(rows[:1], {"runs": {}}, params.convergence, ()), tmp_path)


def test_an_arm_that_trains_with_the_future_has_hollow_marks(params: Params) -> None:
    assert future_arms(params) == {"ncn"}
    figure = draw_curves(curve_rows(list(params.arms), 1), future_arms(params))
    (legend,) = (axes.get_legend() for axes in figure.axes if axes.get_legend())
    faces = {
        text.get_text(): handle.get_markerfacecolor()
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert [arm for arm, face in faces.items() if face == "white"] == ["ncn"]


def test_the_summary_and_comparison_of_a_run_are_drawn_as_they_are(finished: Params) -> None:
    assert "−0.0123 [−0.0235, +0.0035]" in words(
        draw_result(read_json(SUMMARY), read_json(COMPARISON))
    )


def test_a_page_around_it_may_be_dark(tmp_path: Path) -> None:
    with Image.open(drawn(draw_scans([], "a"), tmp_path)) as opened:
        image = opened.convert("RGBA")
    assert image.getextrema()[3] == (255, 255)
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def test_a_study_of_one_size_is_drawn_over_sizes_only_where_there_is_no_other() -> None:
    one, three = (scaling(planted(-0.05)[:sizes], 1, resamples=20) for sizes in (1, 3))
    assert "one: loss" not in (shown := words(draw_scaling({"one": one, "three": three})))
    assert "three: loss" in shown
    assert "one: loss" in words(draw_scaling({"one": one}))
