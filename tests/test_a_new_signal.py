"""A signal that is declared, and nowhere else written: all that knows of signals knows it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ncn.benchmark.kernels import elementwise_kernels
from ncn.claims.judge import judge
from ncn.claims.rule import read_metrics
from ncn.control.outputs import ControlOutput, homeostatic_penalty
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import generate
from ncn.model import LanguageModel, build_model, load_model, parameter_count, save_model
from ncn.model.flops import flops_per_token
from ncn.model.inputs import ConditionedRows
from ncn.report.inputs import gather
from ncn.report.page import render
from ncn.scan.reading import other_initialisations
from ncn.scan.tables import examine
from ncn.scan.texts import scan_run
from ncn.scoring.leak import future_leak
from ncn.scoring.probes import probe
from ncn.scoring.questions import questions
from ncn.settings import Params
from ncn.signals import SIGNALS, Signal, Site, Width
from ncn.training.log import LogRow, TrainingLog
from ncn.training.loop import train_model
from tests.conftest import VOCABULARY, with_arm
from tests.parity import DEVICE, needs_triton
from tests.results import write_results
from tests.training.test_loop import quick, rows

FORMS: dict[str, tuple[Width, tuple[Site, ...], int]] = {  # and its columns in the tiny model
    "a layer": ("layer", ("queries", "attention", "feed_forward"), 1),
    "a head": ("head", ("queries", "attention"), 4),
    "a vector": ("vector", ("queries", "attention", "feed_forward"), 32),
}
ARMS: dict[str, dict[str, Any]] = {
    "beside": {"salience": "causal", "signals": ["toy", "gain", "precision"]},
    "alone": {"salience": "causal", "signals": ["toy"]},
    "seeing": {"salience": "causal", "signals": ["gain", "toy"], "attention_entropy": True},
    "static": {"controller": "static", "signals": ["gain", "toy"]},
}


def declared(width: Width, sites: tuple[Site, ...], **changes: Any) -> Signal:
    """The declaration: the one edit."""
    shape: dict[str, Any] = {"transformations": ("shifted", "softplus"), "start": 0.25}
    shape |= {"symbol": "τ", "words": "toy signal", "scale": (0.5, 1.5)} | changes
    return Signal("toy", width=width, sites=sites, **shape)


@pytest.fixture(params=FORMS)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """With the toy declared: how many numbers a token and layer it is."""
    width, sites, columns = FORMS[request.param]
    monkeypatch.setitem(SIGNALS, "toy", declared(width, sites))
    return columns


def small(tiny: Params, arm: str = "beside") -> Params:
    return quick(with_arm(tiny, **ARMS[arm]), epochs=3)


def untrained(tiny: Params, arm: str = "beside") -> LanguageModel:
    return build_model(small(tiny, arm), "special", VOCABULARY, 1)


MADE: dict[tuple[int, str], tuple[LanguageModel, list[LogRow]]] = {}


def trained(tiny: Params, columns: int, arm: str) -> tuple[LanguageModel, list[LogRow]]:
    """One for all tests of a form and an arm, which only read it."""
    if (columns, arm) not in MADE:
        model = untrained(tiny, arm)
        log = train_model(model, rows(), small(tiny, arm).train, 1, "toy", validation=rows(8))
        MADE[columns, arm] = model.eval(), log
    return MADE[columns, arm]


def texts(length: int = 17) -> tuple[Tensor, Tensor]:
    text = torch.from_numpy(rows(4, length).astype(np.int64))
    return text[:, :-1], text[:, 1:]


def of_toy(model: LanguageModel, bias: Tensor, columns: int) -> Tensor:
    """The toy's part of the output biases, [L, W]."""
    control = model.config.control
    assert control is not None
    start = control.signals.index("toy")  # those before it are one number each
    return bias.view(model.config.n_layers, -1)[:, start : start + columns]


@pytest.mark.parametrize("arm", ARMS)
def test_it_is_trained_and_logged(tiny: Params, columns: int, arm: str) -> None:
    fresh = untrained(tiny, arm)
    assert fresh.control is not None
    bias = fresh.control.output_bias
    assert torch.equal(of_toy(fresh, bias, columns), torch.full((3, columns), 0.25))
    cross_entropy, _ = fresh.loss(*texts())
    (gradient,) = torch.autograd.grad(cross_entropy, bias)
    assert torch.all(of_toy(fresh, gradient, columns) != 0)  # in every layer, of every number
    model, log = trained(tiny, columns, arm)
    assert log[-1].loss < log[0].loss
    named = ["gain_mean", "precision_mean", "ffn_gate_mean", "toy_mean"]
    assert list(log[-1].columns())[-6:] == [*named, "pooling_entropy", "val_loss"]
    assert log[-1].columns()["toy_mean"] != pytest.approx(log[0].columns()["toy_mean"])
    assert log[-1].columns()["ffn_gate_mean"] is None
    again = TrainingLog()
    again.load_state_dict({"rows": [list(row) for row in log], "window": [], "spikes": 0}
                          | {"losses": []})  # fmt: skip
    assert again.rows == log
    assert future_leak(model, rows(4), 3) == 0


def test_it_adds_its_own_rows_to_the_controller_and_no_more(tiny: Params, columns: int) -> None:
    without, config = (
        build_model(
            with_arm(tiny, **ARMS["beside"] | {"signals": names, "match": "none"}), "special", 97, 1
        ).config
        for names in (["gain", "precision"], ["toy", "gain", "precision"])
    )
    more = 3 * columns
    assert parameter_count(config) - parameter_count(without) == more * (8 + 1)  # hidden, bias
    assert flops_per_token(config) - flops_per_token(without) == 2 * 8 * more


@pytest.mark.parametrize("arm", ARMS)
def test_it_is_saved_and_generates_through_the_caches(
    tiny: Params, columns: int, arm: str, tmp_path: Path
) -> None:
    model, _ = trained(tiny, columns, arm)
    save_model(model, tmp_path / "model")
    loaded, prompt = load_model(tmp_path / "model"), texts()[0]
    assert torch.equal(loaded(prompt), model(prompt))
    probed = probe(loaded, rows(4, 40))
    assert probed["cache"]["difference"] < 1e-5 * probed["cache"]["largest_logit"]
    written = generate(loaded, prompt, 10, temperature=0.0)
    for end in range(prompt.shape[1], written.shape[1]):
        assert torch.equal(loaded(written[:, :end])[:, -1].argmax(-1), written[:, end])


@pytest.mark.parametrize("arm", ARMS)
def test_it_does_nothing_where_it_is_neutral_and_something_elsewhere(
    tiny: Params, columns: int, arm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = untrained(tiny, arm).eval()
    plain = LanguageModel(model.config.model_copy(update={"control": None})).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    prompt = texts()[0]
    shape = (4, 16, 3) if SIGNALS["toy"].width == "layer" else (4, 16, 3, columns)
    assert model.signals(prompt)["toy"].shape == shape
    for value in (1.0, 1.25):
        forced = ControlOutput({"toy": torch.full(shape, value)})
        monkeypatch.setattr(model.control, "forward", lambda *_, out=forced: out)
        assert torch.equal(model(prompt), plain(prompt)) == (value == 1)
    unset = build_model(tiny, "ncn", VOCABULARY, 1).signals(prompt)["toy"]
    assert torch.equal(unset, torch.ones(shape))


def test_the_penalty_measures_from_what_it_declares(tiny: Params) -> None:
    signals = {"gain": torch.full((2, 5, 3), 1.5), "toy": torch.full((2, 5, 3, 4), 0.8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIGNALS, "toy", declared("head", ("queries",), neutral=0.5))
        for penalty, layers in (("mean", 1), ("sum", 3)):
            settings = tiny.ncn.model_copy(update={"penalty": penalty})
            expected = 0.01 * layers * (0.5**2 + 0.3**2)
            assert homeostatic_penalty(signals, settings).item() == pytest.approx(expected)


@pytest.mark.parametrize("setting", ["compiled", pytest.param("triton", marks=needs_triton)])
def test_compiler_and_kernels_compute_it_too(tiny: Params, columns: int, setting: str) -> None:
    torch.compiler.reset()
    model = untrained(tiny).to(DEVICE)
    batch = [each.to(DEVICE) for each in texts()]

    def losses_and_gradients(loss: Any) -> tuple[Tensor, ...]:
        made = loss(*batch)
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(
            sum(made), parameters, allow_unused=True, materialize_grads=True
        )
        return *made, *gradients

    model.use_kernels("reference")
    expected = losses_and_gradients(model.loss)
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    if setting == "triton":
        model.use_kernels("triton")
    found = losses_and_gradients(compiled if setting == "compiled" else model.loss)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_each_head_is_scaled_by_its_own_number(tiny: Params) -> None:
    """On the queries one number a head is that head's precision; on its output, its gain."""
    model = build_model(tiny, "baseline", VOCABULARY, 1)
    attention, x = model.blocks[0].attention, torch.randn(2, 6, 32)
    scale = 0.5 + torch.rand(2, 6, 4)
    q, k, v = attention.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
    per_head = scale.transpose(1, 2)[..., None]  # [B, H, T, 1]
    attend = torch.nn.functional.scaled_dot_product_attention
    sharper = attention.out(attend(per_head * q, k, v, is_causal=True).transpose(1, 2).flatten(2))
    louder = attention.out(
        (per_head * attend(q, k, v, is_causal=True)).transpose(1, 2).flatten(2)
    )  # fmt: skip
    torch.testing.assert_close(attention(x, {"head": scale})[0], sharper)
    torch.testing.assert_close(attention(x, {}, {"head": scale})[0], louder)


def test_one_a_head_is_refused_where_there_are_no_heads() -> None:
    with pytest.raises(ValueError, match="signal toy: width head at the site feed_forward, which"):
        declared("head", ("attention", "feed_forward"))


class _Letters(Tokenizer):
    def __init__(self) -> None:
        super().__init__({bytes([32 + place]): place for place in range(96)}, 96)


@pytest.mark.parametrize("arm", ["beside", "seeing"])
def test_it_is_scanned(tiny: Params, columns: int, arm: str) -> None:
    model, _ = trained(tiny, columns, arm)
    tokenizer = _Letters()
    settings = tiny.brain_scan.model_copy(
        update={"texts": ["an a", "a b"], "initialisations": 3, "word": "a"}
    )
    summary, table = scan_run(model, 1, tokenizer, settings.texts)
    chosen = ConditionedRows(rows(8, 41))
    null = other_initialisations(model, chosen, tokenizer, settings)
    counts = np.ones(VOCABULARY, np.int64)
    tests, tables = examine(model, chosen, counts, null, tokenizer, settings, 1)
    signals = model.signals(torch.tensor([tokenizer.encode("an a")]))["toy"][0]
    layers = signals if signals.ndim == 2 else signals.mean(-1)
    first = [row["value"] for row in table if row["signal"] == "toy"][:12]
    assert first == pytest.approx(layers.flatten().tolist())
    assert summary["trained"][0]["toy"]["layer_means"] == pytest.approx(layers.mean(0).tolist())
    assert {"toy", "gain"} <= tests["specialisation"].keys()
    assert "toy" in tests["easy_tokens"]["signals"]
    for name in ("tokens", "layers", "losses"):
        assert "toy" in {row["signal"] for row in tables[name]}, name


def test_it_is_on_the_page(
    params: Params, columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = with_arm(params, **ARMS["beside"])
    write_results(params)
    assert judge(read_metrics(params))["claims"]
    page = render(params, gather(params))
    for words in ("toy by layer and token, special-1 trained", "toy_mean during training",
                  "toy by tenth of the loss", "toy by layer, trained beside", "<b>toy</b>",
                  "mean toy signal"):  # fmt: skip
        assert words in page, words
    assert "toy by layer and token, ncn-1" not in page  # an arm that has it not


def test_it_is_measured_by_the_benchmark(columns: int) -> None:
    workload = elementwise_kernels(torch.device("cpu"), compiling=False)["actuator"]
    made = workload.forms["eager"](*workload.inputs(5))
    published = {1: 1, 4: 8, 32: 256}[columns]  # heads and width of the published model
    assert [each.shape[-1] for each in made] == [1, 1, 1, published]


@pytest.mark.parametrize("arm", ARMS)
def test_a_model_is_asked_about_it_as_about_the_others(
    tiny: Params, columns: int, arm: str
) -> None:
    model = untrained(tiny, arm).eval()
    found = questions(model, rows(8), {"loss": np.ones((8, 16), np.float32)})["signals"]
    others = {"beside": 2, "alone": 0, "seeing": 1, "static": 1}[arm]
    assert found["directions"]["columns"] == tiny.model.n_layers * (others + columns)
    assert set(found["range"]) == set(ARMS[arm]["signals"])
