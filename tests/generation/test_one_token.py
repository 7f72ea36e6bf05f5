"""One token at a time on a CPU: another way through the same function."""

import pytest
import torch

from ncn.corpus.conditions import NO_CONDITIONS
from ncn.generation.caches import make_cache
from ncn.generation.decoding import WORTH_TOKENS, conditions_of, generate
from ncn.generation.one_token import OneToken, suits
from ncn.generation.refresh import EveryTokens
from ncn.model import LanguageModel
from ncn.settings import Params
from tests.conftest import special
from tests.generation.saved import lively
from tests.generation.test_decoding import ARMS
from tests.model.test_language_model import shaken, tokens

# What it leaves to the model: signals made layer by layer, wide ones, rivals of the network.
LEFT = (
    "entropy",
    "layer",
    "layer, reactively",
    "norm film",
    "recurrent",
    "recurrent, seeing",
)
PLAIN = [arm for arm in ARMS if arm.id not in LEFT]
OTHERS = [
    {"salience": "causal", "attention_entropy": True},
    {"salience": "causal", "phasic": "layer"},
    {"salience": "causal", "controller": "recurrent"},
    {"salience": "causal", "signals": ["gain", "head_gate"]},
    {"salience": "causal", "signals": ["gain", "depth_gate"]},
    {"salience": "causal", "signals": ["gain", "norm_film"]},
    {"salience": "causal", "signals": ["activation_slope"]},
    {"controller": "none", "modulator": "gated_attention"},
]


@pytest.mark.parametrize(("settings", "salience"), PLAIN)
@pytest.mark.parametrize("prompt", [1, 17])
def test_its_logits_are_the_models(
    tiny: Params, settings: dict[str, str], salience: str | None, prompt: int
) -> None:
    text = tokens(1, 40)
    single, double = shaken(special(tiny, **settings)), lively(special(tiny, **settings)).double()
    for model, tolerance in ((single, 1e-4), (double, 1e-10)):
        assert suits(model, 1)
        cache = make_cache(model, 1)
        one_token = OneToken(model, cache)
        with torch.inference_mode():
            model.next_logits(text[:, :prompt], salience, cache)
            logits = [
                one_token.next_logits(text[:, t : t + 1], salience, NO_CONDITIONS)
                for t in range(prompt, 40)
            ]
            whole = model(text, salience)[0, prompt:]
        assert whole.std() > 0.3  # not a comparison of zeros
        torch.testing.assert_close(torch.cat(logits), whole, atol=tolerance, rtol=0)
        assert cache.length == 40


@pytest.mark.parametrize(("settings", "salience"), PLAIN)
def test_greedy_text_is_that_of_full_recomputation_far_past_the_context(
    tiny: Params, settings: dict[str, str], salience: str | None
) -> None:
    model, text = lively(special(tiny, **settings)), tokens(1, 9)
    cached, recomputed = (
        generate(model, text, 256, 0.0, None, 0, salience, cached=cached)
        for cached in (True, False)
    )
    assert torch.equal(cached, recomputed)


def test_a_held_tonic_signal_is_held(tiny: Params) -> None:
    model, prompt = lively(special(tiny, salience="causal")), tokens(2, 6)
    refresh = EveryTokens(3)
    alone = generate(model, prompt[:1], WORTH_TOKENS, 0.0, refresh=refresh)
    assert torch.equal(alone[0], generate(model, prompt, WORTH_TOKENS, 0.0, refresh=refresh)[0])


def test_it_is_told_what_the_model_is_told(tiny: Params) -> None:
    model = lively(special(tiny, salience="causal", tasks=3))
    for task in range(3):
        told, new = conditions_of(model, task), 2 * WORTH_TOKENS
        both = generate(model, tokens(1, 6).repeat(2, 1), new, 0.0, conditions=told)
        assert torch.equal(generate(model, tokens(1, 6), new, 0.0, conditions=told)[0], both[0])


@pytest.mark.parametrize("settings", OTHERS)
def test_what_it_cannot_compute_it_leaves_to_the_model(
    tiny: Params, settings: dict[str, object]
) -> None:
    model = lively(special(tiny, **settings))
    assert not suits(model, 1)
    cached, recomputed = (
        generate(model, tokens(1, 6), 64, 0.0, cached=cached) for cached in (True, False)
    )
    assert torch.equal(cached, recomputed)


def test_few_tokens_and_several_texts_are_the_models(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = lively(special(tiny)), []
    whole = LanguageModel.next_logits
    monkeypatch.setattr(
        LanguageModel,
        "next_logits",
        lambda self, *args: read.append(args[0].shape[1]) or whole(self, *args),
    )
    generate(model, tokens(1, 6), WORTH_TOKENS)
    assert read == [6]  # the prompt alone
    for rows, new in ((1, WORTH_TOKENS - 1), (2, WORTH_TOKENS)):
        read.clear()
        generate(model, tokens(rows, 6), new)
        assert read == [6] + [1] * (new - 1)
