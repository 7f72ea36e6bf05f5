"""What training will take is told before it starts, and comes near to what it takes."""

import copy
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

import ncn.monitoring.cost
from ncn.benchmark.kernels import peak_bytes
from ncn.model import LanguageModel, build_model
from ncn.monitoring.cost import experiment_cost, large_cost, training_cost
from ncn.settings import ModelConfig, Params
from ncn.training.step import Engine
from tests.parity import DEVICE
from tests.training.test_step import batch

ROWS, LENGTH, VOCABULARY = 4, 256, 4096


def middling(params: Params) -> LanguageModel:
    """Large enough for its tensors to outweigh what else a process does with memory."""
    shape = {"d_model": 256, "n_layers": 4, "d_ff": 1024, "context_length": LENGTH}
    params = params.model_copy(update={"model": params.model.model_copy(update=shape)})
    return build_model(params, "ncn_causal", VOCABULARY, 1).to(DEVICE)


def foreseen_beside_taken(params: Params, kernels: str, checkpointing: bool) -> float:
    """The memory of a training step as it is told before, beside what it then takes."""
    changes = {
        "kernels": kernels, "checkpointing": checkpointing,
        "micro_batch_size": ROWS, "grad_accum_steps": 1,
    }  # fmt: skip
    train = params.train.model_copy(update=changes)
    model = middling(params)
    engine = Engine(copy.deepcopy(model), train, seed=0)
    engine.step(batch(0, ROWS, LENGTH + 1), 1e-3)  # now there are moments
    rows = batch(1, ROWS, LENGTH + 1)
    # The least of twelve: code that a busy machine reads back from disk, and what the allocator
    # keeps beside what is used, count as taken too.
    step = min(peak_bytes(lambda: engine.step(rows, 1e-3), DEVICE) for _ in range(12))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    # The gradients of the step before are held when the measurement starts.
    return training_cost(model, train, 100).peak_bytes / (4 * weights + step)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kernels", ["reference", "chunked"])
def test_the_memory_of_a_step_is_foreseen(
    params: Params, kernels: str, checkpointing: bool
) -> None:
    # In a process of its own, as training has: resident memory counts the holes that hundreds of
    # tests leave in this one's heap.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        ratio = fresh.submit(foreseen_beside_taken, params, kernels, checkpointing).result()
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_that_is_not_built_is_foreseen_by_its_first_layers(
    params: Params, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if DEVICE.type == "cpu":  # of this process, whatever else the machine does meanwhile
        monkeypatch.setattr(time, "perf_counter", time.process_time)
    train = params.train.model_copy(update={"checkpointing": checkpointing})
    shape = {"d_model": 128, "n_layers": 6, "d_ff": 512, "context_length": LENGTH}
    params = params.model_copy(update={"model": params.model.model_copy(update=shape)})
    model = build_model(params, "ncn_causal", VOCABULARY, 1).to(DEVICE)
    built = training_cost(model, train, 100)
    foreseen = large_cost(model.config, train, 100, DEVICE)
    assert (foreseen.steps, foreseen.tokens) == (built.steps, built.tokens)
    assert 0.9 < foreseen.peak_bytes / built.peak_bytes < 1.1
    assert 0.3 < foreseen.tokens_per_second / built.tokens_per_second < 3  # passes of 0.1 s


def test_a_large_model_is_not_built_for_its_estimate(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepest = []
    whole = ncn.monitoring.cost.LanguageModel

    def built(config: ModelConfig) -> LanguageModel:
        deepest.append(config.n_layers)
        return whole(config)

    monkeypatch.setattr(ncn.monitoring.cost, "LanguageModel", built)
    monkeypatch.setattr(ncn.monitoring.cost, "LARGE", 1000)
    deep = params.model_copy(update={"model": params.model.model_copy(update={"n_layers": 40})})
    experiment_cost(deep)
    assert set(deepest) == {1, 2}


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
