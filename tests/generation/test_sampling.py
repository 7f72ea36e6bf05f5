"""Sampling: what is kept of a distribution, and how often each token is drawn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncn.common.errors import InputError
from ncn.generation.sampling import Sampling, distribution, sample

LOGITS = st.lists(st.integers(-160, 160).map(lambda n: n / 8), min_size=1, max_size=30)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0.01, 10),
    top_k=st.none() | st.integers(0, 40),
    top_p=st.floats(0.01, 1),
)


@given(LOGITS, SAMPLINGS)
def test_what_is_kept_is_the_likeliest_and_no_more_than_needed(
    logits: list[float], sampling: Sampling
) -> None:
    row = torch.tensor([logits])
    (p,), (ids,) = distribution(row, sampling)
    assert sorted(ids.tolist()) == sorted(set(ids.tolist()))
    assert p.sum().item() == pytest.approx(1)
    k = min(sampling.top_k or len(logits), len(logits))
    assert len(ids) == k
    assert sorted(row[0, ids].tolist(), reverse=True) == sorted(logits, reverse=True)[:k]
    full = (row[0, ids].double() / sampling.temperature).softmax(0)
    kept = int((p > 0).sum())
    if sampling.top_p < 1:
        assert full[:kept].sum() >= sampling.top_p - 1e-9 or full[kept:].sum() < 1e-300
        assert full[: kept - 1].sum() < sampling.top_p + 1e-9
    torch.testing.assert_close(p[:kept], full[:kept] / full[:kept].sum())


@given(LOGITS, SAMPLINGS)
def test_each_token_is_drawn_as_often_as_it_is_probable(
    logits: list[float], sampling: Sampling
) -> None:
    n = 500
    rows = torch.tensor([logits]).expand(n, -1)
    drawn = sample(rows, (torch.arange(n) + 0.5) / n, sampling)
    (p,), (ids,) = distribution(rows[:1], sampling)
    expected = torch.zeros(len(logits), dtype=torch.float64).scatter(0, ids, p)
    counts = drawn.bincount(minlength=len(logits))
    assert (counts / n - expected).abs().max() <= 1.5 / n
    assert torch.all(expected[drawn] > 0)


@given(LOGITS, st.sampled_from([0.0, 0.5, 1 - 2**-53]), SAMPLINGS)
def test_the_ends_of_the_unit_interval_draw_tokens_that_were_kept(
    logits: list[float], uniform: float, sampling: Sampling
) -> None:
    row = torch.tensor([logits])
    token = sample(row, torch.tensor([uniform], dtype=torch.float64), sampling)
    (p,), (ids,) = distribution(row, sampling)
    assert p[ids == token].item() > 0


@given(LOGITS, st.floats(0, 1, exclude_max=True))
def test_no_temperature_one_token_or_next_to_no_mass_is_greedy(
    logits: list[float], uniform: float
) -> None:
    row, u = torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64)
    for sampling in (
        Sampling(temperature=0),
        Sampling(1e-30),
        Sampling(top_k=1),
        Sampling(top_p=1e-9),
    ):
        token = sample(row, u, sampling)
        assert row[0, token] == row.max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, r"temperature -1.0: allowed are 0 \(greedy\) and finite"),
        ({"temperature": float("nan")}, "temperature nan: allowed"),
        ({"temperature": float("inf")}, "temperature inf: allowed"),
        ({"top_k": -1}, "top_k -1: allowed are 1 and more, or 0 for all tokens"),
        ({"top_p": 0.0}, "top_p 0.0: allowed are numbers above 0, at most 1"),
        ({"top_p": 1.5}, "top_p 1.5: allowed"),
    ],
)
def test_values_out_of_range_name_what_is_allowed(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**settings)
