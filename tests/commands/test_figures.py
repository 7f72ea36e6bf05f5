"""`python -m ncn figures`: the pictures of a run at the size a paper wants; bad input in a line."""

import re
from pathlib import Path

import pytest

from ncn.__main__ import main
from ncn.commands.figures import DRAWN, inches
from ncn.common.errors import InputError
from ncn.common.paths import SCANS
from ncn.settings import Params
from tests.conftest import PARAMS
from tests.results import write_results


@pytest.fixture(autouse=True)
def run_folder(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_results(params)
    Path("params.yaml").write_text(PARAMS.read_text())
    return tmp_path


def figures(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["ncn", "figures", *arguments])
    main()


@pytest.mark.parametrize("width", ["3.3in", "174 mm"])
def test_a_pdf_is_as_wide_as_asked(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figures(monkeypatch, "result", "brain_scan", "--width", width)
    for name in ("result", "brain_scan"):
        page = Path(f"figures/{name}.pdf").read_bytes()
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", page)
        assert box
        assert float(box[1]) == pytest.approx(72 * inches(width), abs=0.01)


def test_all_figures_in_every_format_where_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    figures(monkeypatch, "--format", "svg", "--format", "png", "--dpi", "60", "--out", "mine")
    written = {path.name for path in Path("mine").iterdir()}
    assert written == {f"{name}.{kind}" for name in DRAWN for kind in ("svg", "png")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pie"], "no figure 'pie'; there are result, robustness, curves,"),
        (["--format", "gif"], "--format 'gif'; it must be one of svg, png, pdf"),
        (["--width", "wide"], "--width 'wide'; it must be a number with in, mm, cm or pt"),
        (["--width", "1.2.3in"], "--width '1.2.3in'; it must be"),
        (["--width", "1in"], "from 2.5in to 30in"),
        (["--dpi", "9"], "--dpi 9; it must be from 50 to 1200"),
        (["--out", "plots/figures"], "the pipeline's own figures are there"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_what_cannot_be_drawn_is_said_in_a_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as stopped:
        figures(monkeypatch, *arguments)
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not Path("figures").exists()


@pytest.mark.parametrize("content", [None, "", "arm\tseed\nncn\t1\n"])
def test_files_of_another_make_are_named(
    content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCANS.unlink()
    if content is not None:
        SCANS.write_text(content)
    with pytest.raises(SystemExit, match=r"error: .*(scan\.tsv|brain_scan)"):
        figures(monkeypatch, "brain_scan")


def test_a_width_has_a_unit() -> None:
    asked = ("3in", "76.2mm", "7.62 cm", "216pt")
    assert [inches(width) for width in asked] == pytest.approx([3] * 4)
    with pytest.raises(InputError, match=r"such as 3\.3in"):
        inches("3.3")
