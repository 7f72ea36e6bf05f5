"""One token more of several texts on a CPU: another way through the same function."""

import pytest
import torch

from ncn.corpus.conditions import NO_CONDITIONS
from ncn.generation import decoding, many_texts
from ncn.generation.caches import make_cache
from ncn.generation.decoding import conditions_of, generate, token_reader
from ncn.generation.many_texts import ManyTexts, suits_many
from ncn.generation.refresh import EveryTokens
from ncn.settings import Params
from tests.conftest import special
from tests.generation.saved import lively
from tests.generation.test_one_token import OTHERS, PLAIN
from tests.model.test_language_model import shaken, tokens


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the small models of tests."""
    monkeypatch.setattr(many_texts, "WORTH_WEIGHTS", 0)


@pytest.mark.parametrize(("settings", "salience"), PLAIN)
def test_its_logits_are_the_models(
    tiny: Params, settings: dict[str, str], salience: str | None, worth_it: None
) -> None:
    text, model = tokens(3, 40), shaken(special(tiny, **settings))
    assert suits_many(model, 3)
    cache = make_cache(model, 3)
    many = ManyTexts(model, cache, 3)
    with torch.inference_mode():
        model.next_logits(text[:, :17], salience, cache)
        logits = [
            many.next_logits(text[:, t : t + 1], salience, NO_CONDITIONS) for t in range(17, 40)
        ]
        whole = model(text, salience)[:, 17:]
    assert whole.std() > 0.3  # not a comparison of zeros
    torch.testing.assert_close(torch.stack(logits, dim=1), whole, atol=1e-4, rtol=0)
    assert cache.length == 40


def test_texts_are_those_of_the_model_far_past_the_context_with_all_that_is_told(
    tiny: Params, monkeypatch: pytest.MonkeyPatch, worth_it: None
) -> None:
    model, prompts = lively(special(tiny, salience="causal", tasks=3)), tokens(3, 9)
    told, refresh = conditions_of(model, 2), EveryTokens(3)
    made = []

    def noted(*given: object) -> ManyTexts:
        made.append(given)
        return ManyTexts(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "ManyTexts", noted)
    quick = generate(model, prompts, 200, 0.0, refresh=refresh, conditions=told)
    assert len(made) == 1
    monkeypatch.setattr(many_texts, "WORTH_WEIGHTS", 2**40)
    assert torch.equal(quick, generate(model, prompts, 200, 0.0, refresh=refresh, conditions=told))
    assert len(made) == 1


@pytest.mark.parametrize("settings", OTHERS)
def test_what_it_cannot_compute_it_leaves_to_the_model(
    tiny: Params, settings: dict[str, object], worth_it: None
) -> None:
    assert not suits_many(lively(special(tiny, **settings)), 3)


def test_small_models_and_one_text_are_not_its_own(tiny: Params) -> None:
    model = lively(special(tiny))
    assert token_reader(model, make_cache(model, 3), 3) is None
    assert not suits_many(model, 1)
