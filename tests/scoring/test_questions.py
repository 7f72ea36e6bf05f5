"""What a trained model is asked: planted models whose answers are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ncn.control.network import ControlNetwork
from ncn.control.salience import SaliencePooling
from ncn.corpus.rows import Rows
from ncn.model import LanguageModel, build_model
from ncn.scoring.asked import Asked, asked_of, context_changed, pooling_of
from ncn.scoring.calibration import calibration, calibration_error
from ncn.scoring.interventions import held, refresh, sharpest, tonic, traded, word_order
from ncn.scoring.losses import mode_of, score_tokens
from ncn.scoring.questions import loss_by_position, questions
from ncn.scoring.signal_shape import participation_ratio, share_of, shared_by, signal_shape
from ncn.settings import Params
from ncn.statistics.interval import Floats
from tests.conftest import VOCABULARY, special

Edit = Callable[[ControlNetwork], None]
DRAW = np.random.default_rng(7)


def rows(n: int = 12, length: int = 33) -> Rows:
    return np.random.default_rng(0).integers(VOCABULARY, size=(n, length)).astype(np.uint16)


def lively(model: LanguageModel, scale: float = 1.0) -> LanguageModel:
    """The model with a control network far from its start, so that what it does is seen."""
    torch.manual_seed(5)
    if isinstance(model.control, ControlNetwork):
        for part in (model.control.hidden, model.control.output):
            nn.init.normal_(part.weight, std=scale)
    for block in model.blocks:
        nn.init.normal_(block.get_submodule("attention.qkv").weight, std=0.3)  # type: ignore[arg-type]
    return model.eval()


def causal(tiny: Params, **changes: object) -> LanguageModel:
    return lively(special(tiny, **({"salience": "causal"} | changes)))


def ask(model: LanguageModel, n: int = 12) -> tuple[Asked, Floats]:
    asked = asked_of(model, rows(n), n)
    return asked, asked.row_losses()


def pooling_in(model: LanguageModel) -> SaliencePooling:
    found = pooling_of(model)
    assert found is not None
    return found


def deaf(model: LanguageModel) -> LanguageModel:
    """The model with a control network that ignores c."""
    pooling = pooling_in(model)
    nn.init.zeros_(pooling.out_proj.weight)
    nn.init.zeros_(pooling.out_proj.bias)
    return model


def test_a_control_network_that_ignores_the_context_has_no_tonic_effect(tiny: Params) -> None:
    model = deaf(causal(tiny))
    assert tonic(*ask(model)) == [0, 0, 0]
    assert refresh(*ask(model)) == {"8": [0, 0, 0], "32": [0, 0, 0]}
    found = word_order(ask(model)[0])
    assert found is not None
    assert found["swapped"] == found["replaced"] == 0
    assert found["ratio"] is None


@pytest.mark.parametrize("salience", ["global", "causal", "reactive"])
def test_a_control_network_that_hears_the_context_has_a_tonic_effect(
    tiny: Params, salience: str
) -> None:
    effect = tonic(*ask(causal(tiny, salience=salience)))
    assert effect is not None
    assert effect[0] != 0
    assert effect[1] < effect[0] < effect[2]


def test_a_context_refreshed_at_every_token_is_the_plain_one(tiny: Params) -> None:
    model = causal(tiny)
    asked, own = ask(model)
    pooling = pooling_in(model)
    with context_changed(pooling, lambda pooled: held(pooled, 1)):
        np.testing.assert_array_equal(asked.row_losses(), own)
    np.testing.assert_array_equal(asked.row_losses(), own)  # the hook is gone
    found = refresh(asked, own)
    assert found is not None
    assert all(low < value < high for value, low, high in found.values())


def test_a_held_context_is_that_of_the_last_refresh() -> None:
    positions = torch.arange(7.0).view(1, 7, 1)
    assert held(positions, 3).flatten().tolist() == [0, 0, 0, 3, 3, 3, 6]


@pytest.mark.parametrize("arm", ["baseline", "none", "static"])
def test_where_nothing_is_pooled_nothing_is_asked_of_the_context(tiny: Params, arm: str) -> None:
    changes: dict[str, dict[str, object]] = {
        "baseline": {"controller": "none"},
        "none": {"salience": "none"},
        "static": {"controller": "static"},
    }
    model = lively(special(tiny, **changes[arm]))
    found = questions(model, rows(), {"loss": score_tokens(model, rows(), 4)})
    assert {"loss", "loss_by_position", "calibration"} <= set(found)
    assert not {"tonic", "refresh"} & set(found)
    assert ("signals" in found) == (arm != "baseline")
    if arm == "none":  # the same tokens get the same signals, whatever stood before
        assert found["word_order"]["replaced"] == 0
    if arm == "static":
        assert "word_order" not in found
        assert found["signals"]["directions"]["participation_ratio"] is None
        assert set(found["signals"]["identity_share"].values()) == {None}


def test_a_mean_over_the_past_cannot_tell_word_order(tiny: Params) -> None:
    model = causal(tiny)
    pooling = pooling_in(model)
    nn.init.zeros_(pooling.query)  # and no bias: every position weighs the same
    nn.init.zeros_(pooling.q_proj.bias)
    found = word_order(ask(model)[0])
    assert found is not None
    assert isinstance(found["ratio"], list)
    assert found["ratio"][0] < 1e-3
    sharp = causal(tiny)
    nn.init.normal_(pooling_in(sharp).query, std=300)
    told = word_order(ask(sharp)[0])
    assert told is not None
    assert isinstance(told["ratio"], list)
    assert told["ratio"][0] > 0.05


def test_a_model_trained_with_the_future_is_asked_without_it(tiny: Params) -> None:
    model = lively(build_model(tiny, "ncn", VOCABULARY, 1))
    assert mode_of(model) == "causal"
    asked, _ = ask(model)
    changed = asked.tokens.clone()
    changed[:, 20:] = changed.roll(1, 0)[:, 20:]
    for name, values in asked.signals().items():
        np.testing.assert_allclose(asked.signals(changed)[name][:, :20], values[:, :20], atol=1e-6)
    losses = {"loss": np.zeros((12, 32), np.float32), "causal_loss": np.ones((12, 32), np.float32)}
    assert questions(model, rows(), losses)["loss"] == 1
    assert mode_of(causal(tiny)) is None  # as it was trained


def test_few_rows_are_spread_over_all(tiny: Params) -> None:
    model = causal(tiny)
    every = rows(40)
    chosen = asked_of(model, every, 4)
    np.testing.assert_array_equal(chosen.tokens.numpy(), every[[0, 13, 26, 39], :-1])
    assert len(asked_of(model, rows(3), 32).tokens) == 3


@pytest.mark.parametrize("how_many", [1, 3, 12])
def test_the_participation_ratio_counts_directions(how_many: int) -> None:
    sources = DRAW.standard_normal((4000, how_many))
    copies = np.repeat(sources, 12 // how_many, axis=1)
    assert participation_ratio(copies) == pytest.approx(how_many, rel=0.02)
    assert participation_ratio(np.ones((5, 3))) is None


def test_the_share_of_identity_is_that_which_was_planted() -> None:
    tokens = DRAW.integers(400, size=3000)
    of_token = DRAW.standard_normal((400, 2))[tokens]
    rest = DRAW.standard_normal((3000, 2))
    assert share_of(of_token, tokens) == pytest.approx(1)
    assert share_of(rest, tokens) == pytest.approx(0, abs=0.03)
    planted = np.sqrt(0.7) * of_token + np.sqrt(0.3) * rest
    assert share_of(planted, tokens) == pytest.approx(0.7, abs=0.05)
    assert share_of(rest, np.arange(3000)) is None
    assert share_of(np.ones((3000, 1)), tokens) is None


def test_what_is_near_neutral_is_counted() -> None:
    gain = np.array([1.0, 1.04, 1.06, 0.5]).reshape(1, 4, 1)
    gate = np.array([1.0, 1.0, 0.96, 0.9]).reshape(1, 4, 1)
    tokens = np.array([[1, 1, 2, 2]])
    found = signal_shape({"gain": gain, "ffn_gate": gate}, tokens)
    assert found["near_neutral"] == {"gain": 0.5, "ffn_gate": 0.75}
    assert found["near_neutral_of_all"] == 5 / 8
    assert found["range"]["gain"] == [0.5, 1.06]


def test_gain_and_gate_that_are_copies_share_all() -> None:
    gain = np.exp(DRAW.standard_normal((3, 500, 2)))
    gate = np.stack([gain[..., 0] ** -2, np.exp(DRAW.standard_normal((3, 500)))], axis=2)
    copied, free = shared_by(gain, gate, 2).values()
    assert copied == pytest.approx(1)
    assert free == pytest.approx(0, abs=0.02)
    assert shared_by(np.ones((1, 9, 2)), gate[:1, :9], 2) == {}


def test_a_gain_matched_by_the_gate_is_felt_in_attention_alone(tiny: Params) -> None:
    model = causal(tiny)
    for block in model.blocks:
        nn.init.zeros_(block.get_submodule("attention.out").weight)  # type: ignore[arg-type]
    found = traded(*ask(model))
    assert found["matched"][0] == pytest.approx(0, abs=1e-6)
    assert abs(found["alone"][0]) > 10 * abs(found["matched"][0])


def test_a_higher_precision_sharpens_attention(tiny: Params) -> None:
    found = sharpest(ask(causal(tiny, signals=["precision"]))[0])
    assert 0 < found["trained"] < found["at_clamp"] <= 1


def test_sure_probabilities_that_come_true_have_no_calibration_error() -> None:
    confidence = DRAW.uniform(0.1, 1, 200_000)
    correct = DRAW.uniform(size=200_000) < confidence
    assert calibration_error(confidence, correct) < 0.005
    assert calibration_error(np.full(1000, 1.0), np.zeros(1000, bool)) == 1
    shifted = DRAW.uniform(size=200_000) < confidence - 0.1
    assert calibration_error(confidence, shifted) == pytest.approx(0.1, abs=0.005)


def test_the_calibration_is_that_of_the_models_own_probabilities(tiny: Params) -> None:
    asked, _ = ask(causal(tiny))
    p = asked.model(asked.tokens).detach().softmax(-1)
    found = calibration(asked)
    assert found["confidence"] == pytest.approx(float(p.amax(-1).mean()), rel=1e-5)
    right = (p.argmax(-1) == asked.targets).double().mean()
    assert found["accuracy"] == pytest.approx(float(right))


def test_the_loss_by_position_is_the_mean_of_each_part() -> None:
    losses = np.tile(np.arange(16, dtype=np.float32), (3, 1))
    assert loss_by_position(losses) == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]
    assert len(loss_by_position(losses[:, :5])) == 5


@pytest.mark.parametrize(
    "changes",
    [{}, {"signals": ["gain"]}, {"attention_entropy": True}, {"phasic": "layer"},
     {"salience": "global"}],
)  # fmt: skip
def test_every_arm_can_be_asked_and_answers_the_same_twice(
    tiny: Params, changes: dict[str, object]
) -> None:
    model = causal(tiny, **changes)
    losses = {name: score_tokens(model, rows(), 4) for name in ("loss", "reactive_loss")}
    first, second = (questions(model, rows(), losses) for _ in range(2))
    assert first == second
    assert ("sharpest" in first) == (not {"attention_entropy", "phasic", "signals"} & {*changes})
