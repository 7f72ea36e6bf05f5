"""A little fuzzing in every run, past faults again, and that the campaign sees a fault."""

import math
import random
import time
from pathlib import Path

import pytest

from ncn.common.errors import InputError
from tests.fuzz import campaign
from tests.fuzz.campaign import inputs, once_more
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

FAULTS = sorted((Path(__file__).parent / "faults").iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_input_ends_in_what_it_should_or_in_a_line(target: str) -> None:
    few = math.ceil(30 * min(1, TARGETS[target].weight))  # of what takes a second, three
    assert inputs(target, seed=1, numbers=range(few)) == []


@pytest.mark.parametrize("path", FAULTS, ids=[path.name for path in FAULTS])
def test_a_past_fault_is_none_any_more(path: Path) -> None:
    assert once_more(path) == []


def write() -> None:
    Path("numbers.json").write_text("[1, 2, 3]")


def read(how: str) -> None:
    match how:
        case "refused":
            raise InputError("numbers.json: one line")
        case "a page":
            raise InputError("numbers.json: " + "this " * 1000)
        case "traceback":
            raise KeyError("a")
        case "hang":
            time.sleep(60)
        case "wrong":
            raise AssertionError
    assert Path("numbers.json").exists()


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("right", None),
        ("refused", None),
        ("a page", "a message that is no line"),
        ("traceback", "KeyError in test_fuzz.py"),
        ("hang", "no end after 1 s"),
        ("wrong", "AssertionError in test_fuzz.py"),
    ],
)
def test_a_fault_is_seen(monkeypatch: pytest.MonkeyPatch, how: str, kind: str | None) -> None:
    monkeypatch.setattr(campaign, "SECONDS", 1)
    monkeypatch.setitem(TARGETS, "planted", Target(write, "*.json", lambda _: read(how)))
    found = inputs("planted", seed=0, numbers=range(1))
    assert [fault.kind.partition(":")[0] for fault in found] == ([kind] if kind else [])


def test_an_input_is_the_same_each_time() -> None:
    content = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    for name in ("x.json", "x.yaml", "x.tsv", "x.bin"):
        once, again = (
            [mutated(name, content, random.Random(seed)) for seed in range(50)] for _ in range(2)
        )
        assert once == again
        assert len(set(once)) > 25
