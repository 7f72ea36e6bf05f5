"""Scoring, yardsticks and the leak."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ncn.corpus.rows import Rows
from ncn.corpus.split import choose_sequences
from ncn.model import LanguageModel, build_model
from ncn.model.inputs import split_rows
from ncn.scoring.leak import future_leak
from ncn.scoring.losses import clusters_of, forms_of, mean_by, mean_over, score_tokens
from ncn.scoring.yardsticks import yardsticks
from ncn.settings import Params
from tests.conftest import VOCABULARY, special

CPU = torch.device("cpu")


def rows(n: int, seed: int = 0, length: int = 20, vocabulary: int = VOCABULARY) -> Rows:
    return np.random.default_rng(seed).integers(vocabulary, size=(n, length)).astype(np.uint16)


@pytest.fixture
def model(tiny: Params) -> LanguageModel:
    return build_model(tiny, "ncn", VOCABULARY, 1).eval()


def test_token_losses_are_the_cross_entropies(model: LanguageModel) -> None:
    sequences = rows(7)
    tokens, targets, _ = split_rows(sequences, CPU)
    log_probabilities = model(tokens).double().log_softmax(-1)
    expected = -log_probabilities.gather(2, targets[..., None]).squeeze(2)
    losses = score_tokens(model, sequences, batch_size=3)
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "forms"),
    [
        ({"controller": "none"}, ["as_trained"]),
        ({"controller": "static"}, ["as_trained"]),
        ({"salience": "none"}, ["as_trained"]),
        ({"salience": "reactive"}, ["as_trained"]),
        ({"salience": "causal"}, ["as_trained", "reactive"]),
        ({"salience": "global"}, ["as_trained", "causal", "reactive"]),
    ],
)
def test_a_model_is_scored_in_the_forms_that_differ_from_its_own(
    tiny: Params, changes: dict[str, str], forms: list[str]
) -> None:
    assert list(forms_of(special(tiny, **changes))) == forms


def test_causal_scoring_of_a_global_model_is_that_of_a_causal_one(tiny: Params) -> None:
    trained = special(tiny, salience="global").eval()
    causal = special(tiny, salience="causal").eval()
    causal.load_state_dict(trained.state_dict())
    expected = score_tokens(causal, rows(3), 2)
    np.testing.assert_array_equal(score_tokens(trained, rows(3), 2, "causal"), expected)
    assert not np.array_equal(score_tokens(trained, rows(3), 2), expected)


def test_reactive_scoring_is_that_of_a_reactive_model(tiny: Params, model: LanguageModel) -> None:
    reactive = special(tiny, salience="reactive").eval()
    reactive.load_state_dict(model.state_dict())
    expected = score_tokens(reactive, rows(3), 2)
    np.testing.assert_array_equal(score_tokens(model, rows(3), 2, "reactive"), expected)


def test_the_sequences_are_drawn_by_seed_and_are_all_where_there_are_fewer() -> None:
    assert choose_sequences(5, 3200, 42).tolist() == [0, 1, 2, 3, 4]
    chosen = choose_sequences(53_488, 3200, 42)
    assert len(set(chosen.tolist())) == 3200
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, choose_sequences(53_488, 3200, 42))
    assert not np.array_equal(chosen, choose_sequences(53_488, 3200, 43))


def test_yardsticks_are_the_cross_entropies_of_the_counts() -> None:
    train, scored = rows(50, 1, 9, 5), rows(20, 2, 9, 5)
    pairs = {(a, b): 0 for a in range(5) for b in range(5)}
    for row in train.tolist():
        for pair in pairwise(row):
            pairs[pair] += 1
    target = {b: 1 + sum(pairs[a, b] for a in range(5)) for b in range(5)}
    unigram = {b: target[b] / sum(target.values()) for b in range(5)}

    def bigram(a: int, b: int) -> float:
        return (pairs[a, b] + 10 * unigram[b]) / (sum(pairs[a, c] for c in range(5)) + 10)

    seen = [pair for row in scored.tolist() for pair in pairwise(row)]
    result = yardsticks(train, scored, 5)
    assert result.uniform == pytest.approx(math.log(5))
    assert result.unigram == pytest.approx(-np.mean([math.log(unigram[b]) for _, b in seen]))
    assert result.bigram == pytest.approx(-np.mean([math.log(bigram(a, b)) for a, b in seen]))
    assert sum(bigram(2, b) for b in range(5)) == pytest.approx(1)


def test_yardsticks_know_a_language_of_pairs() -> None:
    cycle = (np.arange(40)[:, None] + np.arange(21)) % 30
    result = yardsticks(np.tile(cycle, (40, 1)).astype(np.uint16), cycle.astype(np.uint16), 30)
    assert result.bigram < 0.1 < 3.3 < result.unigram


@pytest.mark.parametrize(
    ("settings", "leaks"),
    [({"controller": "none"}, False), ({"salience": "causal"}, False), ({}, True)],
)
def test_only_global_salience_leaks(tiny: Params, settings: dict[str, str], leaks: bool) -> None:
    model = special(tiny, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    assert (future_leak(model, rows(4, length=41), 42) > 0) == leaks


def test_the_leak_catches_a_planted_one(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    model = special(tiny, controller="none").eval()
    assert future_leak(model, rows(4), 42) == 0
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, mask, is_causal: attend(q, k, v)
    )
    assert future_leak(model, rows(4), 42) > 0


def test_a_story_goes_on_from_row_to_row_and_its_end_belongs_to_it() -> None:
    stream = np.array([7, 1, 2, 9, 3, 4, 5, 9, 9, 6, 1, 2, 3]).astype(np.uint16)
    windows = stream[np.arange(3)[:, None] * 4 + np.arange(5)]  # the last is the next one's first
    every = np.arange(3)
    stories = clusters_of(windows, every, "story", end_of_text=9)
    assert stories.tolist() == [[0, 0, 0, 1], [1, 1, 1, 2], [3, 3, 3, 3]]
    assert clusters_of(windows, every, "tail", 9).tolist() == stories.tolist()
    assert clusters_of(windows, every, "sequence", 9).tolist() == [[0] * 4, [1] * 4, [2] * 4]


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("unit", ["story", "tail", "sequence"])
def test_a_row_has_the_clusters_that_it_has_among_all(
    monkeypatch: pytest.MonkeyPatch, unit: str, at_once: int
) -> None:
    monkeypatch.setattr("ncn.scoring.losses.COUNTED_ROWS", at_once)
    every, some = np.arange(20), np.array([0, 3, 4, 19])
    sequences = rows(20, vocabulary=7)
    of_all = clusters_of(sequences, every, unit, end_of_text=2)
    assert np.array_equal(clusters_of(sequences, some, unit, end_of_text=2), of_all[some])


def test_clusters_keep_the_mean_loss() -> None:
    losses = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    groups = np.random.default_rng(1).integers(4, size=(5, 6))
    table = mean_by("story", groups, {"loss": losses})
    assert [row["story"] for row in table] == sorted(set(groups.ravel().tolist()))
    assert sum(row["tokens"] for row in table) == 30
    total = sum(row["tokens"] * row["loss"] for row in table)
    assert total / 30 == pytest.approx(losses.mean(dtype=np.float64))
    assert mean_over(table, "loss") == pytest.approx(losses.mean(dtype=np.float64))
    first = table[0]
    assert first["loss"] == pytest.approx(losses[groups == first["story"]].mean())
