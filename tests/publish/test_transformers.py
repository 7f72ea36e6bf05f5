"""A published model in the real transformers library: the same function, by its own ways."""

import importlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from ncn.__main__ import loaded, run
from ncn.commands.score import read_text
from ncn.common.errors import InputError
from ncn.corpus.conditions import Conditions
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.generation.decoding import generate
from ncn.model import LanguageModel, build_model, load_model, save_model
from ncn.publish.hub import push_to_hub
from ncn.publish.model_card import model_card
from ncn.publish.repository import COMPUTED, write_repository
from ncn.settings import Params
from ncn.signals import SIGNALS
from tests.conftest import ROOT, VOCABULARY, special
from tests.hub import serve_hub

transformers = pytest.importorskip("transformers")

COMPUTED_SIGNALS = [name for name, signal in SIGNALS.items() if {*signal.sites} <= COMPUTED]
# By name: what differs from the arm `ncn`.
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"controller": "none"},
    "static": {"controller": "static", "gain": "shifted"},
    "global": {},
    "causal": {"salience": "causal", "activation": "gelu"},
    "reactive": {"salience": "reactive", "signals": ["precision", "gain"]},
    "no salience": {"salience": "none", "precision_max": 1.0},
    "entropy": {"salience": "causal", "attention_entropy": True},
    "every signal": {"salience": "causal", "signals": COMPUTED_SIGNALS},
    "told": {"salience": "causal", "tasks": 3, "sliders": ["dialogue", "token_bytes"]},
}


@pytest.fixture(autouse=True)
def cache_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code that it runs: not to the user's own folder."""
    modules = importlib.import_module("transformers.dynamic_module_utils")
    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)


def drawn(params: Params, arm: str) -> LanguageModel:
    """A model whose every weight matters, as after training."""
    ncn = params.ncn.model_copy(update=ARMS[arm])
    model = build_model(params.model_copy(update={"ncn": ncn}), "ncn", VOCABULARY, 1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


@pytest.fixture(params=ARMS)
def pair(request: pytest.FixtureRequest, tiny: Params, tmp_path: Path) -> tuple[LanguageModel, Any]:
    """A model, and what transformers loads of it."""
    model = drawn(tiny, request.param)
    return model, published(model, tmp_path / "published")


def published(model: LanguageModel, folder: Path, tokenizer: Path | None = None) -> Any:
    folder.mkdir()
    write_repository(model, folder, tokenizer)
    auto = transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, trust_remote_code=True, local_files_only=True).eval()


def some_tokens(batch: int = 2, length: int = 17) -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(3))


def test_logits_are_equal(pair: tuple[LanguageModel, Any]) -> None:
    model, theirs = pair
    tokens = some_tokens()
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), rtol=1e-4, atol=1e-5)
        last = theirs(tokens, logits_to_keep=1).logits
        torch.testing.assert_close(last, theirs(tokens).logits[:, -1:], rtol=1e-4, atol=1e-5)
        labels = tokens.clone()
        expected, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
        if model.config.control is None or model.config.control.salience != "global":
            assert theirs(tokens, labels=labels).loss == pytest.approx(float(expected), rel=1e-4)


def test_told_conditions_reach_the_control_network(tiny: Params, tmp_path: Path) -> None:
    model = drawn(tiny, "told")
    theirs, tokens = published(model, tmp_path / "published"), some_tokens()
    task, sliders = torch.tensor([2, 0]), torch.tensor([[1.0, -0.5], [0.0, 2.0]])
    with torch.no_grad():
        told = theirs(tokens, task=task, sliders=sliders).logits
        ours = model(tokens, conditions=Conditions(task, sliders))
        torch.testing.assert_close(told, ours, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(told, model(tokens), atol=1e-2)


@pytest.mark.parametrize("use_cache", [True, False])
def test_it_generates_what_the_project_generates(
    pair: tuple[LanguageModel, Any], use_cache: bool
) -> None:
    model, theirs = pair
    tokens = some_tokens()
    expected = generate(model, tokens, 12, temperature=0)
    options = {"max_new_tokens": 12, "do_sample": False, "use_cache": use_cache}
    assert torch.equal(theirs.generate(tokens, **options), expected)


def test_beams_and_padding_change_nothing(pair: tuple[LanguageModel, Any]) -> None:
    _, theirs = pair
    short, long = some_tokens(1, 9), some_tokens(1, 17)
    options = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    alone = [theirs.generate(each, **options)[0, each.shape[1] :] for each in (short, long)]
    padded = torch.cat([torch.nn.functional.pad(short, (8, 0)), long])
    mask = torch.ones_like(padded)
    mask[0, :8] = 0
    both = theirs.generate(padded, attention_mask=mask, **options)[:, 17:]
    for mine, each in zip(both, alone, strict=True):
        assert torch.equal(mine, each)


def test_the_future_is_pooled_only_without_a_cache(tiny: Params, tmp_path: Path) -> None:
    model = drawn(tiny, "global")
    theirs, tokens = published(model, tmp_path / "published"), some_tokens()
    with torch.no_grad():
        for salience in ("causal", "reactive"):
            torch.testing.assert_close(
                theirs(tokens, salience=salience).logits,
                model(tokens, salience),  # type: ignore[arg-type]
                rtol=1e-4, atol=1e-5,
            )  # fmt: skip
        cached = theirs(tokens, use_cache=True).logits
        torch.testing.assert_close(cached, model(tokens, "reactive"), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="allowed with a cache are causal and reactive"):
        theirs(tokens, use_cache=True, salience="global")


def test_a_text_longer_than_the_context_is_refused(tiny: Params, tmp_path: Path) -> None:
    theirs = published(drawn(tiny, "causal"), tmp_path / "published")
    with pytest.raises(ValueError, match="41 tokens are more than the context of 40"):
        theirs(some_tokens(1, 41))


def test_what_transformers_saves_is_read_here(tiny: Params, tmp_path: Path) -> None:
    model = drawn(tiny, "entropy")
    published(model, tmp_path / "published").save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.config == model.config == load_model(tmp_path / "published").config
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())


TEXT = "The cat sat.  It was\n\nglad, not sad! <|endoftext|> Don't you\u00a0see: naïve 123 ☃\n"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    train_tokenizer([20 * TEXT], 290, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_texts_are_the_same_tokens(tiny: Params, tokenizer: Path, tmp_path: Path) -> None:
    model = build_model(tiny, "ncn_causal", 290, 1)
    published(model, tmp_path / "published", tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "published")
    ours = load_tokenizer(tokenizer)
    parts = TEXT.split("<|endoftext|>")
    expected = [*ours.encode(parts[0]), ours.end_of_text, *ours.encode(parts[1])]
    assert theirs(TEXT)["input_ids"] == expected
    assert theirs.decode(expected) == TEXT
    assert theirs.eos_token_id == theirs.bos_token_id == ours.end_of_text
    assert theirs.model_max_length == 40


@pytest.fixture
def hub_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served.endpoint


def test_from_push_to_the_pipeline_of_transformers(
    tiny: Params, tokenizer: Path, tmp_path: Path, hub_address: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As a reader of the model card does, where this project is not; the card's own lines too."""
    monkeypatch.chdir(tmp_path)
    model = build_model(tiny, "ncn_causal", 290, 1).eval()
    save_model(model, tmp_path / "ncn_causal")
    push_to_hub(model, "someone/tiny", tokenizer=tokenizer)
    card, _ = re.findall(r"```python\n(.*?)```", model_card(model, "someone/tiny"), re.DOTALL)
    code = (
        f"{card.replace('print', 'len')}"
        "from transformers import pipeline\n"
        "write = pipeline('text-generation', model='someone/tiny', trust_remote_code=True)\n"
        "print(write('The cat', max_new_tokens=5, do_sample=False)[0]['generated_text'], end='')\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub_address}
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    ours = load_tokenizer(tokenizer)
    expected = generate(model, torch.tensor([ours.encode("The cat")]), 5, temperature=0)
    assert made.stdout == ours.decode(expected[0].tolist())
    # And scored by name, as from its folder.
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    run("score", loaded("score"), ["someone/tiny", "text.txt"])
    by_name = capsys.readouterr().out.splitlines()[-1].split()
    arguments = ["ncn_causal", "text.txt", "--tokenizer", str(tokenizer)]
    run("score", loaded("score"), arguments)
    assert by_name == capsys.readouterr().out.splitlines()[-1].split()


def gpt2(folder: Path, tokenizer: Path) -> Any:
    """A small GPT-2 of transformers' own, with the tokenizer."""
    config = transformers.GPT2Config(
        vocab_size=290, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=289,
        eos_token_id=289,
    )  # fmt: skip
    torch.manual_seed(4)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    vocabulary, merges = (str(tokenizer / name) for name in ("vocab.json", "merges.txt"))
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return model


def test_a_model_of_others_is_scored(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, ours = gpt2(tmp_path / "gpt2", tokenizer), load_tokenizer(tokenizer)
    (tmp_path / "text.txt").write_text(6 * TEXT, encoding="utf-8")
    run("score", loaded("score"), [str(tmp_path / "gpt2"), str(tmp_path / "text.txt")])
    loss, perplexity, bits = map(float, capsys.readouterr().out.splitlines()[-1].split()[2:])
    text = read_text(tmp_path / "text.txt", ours)
    ids = torch.from_numpy(text.tokens.astype("int64"))
    losses = []
    for start in range(0, len(ids) - 1, 32):
        window = ids[start : start + 33]
        with torch.no_grad():
            logits = model(window[None, :-1]).logits[0]
        losses.append(torch.nn.functional.cross_entropy(logits, window[1:], reduction="none"))
    total = float(torch.cat(losses).double().sum())
    assert loss == pytest.approx(total / (len(ids) - 1), abs=1e-4)
    assert perplexity == pytest.approx(math.exp(total / (len(ids) - 1)), rel=1e-3)
    assert bits == pytest.approx(total / math.log(2) / text.n_bytes, abs=1e-3)


@pytest.mark.parametrize(
    ("spoilt", "arguments", "words"),
    [
        (None, ["--salience", "causal"], "--salience: .* is no model of this project"),
        (None, ["--tokenizer", "x"], "--tokenizer: .* is no model of this project"),
        ("model.safetensors", [], "transformers: .*model.safetensors"),
        ("tokenizer.json", [], "gpt2: its tokenizer makes nothing of a text"),
    ],
)
def test_what_of_others_cannot_be_scored_is_one_line(
    spoilt: str | None, arguments: list[str], words: str, tokenizer: Path, tmp_path: Path
) -> None:
    gpt2(tmp_path / "gpt2", tokenizer)
    if spoilt:
        (tmp_path / "gpt2" / spoilt).unlink()
        (tmp_path / "gpt2" / "tokenizer_config.json").unlink()
    (tmp_path / "text.txt").write_text("The cat.", encoding="utf-8")
    text = [str(tmp_path / "text.txt")]
    with pytest.raises(InputError, match=words) as caught:
        run("score", loaded("score"), [str(tmp_path / "gpt2"), *text, *arguments])
    assert "\n" not in str(caught.value)


def test_code_of_others_does_not_run(tiny: Params, tmp_path: Path) -> None:
    """A folder that brings code: it is refused, and the code is not even read."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    write_repository(drawn(tiny, "causal"), folder)
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text.replace('"ncn"', '"other"'), encoding="utf-8")
    (folder / "modeling_ncn.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    (tmp_path / "text.txt").write_text("The cat.", encoding="utf-8")
    with pytest.raises(InputError, match="foreign"):
        run("score", loaded("score"), [str(folder), str(tmp_path / "text.txt")])


@pytest.mark.parametrize("changes", [{"modulator": "temperature"}, {"phasic": "layer"},
                                     {"controller": "recurrent"},
                                     {"signals": ["gain", "dropout"]},
                                     {"signals": ["norm_film"]}])  # fmt: skip
def test_a_model_that_the_code_does_not_compute_goes_without_it(
    tiny: Params, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = special(tiny, **changes)
    write_repository(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert load_model(tmp_path).config == model.config
    assert "transformers" not in model_card(model, "someone/tiny")


def test_the_code_needs_nothing_of_this_project() -> None:
    for path in sorted((ROOT / "ncn/publish/hub_code").glob("*.py")):
        assert "ncn." not in path.read_text(encoding="utf-8").replace("config.ncn.", "")
