"""Saving and loading, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ncn.common.errors import InputError
from ncn.model import build_model, load_model, save_model
from ncn.settings import Params
from tests.conftest import VOCABULARY

TOKENS = torch.arange(20)[None]


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_a_loaded_model_gives_identical_logits(tiny: Params, arm: str, tmp_path: Path) -> None:
    model = build_model(tiny, arm, VOCABULARY, 1).eval()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert loaded.config == model.config
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert all(p.requires_grad for p in loaded.parameters())


def test_loaded_weights_are_aligned_so_that_two_loads_compute_the_same(
    tiny: Params, tmp_path: Path
) -> None:
    save_model(build_model(tiny, "ncn", VOCABULARY), tmp_path / "model")
    assert all(p.data_ptr() % 64 == 0 for p in load_model(tmp_path / "model").parameters())


def test_tied_weights_are_stored_once(tiny: Params, tmp_path: Path) -> None:
    save_model(build_model(tiny, "ncn", VOCABULARY), tmp_path / "model")
    shapes = [tuple(t.shape) for t in load_file(tmp_path / "model/model.safetensors").values()]
    assert shapes.count((VOCABULARY, 32)) == 1


@pytest.fixture
def saved(tiny: Params, tmp_path: Path) -> Path:
    save_model(build_model(tiny, "ncn", VOCABULARY), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d_ff": 50}, r"down\.weight has shape \(32, 48\), but config\.json says \(32, 50\)"),
        ({"n_layers": 2}, "has shape"),
        ({"control": None}, r"control\.hidden\.bias has shape \(8,\), but config\.json says none"),
        ({"n_heads": 5}, "d_model 32 is not divisible by n_heads 5"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"surprise": 1}, "surprise"),
        ({"n_layers": 9999}, r"config\.json: n_layers is 9999, but model\.safetensors has"),
        ({"d_model": 10**6, "n_heads": 1}, r"config\.json: d_model is 1000000, but"),
        ({"n_layers": 10**6}, r"config\.json: n_layers: it should be less than or equal to 10000"),
        ({"d_ff": 999_999}, r"config\.json: d_ff is 999999, but"),
    ],
)
def test_a_model_of_another_shape_is_refused(
    saved: Path, change: dict[str, object], words: str
) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=words):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "d_model 32 is not divisible by the heads 3 of the salience pooling"),
        ({"hidden": 10**12}, r"control\.hidden is 1000000000000, but"),
        ({"tasks": 60_000}, r"control\.tasks is 60000, but"),
    ],
)
def test_a_control_network_that_cannot_be_is_refused(
    saved: Path, change: dict[str, object], words: str
) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["control"] |= change
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        load_model(saved)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.int32])
def test_weights_of_another_type_are_refused(saved: Path, dtype: torch.dtype) -> None:
    weights = saved / "model.safetensors"
    save_file({name: each.to(dtype) for name, each in load_file(weights).items()}, weights)
    with pytest.raises(InputError, match=r"is of type \w+; models are kept in F32"):
        load_model(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    weights = saved / "model.safetensors"
    tensors = load_file(weights)
    tensors["norm.weight"][3] = value
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"norm\.weight has values that are not finite"):
        load_model(saved)


def test_missing_and_damaged_files_are_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        load_model(saved)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors does not exist"):
        load_model(saved)
    weights.mkdir()
    with pytest.raises(InputError, match=r"model\.safetensors is no file: run"):
        load_model(saved)
    (saved / "config.json").write_text("3")
    with pytest.raises(InputError, match=r"config\.json: it should be a valid dictionary"):
        load_model(saved)
    (saved / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        load_model(saved)


def test_a_missing_tensor_is_named(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    del tensors["norm.weight"]
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(InputError, match=r"norm\.weight has shape none"):
        load_model(saved)
