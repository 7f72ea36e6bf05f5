"""The further inputs of the control network: off, they cost nothing; on, they do what they say."""

import json
import math
from pathlib import Path

import pytest
import torch

from ncn.control.network import ControlNetwork
from ncn.corpus.conditions import Conditions
from ncn.layers import attention_entropy
from ncn.model import LanguageModel, load_model, model_config, parameter_count, save_model
from ncn.model.flops import flops_per_token
from ncn.publish.model_card import model_card
from ncn.settings import Params
from ncn.training.optimizer import make_optimizer
from tests.conftest import VOCABULARY, special, with_arm
from tests.model.test_language_model import GPT2, shaken, tokens

INPUTS = {"tasks": 3, "sliders": ["token_bytes", "dialogue"], "attention_entropy": True}


def told(*tasks: int) -> Conditions:
    values = torch.arange(2.0 * len(tasks)).view(-1, 2) - 1.5
    return Conditions(torch.tensor(tasks), values)


def control_of(model: LanguageModel) -> ControlNetwork:
    assert isinstance(model.control, ControlNetwork)
    return model.control


def test_each_input_adds_its_own_parameters_and_no_others(published: Params) -> None:
    added = {
        "tasks": (5, 5 * 256),
        "sliders": (["dialogue", "token_bytes"], 2 * 256),
        "attention_entropy": (True, 64),
    }
    for name, (value, count) in added.items():
        config = model_config(with_arm(published, **{name: value}), "special", GPT2)
        assert parameter_count(config) == 18_007_762 + count


def test_flops_count_what_is_multiplied(published: Params) -> None:
    def flops(**changes: object) -> int:
        return flops_per_token(model_config(with_arm(published, **changes), "special", GPT2))

    plain = flops()
    assert flops(tasks=5) == plain  # a row of a table
    assert flops(sliders=["dialogue", "token_bytes"]) - plain == 2 * 2 * 256 // 512
    assert flops(attention_entropy=True) - plain == 5 * 2 * 256 * 513 // 2


def test_the_entropy_is_that_of_the_attention_over_what_a_token_sees() -> None:
    stream = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, 9, 4, dtype=torch.float64, generator=stream) for _ in range(2))
    expected = torch.zeros(2, 9, dtype=torch.float64)
    for t in range(1, 9):
        p = (q[:, :, t, None] @ k[:, :, : t + 1].mT / 2).softmax(-1)  # sqrt(K) = 2
        expected[:, t] = -(p * p.log()).sum(-1).mean(1)[:, 0] / math.log(t + 1)
    torch.testing.assert_close(attention_entropy(q, k), expected)
    torch.testing.assert_close(attention_entropy(q[:, :, 5:], k), expected[:, 5:])


def test_the_entropy_is_1_where_all_is_seen_alike_and_0_where_one_is() -> None:
    k = torch.eye(6)[None, None]
    assert attention_entropy(torch.zeros(1, 1, 6, 6), k)[0].tolist() == pytest.approx([0] + 5 * [1])
    assert attention_entropy(1e4 * k, k)[0].tolist() == [0.0] * 6


def test_the_signals_are_those_of_the_equations(tiny: Params) -> None:
    model = shaken(special(tiny, salience="none", signals=["gain"], **INPUTS))
    control, text, conditions = control_of(model), tokens(), told(2, 0)
    seen: list[torch.Tensor] = []
    for block in model.blocks:
        block.attention.register_forward_hook(lambda _, __, out: seen.append(out[1]))
    signals = model.signals(text, conditions=conditions)["gain"]
    assert seen.pop() is None  # nobody reads the last layer's
    with torch.no_grad():
        x = model.embedding(text) + model.positions.weight[:24]
        beside = control.tasks.weight[[2, 0]] + conditions.sliders @ control.sliders.weight.T
        drive = control.hidden(control.norm(x + beside[:, None]))
        for layer, entropy in enumerate([torch.zeros(2, 24), *seen]):
            hidden = torch.tanh(drive + entropy[..., None] * control.entropy_weight)
            z = control.output(hidden)[..., layer]
            torch.testing.assert_close(signals[..., layer], 2 * z.sigmoid())
    assert seen[0].std() > 0.01


def test_the_entropy_is_a_measurement_and_its_weight_is_trained(tiny: Params) -> None:
    model = special(tiny, **INPUTS).double()
    torch.nn.init.constant_(control_of(model).entropy_weight, 3.0)
    model.loss(tokens(), tokens(seed=1), told(0, 1))[0].backward()
    moved = control_of(model).entropy_weight.grad
    assert moved is not None
    assert moved.abs().max() > 0
    # No path from a signal back to the queries of the layer before.
    q, k = (torch.randn(1, 2, 5, 4, requires_grad=True) for _ in range(2))
    assert not attention_entropy(q, k).requires_grad


@pytest.mark.parametrize("salience", ["causal", "reactive", "none"])
@pytest.mark.parametrize("pieces", [(1,) * 40, (7, 1, 20, 1, 1, 10)])
def test_a_text_read_in_pieces_has_the_logits_of_the_whole(
    tiny: Params, salience: str, pieces: tuple[int, ...]
) -> None:
    model = shaken(special(tiny, salience=salience, **INPUTS), scale=1.0).double()
    text, cache = tokens(3, 40), model.make_cache(3)
    parts = [model(piece, None, cache, told(0, 2, 1)) for piece in text.split(pieces, dim=1)]
    whole = model(text, conditions=told(0, 2, 1))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-10, rtol=0)


def test_one_condition_holds_for_every_row(tiny: Params) -> None:
    model = shaken(special(tiny, **INPUTS))
    once, each = told(2), told(2).take([0, 0])
    assert torch.equal(model(tokens(), conditions=once), model(tokens(), conditions=each))
    assert not torch.equal(model(tokens(), conditions=once), model(tokens(), conditions=told(1)))


def test_sliders_at_0_are_sliders_not_given(tiny: Params) -> None:
    model = shaken(special(tiny, **INPUTS))
    neutral = Conditions(sliders=torch.zeros(2, 2))
    assert torch.equal(model(tokens(), conditions=neutral), model(tokens()))


def test_the_inputs_start_as_the_table_says_and_move_no_other_draw(tiny: Params) -> None:
    plain, model = special(tiny), special(tiny, **INPUTS)
    theirs = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if name in theirs:
            assert torch.equal(parameter, theirs[name])
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.9)
    assert set(dict(model.named_parameters())) - set(theirs) == {
        "control.tasks.weight", "control.sliders.weight", "control.entropy_weight",
    }  # fmt: skip


def test_every_parameter_is_in_exactly_one_optimizer_group(tiny: Params) -> None:
    model = special(tiny, **INPUTS)
    optimizer = make_optimizer(model, tiny.train.model_copy(update={"decay": "matrices"}))
    decayed, spared = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    control = control_of(model)
    assert id(control.entropy_weight) in spared
    assert {id(control.tasks.weight), id(control.sliders.weight)} <= decayed
    assert len(decayed) + len(spared) == len(list(model.parameters()))


def test_a_saved_model_keeps_what_its_sliders_mean(tiny: Params, tmp_path: Path) -> None:
    model = shaken(special(tiny, **INPUTS))
    control_of(model).slider_mean.copy_(torch.tensor([3.9, 0.02]))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert control_of(loaded).slider_mean.tolist() == pytest.approx([3.9, 0.02])
    assert torch.equal(loaded(tokens(), conditions=told(1)), model(tokens(), conditions=told(1)))


def test_the_model_card_names_the_inputs(tiny: Params) -> None:
    card = model_card(special(tiny, **INPUTS), "somebody/told")
    assert (
        "given one of 3 tasks, sliders token_bytes, dialogue, sees the attention entropy |" in card
    )
    assert "task" not in model_card(special(tiny), "somebody/plain").partition("## Use")[0]


def test_a_model_saved_before_these_inputs_were_there_loads(tiny: Params, tmp_path: Path) -> None:
    model = special(tiny).eval()
    save_model(model, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    for name in INPUTS:
        del config["control"][name]
    path.write_text(json.dumps(config))
    assert torch.equal(load_model(tmp_path / "model")(tokens()), model(tokens()))


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (Conditions(task=torch.tensor([0])), "a task was given, but the control network was built"),
        (told(0).take(slice(1)), "a task was given"),
        (Conditions(sliders=torch.zeros(1, 3)), "3 slider values were given, .* built for 0: none"),
    ],
)
def test_what_a_model_was_not_built_for_is_refused(
    tiny: Params, conditions: Conditions, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        special(tiny)(tokens(), conditions=conditions)
    assert special(tiny, controller="none")(tokens(), conditions=conditions).shape[-1] == VOCABULARY
