"""What people watch while a model trains: one line on a terminal, few elsewhere."""

import io
import re
import sys

import pytest

from ncn.common import progress as progress_module
from ncn.common.progress import Progress, say

LINE = (
    r"step 7/10, loss 1\.5000, penalty 0\.0020, lr 1\.00e-03, [\d,]+ tokens/s,"
    r" \d+:\d\d:\d\d left, \d+\.\d GiB"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(silent: bool = False) -> None:
    with Progress("ncn-1", 5, 10, 100, lambda: 2**30, silent) as progress:
        for step in (6, 7):
            progress.step(step, loss=1.5, penalty=0.002, lr=1e-3)
        progress.say("a line of its own")


def test_a_terminal_shows_one_line_with_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    watched()
    assert re.search(rf"\|.*\| ncn-1: {LINE}\n$", terminal.getvalue())
    assert "ncn-1: a line of its own\n" in terminal.getvalue()


def test_elsewhere_it_is_quiet_but_for_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watched()
    assert capsys.readouterr().err == "ncn-1: a line of its own\n"
    watched(silent=True)
    assert capsys.readouterr().err == ""
    now = iter(range(0, 1000, 40))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    watched()
    assert re.match(rf"ncn-1: {LINE}\n", capsys.readouterr().err)


def test_a_reader_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    say("nobody hears this")
