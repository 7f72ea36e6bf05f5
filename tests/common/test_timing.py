"""Times of the stages: whatever the file holds, a stage goes on and a person is shown the rest."""

from pathlib import Path

import pytest

from ncn.commands.summary import times
from ncn.common.paths import TIMING
from ncn.common.timing import read_timing, timed


@pytest.mark.parametrize(
    "text",
    [
        '["x"]',
        "3",
        "null",
        "<<<<<<< HEAD",
        '{"train": ["x"]}',
        '{"train": {}}',
        '{"train": {"tokens": 3}}',
        '{"train": {"seconds": "x"}}',
        '{"train": {"seconds": 0, "tokens": 3}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_time_of_a_stage_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    TIMING.parent.mkdir()
    TIMING.write_text(text)
    assert read_timing() == {}
    assert times() == ""
    with timed("evaluate", tokens=7):
        sum(range(100_000))
    assert set(read_timing()) == {"evaluate"}
    assert times().startswith("  evaluate: ")
