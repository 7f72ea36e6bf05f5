"""The score of a text: every token once, the same however the text is cut, and never flattering."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ncn.__main__ import loaded, run
from ncn.commands import score
from ncn.commands.score import pieces, read_text, token_losses
from ncn.common.errors import InputError
from ncn.corpus.conditions import NO_CONDITIONS
from ncn.corpus.rows import TOKEN
from ncn.corpus.tokenizer import load_tokenizer, train_tokenizer
from ncn.model import build_model, save_model
from ncn.settings import END_OF_TEXT, Params
from tests.conftest import VOCABULARY

TEXT = "The cat sat.  It was\n\nglad, not sad!\nAnd then? "


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    train_tokenizer([20 * TEXT], 265, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def saved(tiny: Params, arm: str, tokenizer: Path) -> Path:
    """A model with its tokenizer beside it."""
    folder = tokenizer.parent / arm
    model = build_model(tiny, arm, 265, 1)
    if model.control is not None:
        for parameter in model.control.parameters():
            parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    save_model(model, folder)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)
    return folder


def scored(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, list[float]]:
    """The figures that the command prints, by line."""
    run("score", loaded("score"), [str(argument) for argument in arguments])
    lines = capsys.readouterr().out.splitlines()[2:]
    words = [line.rsplit(maxsplit=3) for line in lines if line[-1].isdigit()]
    return {name: [float(number) for number in numbers] for name, *numbers in words}


def test_weights_in_int8_cost_little(
    tiny: Params, tokenizer: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(9 * TEXT, encoding="utf-8")
    model = saved(tiny, "ncn_causal", tokenizer)
    losses = [
        scored(capsys, model, tmp_path / "text.txt", "--weights", weights)["as trained"][0]
        for weights in ("fp32", "int8")
    ]
    assert 0 < abs(losses[0] - losses[1]) < 0.02


def test_every_token_is_scored_once_in_windows_of_the_context(tiny: Params) -> None:
    model = build_model(tiny, "ncn_causal", VOCABULARY, 1).eval()
    tokens = torch.arange(101).remainder(VOCABULARY).numpy().astype(TOKEN)
    losses = token_losses(model, 40, tokens, 2, None, NO_CONDITIONS)
    assert losses.shape == (100,)
    window = torch.from_numpy(tokens[80:].astype(np.int64))[None]  # the last, shorter than 40
    alone = model.token_losses(window[:, :-1], window[:, 1:]).detach().numpy().ravel()
    assert losses[80:] == pytest.approx(alone, rel=1e-5)


def test_the_end_of_text_stands_between_stories(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(f"A cat{END_OF_TEXT}\nA dog\n{END_OF_TEXT}\n")
    codec = load_tokenizer(tokenizer)
    text = read_text(tmp_path / "t.txt", codec)
    assert text.stories == 2
    assert codec.decode(text.tokens.tolist()) == f"{END_OF_TEXT}A cat{END_OF_TEXT}\nA dog\n"
    assert text.n_bytes == len(f"A cat{END_OF_TEXT}\nA dog\n")


def test_a_long_text_is_cut_where_tokens_end(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, text = load_tokenizer(tokenizer), 9 * TEXT
    for size in range(1, 40):
        monkeypatch.setattr(score, "PIECE", size)
        cut = list(pieces(text))
        assert len(cut) > 3
        assert [token for piece in cut for token in codec.encode(piece)] == codec.encode(text)


def test_three_figures_of_one_loss(
    tiny: Params, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text(TEXT)
    arguments = (saved(tiny, "ncn_causal", tokenizer), tmp_path / "t.txt")
    ((loss, perplexity, bits),) = scored(capsys, *arguments).values()
    tokens = len(load_tokenizer(tokenizer).encode(TEXT))
    assert perplexity == pytest.approx(math.exp(loss), rel=1e-3)
    assert bits == pytest.approx(loss * tokens / len(TEXT) / math.log(2), rel=1e-3)


def test_a_model_that_reads_the_future_is_scored_as_it_generates_too(
    tiny: Params, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text(9 * TEXT)
    folder = saved(tiny, "ncn", tokenizer)
    both = scored(capsys, folder, tmp_path / "t.txt")
    assert list(both) == ["as trained", "reactive"]
    assert both["as trained"] != both["reactive"]
    assert scored(capsys, folder, tmp_path / "t.txt", "--salience", "reactive") == {
        "reactive": both["reactive"]
    }
    run("score", loaded("score"), [str(folder), str(tmp_path / "t.txt")])
    assert "reads the future" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "more", "words"),
    [
        (b"", [], "holds no text to score"),
        (b" \n", [], "holds no text to score"),
        (b"abc\xff", [], r"byte 3 is not UTF-8"),
        (b"abc", ["--batch-size", "0"], "--batch-size 0: allowed are 1 and more"),
        (b"abc", ["--task", "1"], "built for none"),
        (b"abc", ["--salience", "causal"], "pools nothing"),
        (b"abc", ["--tokenizer", "nowhere"], "nowhere/vocab.json does not exist"),
    ],
)
def test_what_cannot_be_scored_is_one_line(
    tiny: Params, tokenizer: Path, tmp_path: Path, content: bytes, more: list[str], words: str
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    folder = saved(tiny, "baseline", tokenizer)
    with pytest.raises(InputError, match=words):
        run("score", loaded("score"), [str(folder), str(tmp_path / "t.txt"), *more])
    with pytest.raises(InputError, match=r"absent\.txt does not exist"):
        run("score", loaded("score"), [str(folder), str(tmp_path / "absent.txt")])


def test_a_perplexity_beyond_any_float_is_still_said() -> None:
    assert score.perplexity(1.0) == "2.7183"
    assert score.perplexity(1234.5) == "e^1234.5"
