"""One optimiser step: the same however it is cut, resumed or computed."""

import io

import numpy as np
import pytest
import torch

from ncn.config import Params
from ncn.corpus import Rows
from ncn.engine import Engine, NonFiniteError
from ncn.model import LanguageModel, build_model
from tests.conftest import VOCABULARY

LR = 1e-2


def batch(number: int, size: int = 8, length: int = 17) -> Rows:
    """Row t + 1 continues row t by 3: learnable by counting pairs. Another for each number."""
    starts = np.random.default_rng(number).integers(VOCABULARY, size=(size, 1))
    return ((starts + 3 * np.arange(length)) % VOCABULARY).astype(np.uint16)


def engine(params: Params, arm: str = "ncn", dropout: float = 0.1, **changes: object) -> Engine:
    """A seeded engine of `arm`, with `changes` of the section train."""
    shape = params.model.model_copy(update={"dropout": dropout})
    train = params.train.model_copy(update={"grad_accum_steps": 1, **changes})
    model = build_model(params.model_copy(update={"model": shape}), arm, VOCABULARY, 1)
    return Engine(model, train, seed=1)


def weights(model: LanguageModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_an_engine_goes_on_from_a_saved_state_to_the_bit(tiny: Params) -> None:
    undisturbed, interrupted = engine(tiny), engine(tiny)
    for number in range(3):
        interrupted.step(batch(number), LR)
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)  # what other code drew in between is no part of the state
    resumed = engine(tiny)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    expected = [undisturbed.step(batch(number), LR) for number in range(6)]
    assert [resumed.step(batch(number), LR) for number in range(3, 6)] == expected[3:]
    assert torch.equal(weights(resumed.model), weights(undisturbed.model))


@pytest.mark.parametrize("planted", [torch.nan, torch.inf])
def test_a_step_that_is_not_finite_names_itself_and_changes_nothing(
    tiny: Params, planted: float
) -> None:
    mine = engine(tiny)
    mine.step(batch(0), LR)
    with torch.no_grad():
        mine.model.norm.weight[0] = planted
    before = weights(mine.model)
    with pytest.raises(NonFiniteError, match=r"step 2: loss .* must be finite; try a smaller"):
        mine.step(batch(1), LR)
    assert torch.equal(weights(mine.model).nan_to_num(), before.nan_to_num())
    assert mine.steps == 1
