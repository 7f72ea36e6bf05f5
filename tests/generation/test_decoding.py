"""Generation: what the caches give is what the whole window would, and tokens fall as declared."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical

from ncn.common.errors import InputError
from ncn.generation.decoding import (
    conditions_of,
    generate,
    generation_salience,
    window_start,
)
from ncn.generation.refresh import ALWAYS, AboveEntropy, EveryTokens, Refresh
from ncn.generation.sampling import Sampling
from ncn.model import LanguageModel, load_model
from ncn.settings import Params
from tests.conftest import special
from tests.generation.saved import lively
from tests.model.test_language_model import shaken, tokens

GREEDY = Sampling(temperature=0)
# Every arm that can generate: its settings, and the salience asked for.
ARMS = [
    pytest.param({"controller": "none"}, None, id="baseline"),
    pytest.param({"controller": "static"}, None, id="static"),
    pytest.param({"salience": "causal"}, None, id="causal"),
    pytest.param({"salience": "reactive"}, None, id="reactive"),
    pytest.param({"salience": "none"}, None, id="none"),
    pytest.param({"salience": "global"}, "reactive", id="global, reactively"),
    pytest.param({"salience": "global"}, "causal", id="global, causally"),
    pytest.param({"salience": "causal", "attention_entropy": True}, None, id="entropy"),
    pytest.param({"salience": "causal", "signals": ["gain", "dropout"]}, None, id="dropout"),
    pytest.param({"salience": "causal", "signals": ["norm_film"]}, None, id="norm film"),
    pytest.param({"salience": "causal", "phasic": "layer"}, None, id="layer"),
    pytest.param({"salience": "causal", "controller": "recurrent"}, None, id="recurrent"),
    pytest.param(
        {"controller": "recurrent", "attention_entropy": True}, "reactive", id="recurrent, seeing"
    ),
    pytest.param({"salience": "global", "phasic": "layer"}, "reactive", id="layer, reactively"),
]


def long(params: Params, context_length: int = 300) -> Params:
    shape = params.model.model_copy(update={"context_length": context_length})
    return params.model_copy(update={"model": shape})


# Caches


@pytest.mark.parametrize(("settings", "salience"), ARMS)
@pytest.mark.parametrize("pieces", [(40,), (1,) * 40, (7, 1, 20, 1, 1, 10), (39, 1)])
def test_a_text_read_in_pieces_has_the_logits_of_the_whole(
    tiny: Params, settings: dict[str, str], salience: str | None, pieces: tuple[int, ...]
) -> None:
    text = tokens(3, 40)
    single, double = shaken(special(tiny, **settings)), lively(special(tiny, **settings)).double()
    for model, tolerance in ((single, 1e-4), (double, 1e-10)):
        cache = model.make_cache(3)
        logits = [model(piece, salience, cache) for piece in text.split(pieces, dim=1)]
        whole = model(text, salience)
        assert whole.std() > 0.3  # not a comparison of zeros
        torch.testing.assert_close(torch.cat(logits, dim=1), whole, atol=tolerance, rtol=0)
        assert cache.length == 40


@pytest.mark.parametrize(("settings", "salience"), ARMS)
@pytest.mark.parametrize("prompt", [3, 40])
def test_greedy_text_is_that_of_full_recomputation_far_past_the_context(
    tiny: Params, settings: dict[str, str], salience: str | None, prompt: int
) -> None:
    model, text = lively(special(tiny, **settings)), tokens(2, prompt)
    cached, recomputed = (
        generate(model, text, 256, 0.0, None, 0, salience, cached=cached)
        for cached in (True, False)
    )
    assert cached.shape == (2, prompt + 256)
    assert torch.equal(cached, recomputed)
    assert len(cached.unique()) > 25  # a text stuck on one token would prove little


@pytest.mark.parametrize("settings", [{"controller": "none"}, {"salience": "causal"}])
def test_greedy_text_is_that_of_full_recomputation_within_the_context(
    tiny: Params, settings: dict[str, str]
) -> None:
    model, text = lively(special(long(tiny), **settings)), tokens(2, 9)
    expected = text
    with torch.no_grad():
        for _ in range(256):
            expected = torch.cat([expected, model(expected)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, text, 256, 0.0), expected)


def test_the_last_logits_are_those_of_the_forward_pass(tiny: Params) -> None:
    model = lively(special(tiny))
    for batch in (1, 2, 5):
        text = tokens(batch, 11)
        torch.testing.assert_close(model.next_logits(text), model(text)[:, -1])


def test_a_cleared_cache_has_forgotten_its_text(tiny: Params) -> None:
    model, cache = lively(special(tiny, salience="causal")), None
    cache = model.make_cache(2)
    model(tokens(seed=1), cache=cache)
    cache.clear()
    assert torch.equal(model(tokens(), cache=cache), model(tokens(), cache=model.make_cache(2)))


def test_a_cache_refuses_what_it_cannot_hold(tiny: Params) -> None:
    model = special(tiny, salience="causal")
    cache = model.make_cache(2)
    model(tokens(length=39), cache=cache)
    with pytest.raises(ValueError, match="41 tokens are more than context_length 40"):
        model(tokens(length=2), cache=cache)
    with pytest.raises(ValueError, match="global salience pools the future"):
        model(tokens(length=1), "global", model.make_cache(2))


@given(st.integers(2, 40), st.integers(1, 400))
def test_windows_never_outgrow_the_context_nor_fall_below_three_quarters(
    context: int, length: int
) -> None:
    start = window_start(length, context)
    if length <= context:
        assert start == 0
    else:
        assert max(1, context * 3 // 4) <= length - start <= context
        assert window_start(length - 1, context) in {
            start,
            start - window_start(context + 1, context),
        }


# Salience and refresh


def test_global_models_generate_reactively_unless_asked_otherwise(tiny: Params) -> None:
    model = lively(special(tiny, salience="global"))
    own, reactive, causal = (
        generate(model, tokens(), 12, 0.0, salience=salience)
        for salience in (None, "reactive", "causal")
    )
    assert torch.equal(own, reactive)
    assert not torch.equal(own, causal)
    with pytest.raises(InputError, match="salience 'global': allowed to generate with are causal"):
        generate(model, tokens(), 1, salience="global")
    assert generation_salience(special(tiny, salience="causal"), None) == "causal"
    assert generation_salience(special(tiny, controller="none"), "causal") is None


def slow_refresh(
    model: LanguageModel, prompt: Tensor, new: int, refresh: Refresh
) -> tuple[Tensor, list[bool]]:
    """Greedy text of one row: c is pooled afresh for the whole text, and read where it was due."""
    assert model.control is not None
    assert model.control.pooling is not None
    pooling, text, due = model.control.pooling, prompt, []
    used = list(range(prompt.shape[1]))  # the position whose c each position uses
    pooled = type(pooling).forward
    for number in range(1, new + 1):
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(
                pooling, "forward", lambda x, mode, _=None: pooled(pooling, x, mode)[:, used]
            )
            logits = model(text)[:, -1]
        if isinstance(refresh, EveryTokens):
            due.append(number % refresh.n == 0)
        else:
            due.append(Categorical(logits=logits).entropy().item() > refresh.nats)
        used.append(len(used) if due[-1] else used[-1])
        text = torch.cat([text, logits.argmax(-1, keepdim=True)], dim=1)
    return text, due


@pytest.mark.parametrize("salience", ["causal", "reactive"])
@pytest.mark.parametrize("refresh", [EveryTokens(3), EveryTokens(50), AboveEntropy(1.3)])
def test_a_held_tonic_signal_is_the_one_of_the_last_refresh(
    tiny: Params, salience: str, refresh: Refresh
) -> None:
    model, prompts = lively(special(tiny, salience=salience)), tokens(3, 6)
    with_policy = generate(model, prompts, 34, 0.0, refresh=refresh)
    always = generate(model, prompts, 34, 0.0)
    for row, prompt in enumerate(prompts):
        expected, due = slow_refresh(model, prompt[None], 34, refresh)
        assert torch.equal(with_policy[row], expected[0])
        assert sum(due) < 34  # some are held
    assert not torch.equal(with_policy, always)


def test_refreshing_at_every_token_is_no_policy(tiny: Params) -> None:
    model, prompts = lively(special(tiny, salience="causal")), tokens(2, 6)
    always = generate(model, prompts, 80, 0.0)
    for refresh in (ALWAYS, EveryTokens(1), AboveEntropy(0.0)):
        assert torch.equal(generate(model, prompts, 80, 0.0, refresh=refresh), always)


def test_a_window_that_slides_is_encoded_with_fresh_signals(tiny: Params) -> None:
    model = lively(special(tiny, salience="causal"))
    text = generate(model, tokens(1, 40), 1, 0.0, refresh=EveryTokens(1000))
    longer = generate(model, tokens(1, 40), 2, 0.0, refresh=EveryTokens(1000))
    window = text[:, window_start(41, 40) :]
    assert window.shape[1] == 30
    assert torch.equal(longer[:, -1], model(window)[:, -1].argmax(-1))


# Seeds, rows, stopping


@pytest.fixture(scope="module")
def sampled(tiny: Params) -> LanguageModel:
    return lively(special(tiny, salience="causal"))


def test_a_seed_fixes_the_text_and_another_changes_it(sampled: LanguageModel) -> None:
    texts = [generate(sampled, tokens(), 60, 0.9, 20, seed, top_p=0.9) for seed in (3, 3, 4)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_a_row_is_what_it_is_alone_with_its_seed(sampled: LanguageModel) -> None:
    prompts = tokens(1, 5).expand(3, -1)
    rows = generate(sampled, prompts, 60, 0.9, 20, 7)
    for row in range(3):
        alone = generate(sampled, prompts[:1], 60, 0.9, 20, 7 + row)
        assert torch.equal(rows[row], alone[0])
    assert len({tuple(row.tolist()) for row in rows}) == 3  # one prompt, three texts
    assert torch.equal(generate(sampled, prompts, 60, 0.9, 20, [9, 8, 7])[2], rows[0])


def test_fewer_tokens_are_the_beginning_of_more(sampled: LanguageModel) -> None:
    short, long_ = (generate(sampled, tokens(), n, 1.0, None, 1) for n in (20, 70))
    assert torch.equal(short, long_[:, : short.shape[1]])


def test_a_row_stops_at_its_stop_token_and_the_text_when_all_have(sampled: LanguageModel) -> None:
    free = generate(sampled, tokens(2, 4), 60, 1.0, None, 2)[:, 4:]
    stop = int(free[0, 9])
    stopped = generate(sampled, tokens(2, 4), 60, 1.0, None, 2, stop=stop)[:, 4:]
    ends = [row.index(stop) + 1 if stop in row else 60 for row in free.tolist()]
    assert stopped.shape[1] == max(ends)
    for row, end in enumerate(ends):
        assert torch.equal(stopped[row, :end], free[row, :end])
        assert torch.all(stopped[row, end:] == stop)


def test_generation_leaves_no_trace_on_the_weights(sampled: LanguageModel) -> None:
    text = generate(sampled, tokens(), 5)
    assert not text.is_inference()
    assert all(not each.is_inference() for each in sampled.parameters())
    assert torch.equal(text[:, : tokens().shape[1]], tokens())
    assert torch.equal(generate(sampled, tokens(), 0), tokens())


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (0, {}, "a prompt of 0 tokens: allowed are 1 to context_length 40"),
        (41, {}, "a prompt of 41 tokens: allowed are 1 to context_length 40"),
        (4, {"max_new_tokens": -1}, "max_new_tokens -1: allowed are 0 and more"),
        (4, {"seed": [1]}, "1 seeds for 2 prompts"),
        (4, {"seed": -1}, "seed -1: allowed are 0"),
        (4, {"cached": False, "refresh": EveryTokens(2)}, "a refresh policy needs the cache"),
    ],
)
def test_what_cannot_be_generated_is_said(
    sampled: LanguageModel, length: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate(sampled, tokens(2, length), **({"max_new_tokens": 1} | options))


def test_told_text_is_that_of_full_recomputation_past_the_context(told_directory: Path) -> None:
    model = load_model(told_directory)
    conditions = conditions_of(model, 1, {"dialogue": -1.0})
    cached, recomputed = (
        generate(model, tokens(2, 9), 90, 0.0, conditions=conditions, cached=cached)
        for cached in (True, False)
    )
    assert torch.equal(cached, recomputed)
    assert not torch.equal(cached, generate(model, tokens(2, 9), 90, 0.0))
