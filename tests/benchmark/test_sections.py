"""The benchmark measures what it says, on any machine."""

import pytest
import torch

from ncn.benchmark import kernels as benchmark_kernels
from ncn.benchmark import skipping as benchmark_skipping
from ncn.benchmark import switching as benchmark_switching
from ncn.benchmark import training as benchmark_training
from ncn.benchmark.generation import generating_table, read_weights
from ncn.benchmark.kernels import (
    Workload,
    elementwise_kernels,
    kernel_table,
    measure_kernels,
    output_head,
)
from ncn.benchmark.start_up import STARTS, processor_seconds
from ncn.corpus.tokenizer import GPT2_VOCABULARY
from ncn.generation.decoding import conditions_of
from ncn.model import build_model
from ncn.model.build import model_config
from ncn.model.flops import flops_per_token
from ncn.model.skipping import FORMS
from ncn.settings import Params
from tests.conftest import with_arm
from tests.parity import DEVICE


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Workload]:
    """The five workloads at a vocabulary of 101, nothing compiled."""
    monkeypatch.setattr(benchmark_kernels, "GPT2_VOCABULARY", 101)
    monkeypatch.setattr(benchmark_kernels, "_copy_rate", lambda device: 1e9)
    monkeypatch.setattr(benchmark_kernels, "product_rate", lambda device: 1e9)
    return elementwise_kernels(DEVICE, False) | output_head(DEVICE, False)


def test_every_form_of_every_kernel_is_measured_and_right(small: dict[str, Workload]) -> None:
    figures = measure_kernels(DEVICE, small, [64], 1)
    rows = figures["rows"]
    assert {row["kernel"] for row in rows} == set(small)
    once = {name for name, w in small.items() if w.exact or (w.flops and DEVICE.type == "cpu")}
    assert len(rows) == sum(len(w.forms) * (1 + (name not in once)) for name, w in small.items())
    for row in rows:
        rounded = DEVICE.type == "cuda" or "bf16" in row["kernel"]
        limit = 0.0 if row["kernel"] == "cache_update" else 2e-2 if rounded else 1e-5
        assert row["error"] <= limit, row
        assert row["seconds"] > 0
    assert len(kernel_table(figures)) == len(rows) + 4


def test_a_form_that_is_wrong_is_seen_in_the_table(small: dict[str, Workload]) -> None:
    honest = small["modulated_add"]
    wrong = honest._replace(
        forms=honest.forms | {"wrong": lambda x, y, s: x + y * 0.5 * s[:, None]}
    )
    rows = measure_kernels(DEVICE, {"modulated_add": wrong}, [64], 1)["rows"]
    assert min(row["error"] for row in rows if row["form"] == "wrong") > 0.1


def test_the_least_bytes_of_a_modulated_add_are_counted(small: dict[str, Workload]) -> None:
    rows = measure_kernels(DEVICE, {"modulated_add": small["modulated_add"]}, [64], 1)["rows"]
    if DEVICE.type == "cpu":
        row, scalar = 64 * 256 * 4, 64 * 4
        moved = [r["per_second"] * r["seconds"] for r in rows if r["form"] == "eager"]
        forward = 3 * row + scalar  # x, y, s, out
        assert moved == pytest.approx([forward, forward + row + 2 * (row + scalar)])


def test_without_a_gpu_the_whole_steps_stay_empty() -> None:
    assert benchmark_training.whole_steps(None, torch.device("cpu")) == {}  # type: ignore[arg-type]
    text = "\n".join(benchmark_training.whole_step_table({}))
    assert "no GPU: nothing was measured" in text


def test_whole_steps_name_speed_and_overhead() -> None:
    entry = {"seconds": 0.01, "ratio": 1.02, "tokens_per_second": 3.2768e6, "peak_bytes": 2**31}
    entry["of_limit"] = 0.25
    lines = benchmark_training.whole_step_table({"eager": {"ncn": entry}})
    (line,) = [each for each in lines if "ncn" in each]
    assert line == "| eager | ncn | 10.0 | 3,276,800 | 1.020 | 25% | 2.0 GiB | 2.6 min |"


@pytest.mark.parametrize("one_token", [True, False])
def test_what_is_told_in_mid_text_changes_with_each_token(
    tiny: Params, monkeypatch: pytest.MonkeyPatch, one_token: bool
) -> None:
    arm = {"salience": "causal", "tasks": 2, "sliders": ["dialogue"]}
    model = build_model(with_arm(tiny, **arm), "special", 101).eval()
    monkeypatch.setattr(benchmark_switching, "suits", lambda *_: one_token)
    monkeypatch.setattr(benchmark_switching, "NEW_TOKENS", 4)
    told = [conditions_of(model, task=n, sliders={"dialogue": 20.0 * n}) for n in (0, 1)]
    last = [benchmark_switching.tokens_told(model, each)() for each in (told, told[:1])]
    cache = model.make_cache(1)
    token = torch.arange(benchmark_switching.PROMPT)[None]
    for given in (told[0], *told, *told):
        logits = model.next_logits(token, "causal", cache, given)
        token = logits.argmax(-1, keepdim=True)
    assert last[0].numpy() == pytest.approx(logits.detach().numpy(), abs=1e-4)
    assert not torch.allclose(last[0], last[1])


def test_the_table_of_switching_is_in_milliseconds() -> None:
    figures = {"tokens": 32, "rounds": 9, "forms": {"told anew": {"seconds": 0.32, "ratio": 1.01}}}
    assert benchmark_switching.switching_table(figures)[-1] == "| told anew | 10.00 | 1.010 |"


def test_memory_is_what_a_pass_takes_at_its_height() -> None:
    taken = benchmark_kernels.peak_bytes(lambda: torch.ones(2**24, device=DEVICE).sum(), DEVICE)
    assert 0.99 * 2**26 <= taken < 2**27  # Linux counts resident pages in batches


def test_forms_of_a_step_are_beside_the_plainest() -> None:
    forms = {
        benchmark_training.PLAINEST: {
            "seconds": 8.0,
            "ratio": 1.0,
            "peak_bytes": 4e9,
            "of_limit": 0.4,
        },
        "fp32, compiled": {"seconds": 4.0, "ratio": 0.5, "peak_bytes": 1e9, "of_limit": 0.8},
    }
    figures = {
        "arm": "ncn_causal", "sequences": 8, "rounds": 5, "auto": "fp32", "forms": forms,
        "loading_seconds": 0.004, "start_up_seconds": 5.0,
    }  # fmt: skip
    text = "\n".join(benchmark_training.speed_table(figures))
    assert "| fp32, compiled | 4.00 | 1,024 | 2.00 | 80% | 1,000 MB | 0.25 |" in text
    assert "4.00 ms, 0.1 % of the fastest step" in text
    assert "no units for bf16" in text


def test_a_step_is_beside_what_a_matrix_product_allows(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_training, "product_rate", lambda device, dtype=None: 1e6)
    shares = benchmark_training.of_limit(
        tiny, {"baseline": 2.0}, DEVICE, torch.float32, sequences=3
    )
    flops = 3 * flops_per_token(model_config(tiny, "baseline", GPT2_VOCABULARY))
    tokens = 3 * tiny.model.context_length
    assert shares == {"baseline": pytest.approx(flops * tokens / 1e6 / 2)}


def test_a_batch_is_loaded_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_training, "LOADED_ROWS", 64)
    assert 0 < benchmark_training.loading_seconds(8, DEVICE) < 0.1


def test_generation_is_beside_a_pass_over_every_weight() -> None:
    arm = {"seconds": 1.28, "ratio": 1.0, "of_limit": 0.8}
    figures = {
        "new_tokens": 256,
        "arms": {"baseline": arm},
        "limit": {"seconds": 1.024, "bytes_per_second": 17.6e9},
        "several": {"rows": 32, "seconds": 4.096, "limit_seconds": 3.072},
        "int8": {"seconds": 0.512, "of_limit": 0.5},
        "recomputed": {"recomputed": {"ratio": 10.0}},
    }
    text = "\n".join(generating_table(figures))
    assert "| baseline | 5.00 | 200 | 1.000 | 80% |" in text
    said = "4.00 ms, 17.6 GB/s. 32 texts at once: 2,000 tokens/s, 10.0 times those of one,"
    assert said in text
    assert "75% of what the rate of a matrix product here allows" in text
    assert "int8: 500 tokens/s, 50% of what reading their bytes as fast would give" in text
    del figures["limit"]  # as kept in metrics/ from before there was one
    assert "an older form" in "\n".join(generating_table(figures))


def test_the_limit_reads_every_weight_that_a_token_needs(tiny: Params) -> None:
    model = build_model(tiny, "baseline", 97)
    read = sum(each.numel() for each in read_weights(model))
    others = [each for each in model.parameters() if each.ndim == 1]  # norms and biases
    kept = sum(each.numel() for each in (*others, model.positions.weight))
    assert read + kept == sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("code", STARTS.values())
def test_every_start_ends_well(code: str) -> None:
    compile(code, "start", "exec")
    if code != STARTS["to the first step of train"]:  # which takes long
        assert 0 < processor_seconds(code) < 60


def test_skipping_is_timed_beside_the_same_pass_with_all(
    tiny: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_skipping, "BATCHES", {1: 2, 3: 2})
    monkeypatch.setattr(benchmark_skipping, "LENGTH", 40)
    monkeypatch.setattr(benchmark_skipping, "FIRST", 8)
    figures = benchmark_skipping.skipping(tiny, torch.device("cpu"), vocabulary=97)
    asked = [
        (batch, way, form, share)
        for batch in (1, 3)
        for way in ("whole text", "token by token")
        for form in FORMS
        for share in (0, 0.25, 0.5, 0.75)
    ]
    for row, (batch, way, form, share) in zip(figures["rows"], asked, strict=True):
        assert (row["batch"], row["way"], row["form"]) == (batch, way, form)
        assert row["share"] == pytest.approx(share, abs=0.01)
        assert min(row["seconds"], row["plain"], row["ratio"]) > 0
        assert 0 < row["at_best"] <= 1 - 0.1 * share  # of the passes, the branches are a part
        assert (row["at_best"] == 1) == (share == 0)
    assert benchmark_skipping.skipping(tiny, torch.device("cuda")) == {}


def test_a_share_that_takes_longer_is_said_to_lose() -> None:
    row = {"way": "whole text", "batch": 32, "form": "feed_forward", "share": 0.5, "at_best": 0.7}
    slow = row | {"seconds": 0.011, "plain": 0.010, "ratio": 1.1}
    rows = [slow, slow | {"seconds": 0.008, "ratio": 0.8}]
    figures = {"arm": "ncn_causal", "length": 256, "steps": 32, "first": 16, "rows": rows}
    lines = benchmark_skipping.skipping_table(figures)
    start = "| whole text | 32 | feed-forward | 50% |"
    assert f"{start} 11.0 | 10.0 | 1.100 | 0.700 | loses 10% |" in lines
    assert f"{start} 8.0 | 10.0 | 0.800 | 0.700 | saves 20% |" in lines
    assert "no GPU" in "\n".join(benchmark_skipping.skipping_table({}))
