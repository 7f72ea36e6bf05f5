"""The brain scan's tests find what is planted, and nothing where nothing is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dvc.repo.plots import _load_sv

from ncn.common.tsv import read_tsv, write_tsv
from ncn.corpus.conditions import NO_CONDITIONS
from ncn.model import LanguageModel, build_model
from ncn.model.inputs import ConditionedRows
from ncn.scan.reading import Null, Reading, read, varying
from ncn.scan.tables import head_rows, layer_rows, loss_tenths, token_deviations
from ncn.scan.tests import (
    at_word,
    easy_tokens,
    entropy_by_precision,
    explained_loss,
    gain_range,
    specialisation,
    temperature,
)
from ncn.scan.texts import Scan, printable, untrained, word_ids
from ncn.settings import Params
from ncn.statistics.frequency import common_types
from ncn.statistics.permutation import p_value
from ncn.statistics.ranks import rank_correlation
from tests.conftest import VOCABULARY, special

N, T, L, H = 40, 30, 4, 2
TYPES = 60


def reading(seed: int = 0, **planted: Any) -> Reading:
    """Noise, with the given fields in place of its own."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(TYPES, size=(N, T))
    fields: dict[str, Any] = {
        "signals": {
            name: 1 + 0.05 * draw.standard_normal((N, T, L))
            for name in ("gain", "precision", "ffn_gate")
        },
        "losses": draw.exponential(1.0, (N, T)),
        "entropy": draw.random((N, T, L, H)),
        "uncertainty": draw.exponential(1.0, (N, T)),
        "tokens": tokens,
        "frequency": np.log(np.bincount(tokens.ravel()))[tokens],
    }
    return Reading(**(fields | planted))


def networks(number: int) -> list[dict[str, np.ndarray]]:
    return [reading(seed=100 + each).signals for each in range(number)]


def null(number: int = 19) -> Null:
    return null_of(networks(number))


def null_of(others: list[dict[str, np.ndarray]]) -> Null:
    """Of the type 7, which is the word of these tests."""
    found = Null()
    for each in others:
        found.add(each, reading().tokens == 7, [])
    return found


def changed(signal: str, change: Callable[[np.ndarray], np.ndarray]) -> Reading:
    mine = reading()
    return reading(signals=mine.signals | {signal: change(mine.signals[signal])})


def test_a_precision_that_is_a_temperature_is_found_by_layer() -> None:
    mine = reading()
    planted = mine.signals["precision"].copy()
    planted[..., 1] -= 0.5 * mine.uncertainty
    planted[..., 3] = 1.0  # constant: no layer of the test
    signals = mine.signals | {"precision": planted}
    found = temperature(reading(signals=signals), 1)
    assert found is not None
    by_layer = {each["layer"]: each["rho"] for each in found["layers"]}
    assert list(by_layer) == [1, 2, 3]
    assert by_layer[2][2] < -0.9
    assert abs(by_layer[1][0]) < 0.1
    assert temperature(reading(signals={"gain": mine.signals["gain"]}), 1) is None


def test_the_entropy_of_the_next_token_is_that_of_the_models_distribution(tiny: Params) -> None:
    model = special(tiny, salience="causal").eval()
    rows = np.arange(3 * 13, dtype=np.uint16).reshape(3, 13) % VOCABULARY
    found = read(model, ConditionedRows(rows), np.ones(VOCABULARY, np.int64)).uncertainty
    tokens = torch.from_numpy(rows[:, :-1].astype(np.int64))
    expected = torch.distributions.Categorical(logits=model(tokens)).entropy()
    assert found == pytest.approx(expected.detach().numpy(), abs=1e-4)


def test_p_counts_the_value_itself_and_is_never_0() -> None:
    assert p_value(10.0, [1.0, 2.0, 3.0]) == 0.25
    assert p_value(2.0, [1.0, 2.0, 3.0]) == 0.75


def test_layers_that_differ_more_than_other_initialisations_specialise() -> None:
    raised = np.array([0.2, 0.0, 0.0, -0.1])
    tests = specialisation(changed("precision", lambda values: values + raised), null(59))
    assert tests["precision"]["p"] == pytest.approx(1 / 60)
    assert tests["precision"]["p_holm"] == pytest.approx(3 / 60)
    assert tests["precision"]["z"] > 10
    assert np.argmax(tests["precision"]["layer_means"]) == 0
    first, second = tests["precision"]["layers"][:2]
    assert first["p"] == pytest.approx(1 / 60)
    assert second["p"] > 0.05
    assert tests["gain"]["p"] > 0.05


def test_p_is_uniform_where_nothing_is_planted() -> None:
    found = [specialisation(reading(seed), null())["gain"]["p"] for seed in range(1000, 1060)]
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) <= 0.05) < 0.15


def test_a_word_that_sets_a_signal_apart_is_found_in_that_signal_alone() -> None:
    here = reading().tokens == 7
    tests = at_word(
        changed("gain", lambda values: values + 0.3 * here[..., None]), null(59), "but", [7], 0
    )
    assert tests["occurrences"] == here.sum()
    gain, gate = tests["signals"]["gain"], tests["signals"]["ffn_gate"]
    assert gain["p_tokens"] == pytest.approx(1 / (1 + tests["matched"]))
    assert gain["p_initialisations"] == pytest.approx(1 / 60)
    assert gain["effect"] > 3
    assert min(gate["p_tokens"], gate["p_initialisations"]) > 0.05
    assert abs(gate["effect"]) < 0.7


def test_a_word_is_not_special_where_every_token_is() -> None:
    of_token = np.random.default_rng(1).normal(0, 0.3, TYPES)
    values = changed("gain", lambda values: values + of_token[reading().tokens][..., None])
    assert at_word(values, null(59), "but", [7], 0)["signals"]["gain"]["p_tokens"] > 0.05


def test_a_word_that_every_initialisation_sets_apart_was_not_learned() -> None:
    here = (reading().tokens == 7)[..., None]
    mine = changed("gain", lambda values: values + 0.3 * here)
    others = [each | {"gain": each["gain"] + 0.35 * here} for each in networks(59)]
    found = at_word(mine, null_of(others), "but", [7], 0)["signals"]["gain"]
    assert found["p_tokens"] < 0.05 < found["p_initialisations"]


@pytest.mark.parametrize(("layers", "found"), [([2, 3], True), ([0, 1], False)])
def test_a_word_in_the_deeper_precisions_is_told_from_one_elsewhere(
    layers: list[int], found: bool
) -> None:
    here = reading().tokens == 7
    raised = np.isin(np.arange(L), layers) * 0.3 * here[..., None]
    deeper = at_word(changed("precision", lambda v: v + raised), null(59), "but", [7], 0)["deeper"]
    assert deeper["layers"] == [3, 4]
    assert (max(deeper["p_tokens"], deeper["p_initialisations"]) < 0.05) == found
    assert (deeper["same_side"] > 0.95) == (deeper["effect"][1] > 3) == found


def test_a_word_that_acts_in_some_contexts_only_is_not_alike_in_all() -> None:
    here = reading().tokens == 7
    here[::2] = False
    values = changed("precision", lambda v: v + 0.5 * here[..., None])
    assert 0.6 < at_word(values, null(19), "but", [7], 0)["deeper"]["same_side"] < 0.9


def test_how_much_of_a_precision_the_token_explains() -> None:
    of_token = np.random.default_rng(1).normal(0, 1, TYPES)[reading().tokens][..., None]
    lookup = changed("precision", lambda values: 0 * values + of_token)
    assert at_word(lookup, null(), "but", [7], 0)["deeper"]["identity"] == pytest.approx(1)
    assert at_word(reading(), null(), "but", [7], 0)["deeper"]["identity"] < 0.15


def test_a_gate_that_closes_on_common_tokens_is_found_by_layer() -> None:
    tokens = np.where(np.random.default_rng(2).random((N, T)) < 0.6, 7, reading().tokens)
    closed = np.where((tokens == 7)[..., None] & (np.arange(L) == 2), 0.1, 0.9)
    mine = reading(tokens=tokens, signals=reading().signals | {"ffn_gate": closed})
    common = easy_tokens(mine, 0)["common"]
    assert common["share"] == pytest.approx(np.mean(tokens == 7))
    assert [round(each["common"], 2) for each in common["layers"]] == [0.9, 0.9, 0.1, 0.9]
    assert common["layers"][2]["difference"] == pytest.approx([-0.8] * 3)
    assert common["layers"][0]["difference"] == pytest.approx([0] * 3, abs=1e-9)


def test_common_types_are_the_fewest_that_make_up_half() -> None:
    assert common_types(np.array([1, 5, 0, 3, 1])).tolist() == [False, True, False, False, False]
    assert common_types(np.array([3, 3, 3])).tolist() == [True, True, False]


def test_a_rare_word_is_said_to_be_rare() -> None:
    found = at_word(reading(), null(), "but", [TYPES + 1], 0)
    assert "0 occurrences of 'but'" in found["reason"]
    assert found["signals"] == {}


def test_a_gate_that_follows_the_loss_is_found_with_its_sign() -> None:
    losses = reading().losses
    closing = changed("ffn_gate", lambda values: values - 0.5 + 0.1 * losses[..., None])
    found = easy_tokens(closing, 0)
    gate, gain = found["signals"]["ffn_gate"], found["signals"]["gain"]
    assert gate["rho"][1] > 0.5
    assert gate["rho_given_frequency"][1] > 0.5
    assert gate["p"] == pytest.approx(1 / 1000)
    assert found["gate_easiest"] < found["gate_hardest"]
    assert gain["p"] > 0.01
    assert abs(gain["rho"][0]) < 0.1


def test_a_shared_cause_is_held() -> None:
    draw = np.random.default_rng(3)
    cause = draw.standard_normal((N, T))
    x, y = (cause + 0.3 * draw.standard_normal((N, T)) for _ in range(2))
    assert rank_correlation(x, y, 0)[1] > 0.7
    assert abs(rank_correlation(x, y, 0, cause)[0]) < 0.1


def test_the_rank_correlation_interval_covers_as_often_as_it_says() -> None:
    """Rows share a deviation, so tokens of a row are related and rows are what counts."""
    covered = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        x, y = (draw.standard_normal((N, 1)) + draw.standard_normal((N, 8)) for _ in range(2))
        _, low, high = rank_correlation(x, y, seed)
        covered += low <= 0 <= high
    assert 0.89 <= covered / 200 <= 0.985


def test_explained_loss_is_that_of_rows_not_fitted() -> None:
    mine = reading()
    noise = explained_loss(mine, 0)
    assert noise["signals"][0] < 0.02
    planted = mine.losses + 20 * (mine.signals["gain"][..., 1] - 1)
    found = explained_loss(reading(losses=planted), 0)
    assert found["signals"][1] > 0.4
    assert found["frequency"][0] < 0.05
    assert found["both"][0] == pytest.approx(found["signals"][0], abs=0.02)


def test_a_head_that_a_higher_precision_sharpens_is_told_from_the_others() -> None:
    mine = reading()
    entropy = mine.entropy.copy()
    entropy[..., 2, 1] = 0.5 - 2 * (mine.signals["precision"][..., 2] - 1)
    found = entropy_by_precision(reading(entropy=entropy), 0)
    assert found is not None
    sharp = [head for head in found["heads"] if head["rho_given_position"][2] < -0.5]
    assert [(head["layer"], head["head"]) for head in sharp] == [(3, 2)]
    assert found["share_sharper"] < 0.4


def test_gains_are_counted_in_the_published_range() -> None:
    inside = changed("gain", lambda values: 1.0 + 0.01 * (values > 1))
    assert gain_range(inside) == {"low": 1.0, "high": 1.01, "share_inside": 1.0}
    outside = gain_range(changed("gain", lambda values: values - 0.5))
    assert outside is not None
    assert outside["share_inside"] < 0.01


def test_a_signal_that_never_varies_is_left_out_everywhere() -> None:
    still = reading(signals=varying({"gain": np.ones((N, T, L)), "precision": np.ones((N, T, L))}))
    assert still.signals == {}
    assert gain_range(still) is entropy_by_precision(still, 0) is None
    assert specialisation(still, null()) == easy_tokens(still, 0)["signals"] == {}
    assert at_word(still, null(), "but", [7], 0)["signals"] == {}
    assert explained_loss(still, 0)["signals"][0] == pytest.approx(0, abs=0.02)
    assert loss_tenths(still) == []
    assert head_rows({"entropy": None}) == []


def test_tables_are_long_form() -> None:
    mine = reading()
    tests = {"specialisation": specialisation(mine, null())}
    assert len(layer_rows(tests)) == 3 * L
    tenths = [row for row in loss_tenths(mine) if row["signal"] == "gain"]
    losses = [row["loss"] for row in tenths]
    assert losses == sorted(losses)
    assert len(tenths) == 10


def test_a_token_beyond_both_nulls_is_told_from_one_within() -> None:
    mine = reading()
    signals = {"gain": np.ones((2, L), np.float32)}
    signals["gain"][0, 0] = 1.5
    others = [
        Scan(["a", "b"], {"gain": (1 + 0.05 * each * np.ones((2, L))).astype(np.float32)})
        for each in np.linspace(-1, 1, 19)
    ]
    only_gain = reading(signals={"gain": mine.signals["gain"]})
    far, *near = token_deviations(Scan(["a", "b"], signals), others, only_gain)
    assert (far["token"], far["layer"], far["p"]) == ("a", 1, 1 / 20)
    assert far["p_tokens"] == pytest.approx(1 / (1 + N * T))
    assert all(row["p"] > 0.5 and row["p_tokens"] > 0.5 for row in near)


@pytest.fixture
def model(tiny: Params) -> LanguageModel:
    return build_model(tiny, "ncn_causal", VOCABULARY, 1).eval()


def rows(model: LanguageModel, n: int = 10) -> ConditionedRows:
    length = model.config.context_length + 1
    drawn = np.random.default_rng(0).integers(VOCABULARY, size=(n, length)).astype(np.uint16)
    return ConditionedRows(drawn, NO_CONDITIONS)


def test_a_reading_is_what_the_model_computes(model: LanguageModel) -> None:
    told = rows(model)
    found = read(model, told, np.ones(VOCABULARY, np.int64))
    tokens = torch.from_numpy(told.tokens.astype(np.int64))
    with torch.inference_mode():
        losses = model.token_losses(tokens[:, :-1], tokens[:, 1:])
        signals = model.signals(tokens[:, :-1])
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.signals["gain"], signals["gain"], rtol=1e-5)
    n, length = found.tokens.shape
    assert found.entropy.shape == (n, length, model.config.n_layers, model.config.n_heads)
    assert np.all((found.entropy >= 0) & (found.entropy <= 1 + 1e-6))
    assert np.all(found.entropy[:, 0] == 0)


def test_heads_average_to_the_entropy_that_the_control_network_sees(tiny: Params) -> None:
    seeing = special(tiny, salience="causal", attention_entropy=True).eval()
    told = rows(seeing, 2)
    heard: list[torch.Tensor] = []
    for block in seeing.blocks:
        block.get_submodule("attention").register_forward_hook(
            lambda _module, _inputs, output: heard.append(output[1])
        )
    found = read(seeing, told, np.ones(VOCABULARY, np.int64))
    measured = [each for each in heard if each is not None][: seeing.config.n_layers - 1]
    for layer, entropy in enumerate(measured):
        np.testing.assert_allclose(found.entropy[:, :, layer].mean(-1), entropy, atol=1e-5)


def test_signals_need_no_layer_unless_they_see_the_attention(model: LanguageModel) -> None:
    tokens = torch.arange(20)[None] % VOCABULARY
    with torch.inference_mode():
        _, whole = model._hidden(tokens)
        for name, values in model.signals(tokens).items():
            torch.testing.assert_close(values, whole[name], rtol=0, atol=0)


def test_untrained_networks_differ_by_seed_alone(model: LanguageModel) -> None:
    tokens = torch.arange(20)[None]
    first, again, other = (untrained(model, seed).signals(tokens)["gain"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_word_is_found_whatever_its_case_and_blanks() -> None:
    class Pieces:
        def token_bytes(self) -> list[bytes]:
            return [b" but", b"But", b"butter", b"\xff", b" BUT ", b"tub"]

    assert word_ids(Pieces(), "but") == [0, 1, 4]  # type: ignore[arg-type]


def test_a_token_of_a_table_is_the_same_for_every_reader(tmp_path: Path) -> None:
    tokens = ['"', "\r", "\n", "\r\n", "\t", " ", '\r"x"\n\t']
    rows = [{"token": printable(token)} for token in tokens]
    write_tsv(tmp_path / "t.tsv", rows)
    as_text = _load_sv((tmp_path / "t.tsv").read_text(encoding="utf-8"), "\t")
    assert read_tsv(tmp_path / "t.tsv") == as_text == rows
    assert len({row["token"] for row in rows}) == len(tokens)
