"""A training that is watched is byte for byte one that is not: so no stage declares this room."""

from pathlib import Path

import pytest
import torch

from ncn.corpus.tokenizer import train_tokenizer
from ncn.model import LanguageModel, build_model
from ncn.monitoring.cost import training_cost
from ncn.monitoring.preview import previewer
from ncn.settings import Params
from ncn.training.log import LogRow
from ncn.training.loop import train_model
from tests.monitoring.test_preview import TEXT
from tests.training.test_loop import quick, rows

SIZE = 300  # of the vocabulary


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    train_tokenizer([TEXT * 3], SIZE, tmp_path)
    return tmp_path


def trained(
    params: Params, arm: str, vocabulary: Path | None
) -> tuple[LanguageModel, list[LogRow]]:
    """A model and its log, watched where there is a vocabulary to read its texts with."""
    model = build_model(params, arm, SIZE, 1)
    show = None
    if vocabulary is not None:
        training_cost(model, params.train, len(rows()))
        show = previewer(vocabulary)
    log = train_model(model, rows(), params.train, 1, arm, validation=rows(8), sample=show)
    return model, log


@pytest.mark.parametrize("kernels", ["reference", "chunked"])
@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_what_watches_a_training_changes_nothing_of_it(
    tiny: Params, vocabulary: Path, arm: str, kernels: str
) -> None:
    params = quick(tiny, epochs=3, kernels=kernels)
    dropped = params.model.model_copy(update={"dropout": 0.1})  # draws of the global stream
    params = params.model_copy(update={"model": dropped})
    (alone, log), (seen, log_seen) = (trained(params, arm, each) for each in (None, vocabulary))
    assert log == log_seen
    weights = seen.state_dict()
    assert all(torch.equal(each, weights[name]) for name, each in alone.state_dict().items())
