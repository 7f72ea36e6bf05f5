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
    ],
)
def test_a_model_of_another_shape_is_refused(
    saved: Path, change: dict[str, object], words: str
) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=words):
        load_model(saved)


def test_missing_and_damaged_files_are_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        load_model(saved)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors does not exist"):
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
