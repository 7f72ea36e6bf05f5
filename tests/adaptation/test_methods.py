"""What is trained again: that and nothing else, from where the base stands, in equal numbers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ncn.adaptation.low_rank import adapted_layers, merge_adapters, ranks
from ncn.adaptation.methods import control_count, made_ready, trained_count
from ncn.common.errors import Interrupted
from ncn.common.stopping import StopSignals
from ncn.model import LanguageModel, build_model, load_model, parameter_count, save_model
from ncn.settings import Method, Params
from ncn.training.loop import train_model
from ncn.training.states import States
from tests.conftest import VOCABULARY
from tests.training.test_loop import quick, rows
from tests.training.test_states import StopAfter

METHODS: tuple[Method, ...] = ("control", "lora", "bitfit", "full", "replay")
ARMS = ("baseline", "ncn_causal")


@pytest.fixture(scope="module")
def small(tiny: Params) -> Params:
    return quick(tiny, epochs=1, log_every=3)


@pytest.fixture(scope="module")
def bases(small: Params) -> dict[str, LanguageModel]:
    """Trained a little, so that no bias is 0."""
    models = {arm: build_model(small, arm, VOCABULARY, 1) for arm in ARMS}
    for arm, model in models.items():
        train_model(model, rows(), small.train, 1, arm)
    return models


def ready(params: Params, base: LanguageModel, method: Method) -> LanguageModel:
    return made_ready(base, method, params.adapted_control, 1)


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


TOKENS = torch.from_numpy(rows(4)[:, :-1].astype(np.int64))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_trained_stays_as_it_is_to_the_last_bit(
    small: Params, bases: dict[str, LanguageModel], arm: str, method: Method
) -> None:
    before = weights(bases[arm])
    model = ready(small, bases[arm], method)
    at_start = weights(copy.deepcopy(model))
    train_model(model, rows(), small.train, 2, "again")
    merge_adapters(model)
    after = weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = {
        "control": {name for name in before if name.startswith("control.")},
        "lora": {f"{name}.weight" for name in adapted_layers(model)},
        "bitfit": {name for name in before if name.endswith("bias") or "norm" in name},
        "full": set(before),
        "replay": set(before),
    }[method]
    # A bias of the keys shifts all scores of a row alike, so that nothing moves it but decay.
    assert moved - {"control.pooling.k_proj.bias"} == allowed - {"control.pooling.k_proj.bias"}
    assert all(torch.equal(before[name], each) for name, each in weights(bases[arm]).items())
    if method == "control":
        new = {name for name in after if name.startswith("control.")}
        assert any(not torch.equal(at_start[name], after[name]) for name in new)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_the_base(
    small: Params, bases: dict[str, LanguageModel], arm: str, method: Method
) -> None:
    """But for a control network that is new: it starts where `ncn.init` declares."""
    base, model = bases[arm].eval(), ready(small, bases[arm], method).eval()
    if (method, arm) == ("control", "baseline"):
        assert not torch.equal(model(TOKENS), base(TOKENS))
        return
    assert torch.equal(model(TOKENS), base(TOKENS))


def test_a_new_control_network_at_neutral_signals_is_the_base(
    small: Params, bases: dict[str, LanguageModel]
) -> None:
    base, model = bases["baseline"].eval(), ready(small, bases["baseline"], "control").eval()
    started = model.signals(TOKENS)
    for name, near in (("gain", 1.0), ("precision", 0.9997), ("ffn_gate", 0.9526)):
        assert (started[name] - near).abs().max() < 0.05
    assert model.control is not None
    with torch.no_grad():
        model.control.output.weight.zero_()
        # gain 2 sigmoid(0) = 1, precision softplus(z) + 0.01 = 1, ffn_gate sigmoid(40) = 1
        neutral = torch.tensor([0.0, float(np.log(np.expm1(0.99))), 40.0])
        model.control.output_bias.copy_(neutral.repeat(model.config.n_layers))
    torch.testing.assert_close(model(TOKENS), base(TOKENS), rtol=0, atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_adapters_have_about_as_many_parameters_as_the_control_network(
    small: Params, bases: dict[str, LanguageModel], arm: str
) -> None:
    counts = {method: trained_count(ready(small, bases[arm], method)) for method in METHODS}
    wanted = control_count(bases[arm].config, small.adapted_control)
    assert counts["control"] == wanted
    config = bases[arm].config
    largest = max(layer.weight.shape for layer in adapted_layers(bases[arm]).values())
    assert abs(counts["lora"] - wanted) <= sum(largest)
    assert counts["full"] == counts["replay"] == parameter_count(config)
    assert counts["bitfit"] == sum(
        parameter.numel()
        for name, parameter in bases[arm].named_parameters()
        if parameter.ndim == 1 and not name.endswith("query")
    )


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=8),
    st.integers(0, 5000),
)
def test_ranks_come_near_the_budget_and_differ_by_one_at_most(
    shapes: list[tuple[int, int]], budget: int
) -> None:
    found = ranks(shapes, budget)
    assert all(1 <= rank <= min(shape) for rank, shape in zip(found, shapes, strict=True))
    free = [r for r, shape in zip(found, shapes, strict=True) if r < min(shape)]
    assert not free or max(free) - min(free) <= 1
    sizes = [n_out + n_in for n_out, n_in in shapes]
    total = sum(r * size for r, size in zip(found, sizes, strict=True))
    if len(free) == len(shapes) and total > sum(sizes):
        assert abs(budget - total) <= max(sizes)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_is_of_the_usual_form(
    small: Params, bases: dict[str, LanguageModel], tmp_path: Path, method: Method
) -> None:
    model = ready(small, bases["baseline"], method)
    train_model(model, rows(), small.train, 2, "again")
    trained = model.eval()(TOKENS)
    merge_adapters(model)
    assert torch.equal(model(TOKENS), trained)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert torch.equal(loaded(TOKENS), trained)
    assert type(loaded.blocks[0].attention.qkv) is torch.nn.Linear
    assert (loaded.control is not None) == (method == "control")


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_phase_ends_as_if_it_never_was(
    small: Params, bases: dict[str, LanguageModel], tmp_path: Path, method: Method
) -> None:
    def go_on(stop: StopSignals | None) -> dict[str, Tensor]:
        model = ready(small, bases["baseline"], method)
        with States(tmp_path / "state", small.saving) as states:
            train_model(model, rows(), small.train, 2, "again", states=states, stop=stop)
        merge_adapters(model)
        return weights(model)

    undisturbed = ready(small, bases["baseline"], method)
    train_model(undisturbed, rows(), small.train, 2, "again")
    merge_adapters(undisturbed)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 3 of 8"):
        go_on(StopAfter(3))
    ended = go_on(None)
    assert all(torch.equal(each, ended[name]) for name, each in weights(undisturbed).items())
