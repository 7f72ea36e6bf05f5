"""What the tests of generation share with those of its command: saved models, a vocabulary."""

from functools import partial
from pathlib import Path

import pytest
import torch

from ncn.control.network import ControlNetwork
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from ncn.model import build_model, save_model
from ncn.settings import Params
from tests.conftest import with_arm
from tests.model.test_language_model import shaken

# At this scale greedy text wanders over half of the vocabulary, and a wrong cache shows at once.
lively = partial(shaken, scale=1.0)

STORIES = ["Once upon a time there was a tiny dragon. He had a café. 🐉 flew.\n"] * 3


@pytest.fixture(scope="module")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(STORIES, 290, directory)
    return directory


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture(scope="module")
def model_directory(tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "ncn_causal-1"
    save_model(lively(build_model(tiny, "ncn_causal", 290)), directory)
    return directory


@pytest.fixture(scope="module")
def told_directory(tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that is told of tasks and sliders."""
    directory = tmp_path_factory.mktemp("told") / "model"
    inputs = {"tasks": 3, "sliders": ["token_bytes", "dialogue"], "salience": "causal"}
    model = lively(build_model(with_arm(tiny, **inputs), "special", 290))
    assert isinstance(model.control, ControlNetwork)
    model.control.slider_mean.copy_(torch.tensor([4.0, 0.02]))
    model.control.slider_sd.copy_(torch.tensor([0.5, 0.01]))
    save_model(model, directory)
    return directory
