"""The groups of the optimiser: each parameter in one, at its own share of the learning rate."""

import io
from typing import Any

import pytest
import torch

from ncn.settings import Params
from ncn.training.optimizer import belongs, make_optimizer, set_learning_rate
from ncn.training.step import Engine
from tests.conftest import with_arm
from tests.training.test_processes import in_two_processes, made, process_group
from tests.training.test_step import LR, batch, engine, weights

HALVED = {"control": 0.5, "blocks.1": 0.5, "blocks.1.attention": 1.0}
CPU = torch.device("cpu")


def moved(mine: Engine) -> dict[str, torch.Tensor]:
    """How far each parameter went in the first step."""
    before = {name: each.detach().clone() for name, each in mine.model.named_parameters()}
    mine.step(batch(0), LR)
    return {name: each.detach() - before[name] for name, each in mine.model.named_parameters()}


@pytest.mark.parametrize("decay", ["all", "matrices"])
@pytest.mark.parametrize("part", ["control", "embedding", "blocks.1", "blocks.*.attention"])
def test_half_the_factor_is_half_the_first_step_of_that_part_and_no_other(
    tiny: Params, part: str, decay: str
) -> None:
    whole = moved(engine(tiny, decay=decay))
    halved = moved(engine(tiny, decay=decay, lr_scale={part: 0.5}))
    assert {belongs(name, part) for name in whole} == {True, False}
    for name, step in whole.items():
        if belongs(name, part):
            torch.testing.assert_close(halved[name], step / 2, rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(halved[name], step), name


@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_a_factor_of_1_leaves_the_groups_as_they_are(tiny: Params, decay: str) -> None:
    def groups(lr_scale: dict[str, float]) -> list[list[str]]:
        model = engine(tiny).model
        names = {id(each): name for name, each in model.named_parameters()}
        train = tiny.train.model_copy(update={"decay": decay, "lr_scale": lr_scale})
        optimizer = make_optimizer(model, train)
        set_learning_rate(optimizer, LR)
        assert {group["lr"] for group in optimizer.param_groups} == {LR}
        return [[names[id(each)] for each in group["params"]] for group in optimizer.param_groups]

    assert groups({"control": 1.0, "blocks.0": 1.0}) == groups({})
    assert len(groups({})) == (1 if decay == "all" else 2)


def plastic(tiny: Params, biases: list[float], **changes: object) -> Engine:
    """An engine whose static gain of each layer starts at 2 sigmoid(bias)."""
    arm = {"controller": "static", "signals": ["gain"], "homeostatic_lambda": 0.0, **changes}
    mine = engine(with_arm(tiny, **arm), "special", dropout=0.0)
    with torch.no_grad():
        mine.model.control.output_bias.copy_(torch.tensor(biases))
    return mine


@pytest.mark.parametrize("decay", ["all", "matrices"])
def test_a_layer_moves_by_the_mean_of_its_signal(tiny: Params, decay: str) -> None:
    biases = [0.0, 1.0, *[0.0] * (tiny.model.n_layers - 2)]
    train = tiny.model_copy(update={"train": tiny.train.model_copy(update={"decay": decay})})
    plain, mine = (moved(plastic(train, biases, plasticity=each)) for each in ("none", "gain"))
    factor = 2 * torch.tensor(1.0).sigmoid()
    for name, step in plain.items():
        if name.startswith("blocks.1."):
            torch.testing.assert_close(mine[name], factor * step, rtol=1e-3, atol=1e-7)
        else:
            assert torch.equal(mine[name], step), name


def test_the_neutral_signal_trains_as_without_plasticity(tiny: Params) -> None:
    biases = [0.0] * tiny.model.n_layers
    plain, mine = (moved(plastic(tiny, biases, plasticity=each)) for each in ("none", "gain"))
    assert all(torch.equal(mine[name], plain[name]) for name in plain)


def test_the_mean_is_of_the_whole_batch_however_it_is_cut(tiny: Params) -> None:
    settings = with_arm(tiny, salience="causal", plasticity="ffn_gate")
    whole, cut = (
        engine(settings, "special", 0.0, micro_batch_size=size, grad_accum_steps=8 // size)
        for size in (8, 2)
    )
    for number in range(3):
        assert cut.step(batch(number), LR) == pytest.approx(whole.step(batch(number), LR), rel=1e-5)
    rates = [[group["lr"] for group in each._optimizer.param_groups] for each in (cut, whole)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)
    assert len({round(rate / LR, 4) for rate in rates[0]}) == 1 + tiny.model.n_layers


def plastic_in_processes(params: Params) -> Any:
    torch.set_num_threads(1)
    with process_group(CPU):
        mine = made(params, "special", True)
        results = [mine.step(batch(number), LR) for number in range(3)]
        return results, weights(mine.model)


def test_two_processes_are_plastic_as_one(tiny: Params) -> None:
    settings = with_arm(tiny, salience="causal", plasticity="gain")
    expected, alone = plastic_in_processes(settings)
    results, together = in_two_processes(plastic_in_processes, settings)
    for mine, theirs in zip(results, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_decay_and_factor_cut_the_parameters_into_groups_of_their_own(tiny: Params) -> None:
    model = engine(tiny).model
    train = tiny.train.model_copy(update={"decay": "matrices", "lr_scale": HALVED})
    optimizer = make_optimizer(model, train)
    assert {(group["weight_decay"], group["lr_scale"]) for group in optimizer.param_groups} == {
        (decay, factor) for decay in (train.weight_decay, 0.0) for factor in (1.0, 0.5)
    }
    grouped = [id(each) for group in optimizer.param_groups for each in group["params"]]
    assert sorted(grouped) == sorted(id(each) for each in model.parameters())


def test_an_arm_without_control_does_not_mind_a_factor_for_it(tiny: Params) -> None:
    plain = moved(engine(tiny, "baseline", lr_scale={}))
    named = moved(engine(tiny, "baseline", lr_scale={"control": 0.5, "control.pooling": 3.0}))
    assert all(torch.equal(step, plain[name]) for name, step in named.items())


def test_a_run_with_factors_goes_on_from_a_saved_state_to_the_bit(tiny: Params) -> None:
    undisturbed, interrupted = (engine(tiny, lr_scale=HALVED) for _ in range(2))
    for number in range(2):
        interrupted.step(batch(number), LR)
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    file.seek(0)
    resumed = engine(tiny, lr_scale=HALVED)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for number in range(4):
        expected = undisturbed.step(batch(number), LR)
        assert number < 2 or resumed.step(batch(number), LR) == expected
    assert torch.equal(weights(resumed.model), weights(undisturbed.model))


def sharded(params: Params) -> list[torch.Tensor]:
    """Three steps, the last by engines that go on from the state after two."""
    torch.set_num_threads(1)
    changes = {"sharding": "fsdp", "lr_scale": HALVED}
    with process_group(CPU):
        mine = made(params, "ncn", True, **changes)
        for number in range(2):
            mine.step(batch(number), LR)
        state = mine.state_dict()
        ends = []
        for saved_by_code_without_factors in (False, True):
            if saved_by_code_without_factors:
                for group in state["optimizer"]["param_groups"]:
                    del group["lr_scale"]
            again = made(params, "ncn", True, **changes)
            again.load_state_dict(state)
            again.step(batch(2), LR)
            ends.append(weights(again.whole_model()))
        return ends


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_factors_are_kept_where_the_model_is_shared_out(tiny: Params) -> None:
    alone = made(tiny, "ncn", True, lr_scale=HALVED)
    for number in range(3):
        alone.step(batch(number), LR)
    for together in in_two_processes(sharded, tiny):
        torch.testing.assert_close(together, weights(alone.model), rtol=1e-9, atol=1e-12)
