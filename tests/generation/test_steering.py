"""A slider that steers is found to, and one that nobody hears is not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ncn.control.network import ControlNetwork
from ncn.corpus.conditions import Conditions
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from ncn.generation import steering as module
from ncn.generation.sampling import Sampling
from ncn.generation.steering import steering
from ncn.model import LanguageModel, build_model
from ncn.settings import Params
from ncn.sources.stories import write_stories
from tests.conftest import with_arm

PROMPTS = torch.arange(24).view(6, 4)
SAMPLING = Sampling(1.0, 0, 1.0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("vocabulary")
    train_tokenizer(write_stories(30, 1), 300, folder)
    return load_tokenizer(folder)


def model_of(params: Params, sliders: list[str]) -> LanguageModel:
    arm = {"salience": "causal", "sliders": sliders}
    model = build_model(with_arm(params, **arm), "special", 300, 1)
    assert isinstance(model.control, ControlNetwork)
    if sliders:
        model.control.slider_mean.fill_(0.25)
        model.control.slider_sd.fill_(0.5)
    return model


def found(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, dict[str, list[float]]]:
    return steering(model, PROMPTS, 8, tokenizer, SAMPLING, 3, [-2.0, 2.0])


def test_the_slope_is_how_far_the_text_follows(
    tiny: Params, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With continuations planted that speak as the slider says, in a quarter of its units."""
    pieces = tokenizer.token_bytes()
    quote = next(n for n, piece in enumerate(pieces) if piece == b'"')
    other = next(n for n, piece in enumerate(pieces) if piece == b"a")

    def planted(
        model: LanguageModel, prompts: torch.Tensor, length: int, *_: object, **given: object
    ) -> torch.Tensor:
        conditions = given["conditions"]
        assert isinstance(conditions, Conditions)
        value = 0.0 if conditions.sliders is None else conditions.sliders[0, 0].item()
        text = torch.full((len(prompts), length), other)
        text[:, : int(4 + value)] = quote  # of 8 tokens: an eighth a unit, a quarter of the sd
        return torch.cat([prompts, text], dim=1)

    monkeypatch.setattr(module, "generate", planted)
    each = found(model_of(tiny, ["dialogue"]), tokenizer)["dialogue"]
    assert each["slope"] == pytest.approx([0.25] * 3)
    assert np.array(each["moved"])[:, 0] == pytest.approx([-0.5, 0.5])


def test_a_network_that_does_not_hear_its_slider_has_a_slope_of_0(
    tiny: Params, tokenizer: Tokenizer
) -> None:
    model = model_of(tiny, ["dialogue", "token_bytes"])
    assert isinstance(model.control, ControlNetwork)
    with torch.no_grad():
        model.control.sliders.weight.zero_()
    each = found(model, tokenizer)
    assert list(each) == ["dialogue", "token_bytes"]
    assert all(entry["slope"] == [0, 0, 0] for entry in each.values())


def test_a_model_without_sliders_is_not_asked(tiny: Params, tokenizer: Tokenizer) -> None:
    assert found(model_of(tiny, []), tokenizer) == {}
    plain = build_model(with_arm(tiny, controller="none"), "special", 300, 1)
    assert found(plain, tokenizer) == {}
