"""What training will take is told before it starts, and comes near to what it takes."""

import copy

import pytest
import torch

from ncn.benchmark.kernels import peak_bytes
from ncn.model import LanguageModel, build_model
from ncn.settings import Params
from ncn.training.cost import training_cost
from ncn.training.step import Engine
from tests.parity import DEVICE
from tests.training.test_step import batch

ROWS, LENGTH, VOCABULARY = 4, 256, 4096


def middling(params: Params) -> LanguageModel:
    """Large enough for its tensors to outweigh what else a process does with memory."""
    shape = {"d_model": 256, "n_layers": 4, "d_ff": 1024, "context_length": LENGTH}
    params = params.model_copy(update={"model": params.model.model_copy(update=shape)})
    return build_model(params, "ncn_causal", VOCABULARY, 1).to(DEVICE)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kernels", ["reference", "chunked"])
def test_the_memory_of_a_step_is_foreseen(
    params: Params, kernels: str, checkpointing: bool
) -> None:
    changes = {
        "kernels": kernels, "checkpointing": checkpointing,
        "micro_batch_size": ROWS, "grad_accum_steps": 1,
    }  # fmt: skip
    train = params.train.model_copy(update=changes)
    model = middling(params)
    engine = Engine(copy.deepcopy(model), train, seed=0)
    engine.step(batch(0, ROWS, LENGTH + 1), 1e-3)  # now there are moments
    rows = batch(1, ROWS, LENGTH + 1)
    # The least of four: code that a busy machine reads back from disk counts as taken too.
    step = min(peak_bytes(lambda: engine.step(rows, 1e-3), DEVICE) for _ in range(4))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    # The gradients of the step before are held when the measurement starts.
    taken = 4 * weights + step
    assert 0.8 < training_cost(model, train, 100).peak_bytes / taken < 1.25


def test_an_estimate_leaves_the_model_as_it_was(tiny: Params) -> None:
    model = build_model(tiny, "ncn", 97, 1)
    before = copy.deepcopy(model.state_dict())
    training_cost(model, tiny.train, 100)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_words_name_steps_time_memory_and_what_they_speak_of(tiny: Params) -> None:
    changes = {"processes": 2, "compile": True, "micro_batch_size": 8, "grad_accum_steps": 2}
    train = tiny.train.model_copy(update={**changes, "epochs": 1})
    cost = training_cost(build_model(tiny, "ncn", 97, 1), train, 160)
    assert (cost.steps, cost.tokens) == (10, 10 * 16 * 40)
    words = str(cost._replace(tokens_per_second=640, peak_bytes=2**30))
    assert words == (
        "10 steps, 0.0 M tokens at 640 a second: about 0:00:10 and 1.0 GiB of memory a process,"
        " before compilation"
    )
