"""What is shown of a model while it trains."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.model import LanguageModel, build_model
from ncn.monitoring import preview
from ncn.settings import Params

TEXT = "Once upon a time there was a small dog. It ran to the big old tree and sat down. "


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    train_tokenizer([TEXT * 3], 300, tmp_path)
    return tmp_path


def test_the_first_beginning_with_words_is_shown(
    vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: Iterator[str] = iter(["", " \n", "Once upon", "never asked for"])
    monkeypatch.setattr(preview, "beginning", lambda *_: next(texts, ""))
    show = preview.previewer(vocabulary)
    model = object()
    assert show(model) == "Once upon"  # type: ignore[arg-type]
    assert show(model) == "never asked for"  # type: ignore[arg-type]
    assert show(model) == "(no words yet)"  # type: ignore[arg-type]


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_a_beginning_is_drawn_by_its_seed_alone(tiny: Params, vocabulary: Path, arm: str) -> None:
    tokenizer = load_tokenizer(vocabulary)
    model: LanguageModel = build_model(tiny, arm, tokenizer.vocab_size, 1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (preview.beginning(model, tokenizer, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)
