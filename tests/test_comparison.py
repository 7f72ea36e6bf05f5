"""What the comparison says in words, fed with results of every kind."""

import pytest

from ncn.comparison import in_words

PLAIN = {"val_ppl": 2.5, "future_leak": 0.0}


def entry(low: float, high: float, **more: float) -> dict[str, float]:
    middle = (low + high) / 2
    return PLAIN | {"delta_ppl": middle, "delta_ppl_low": low, "delta_ppl_high": high} | more


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.2, -0.1, "lower than the baseline's"),
        (0.1, 0.2, "higher than the baseline's"),
        (-0.1, 0.1, "not distinguishable from the baseline's"),
        (-0.1, 0.0, "not distinguishable from the baseline's"),
    ],
)
def test_the_verdict_follows_the_interval(low: float, high: float, verdict: str) -> None:
    assert verdict in in_words("ncn", entry(low, high), 800, 2)


def test_one_seed_is_said_and_several_are_not() -> None:
    assert "not of the method" in in_words("ncn", entry(0.1, 0.2), 800, 1)
    assert "not of the method" not in in_words("ncn", entry(0.1, 0.2), 800, 3)


def test_a_leak_is_said_beside_even_a_better_perplexity() -> None:
    words = in_words("ncn", entry(-0.2, -0.1, future_leak=0.7, val_ppl_reactive=3.25), 800, 1)
    assert "reads the future" in words
    assert "not a language model's perplexity" in words
    assert "3.2500" in words
    assert "reads the future" not in in_words("ncn", entry(-0.2, -0.1), 800, 1)


def test_without_a_baseline_there_is_no_verdict() -> None:
    assert in_words("ncn", PLAIN, 800, 1) == "ncn: perplexity 2.5000."
