"""`python -m ncn generate`: what reaches the model, what it prints, what it refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ncn.__main__ import main
from ncn.commands import generate as command
from ncn.corpus.tokenizer import Tokenizer
from ncn.generation.decoding import stream
from ncn.generation.sampling import Sampling
from ncn.generation.text import continue_texts
from ncn.model import build_model, load_model, save_model
from ncn.settings import END_OF_TEXT, Params
from tests.conftest import VOCABULARY

Run = Callable[..., str]


@pytest.fixture
def run(
    model_directory: Path,
    tokenizer_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Call the command in this process; returns what it wrote to stdout."""

    def call(*arguments: str, model: Path = model_directory) -> str:
        own = [] if "--tokenizer" in arguments else ["--tokenizer", str(tokenizer_directory)]
        monkeypatch.setattr("sys.argv", ["ncn", "generate", str(model), *own, *arguments])
        monkeypatch.setattr(command, "pick_device", lambda: torch.device("cpu"))
        main()
        captured = capsys.readouterr()
        call.notes = captured.err  # type: ignore[attr-defined]
        return captured.out

    return call


def test_the_command_prints_the_prompt_and_its_text(
    run: Run, model_directory: Path, tokenizer: Tokenizer
) -> None:
    printed = run("--prompt", "Once upon", "--max-new-tokens", "12", "--seed", "4", "--top-k", "9")
    (text,) = continue_texts(
        load_model(model_directory), tokenizer, ["Once upon"], 12, Sampling(0.8, 9), 4
    )
    assert printed == f"Once upon{text}\n"
    assert run("--prompt", "Once upon", "--max-new-tokens", "12", "--seed", "5") != printed


def test_the_command_writes_each_piece_before_it_draws_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []

    def note(*pieces: str, end: str = "\n", flush: bool = False) -> None:
        flushed.extend(pieces if flush else [])

    def watched(*arguments: Any, **named: Any) -> Iterator[Tensor]:
        for token in stream(*arguments, **named):
            counts.append(len(flushed))
            yield token

    counts: list[int] = []
    monkeypatch.setattr("builtins.print", note)
    monkeypatch.setattr(command, "stream", watched)
    run("--prompt", "Once", "--max-new-tokens", "8", "--temperature", "0")
    assert len(counts) == 8
    assert 0 < counts[0] < counts[-1] < len(flushed)


def test_prompts_from_a_file_come_out_in_order_each_ended(
    run: Run, tmp_path: Path, model_directory: Path, tokenizer: Tokenizer
) -> None:
    prompts = ["Once upon", "", "a tiny dragon"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    printed = run("--prompts-file", str(tmp_path / "prompts.txt"), "--max-new-tokens", "9")
    texts = continue_texts(load_model(model_directory), tokenizer, prompts, 9, Sampling(0.8, 50), 0)
    whole = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    assert printed == "".join(f"{each}\n{END_OF_TEXT}\n" for each in whole)


def test_past_the_context_the_command_says_so_once(run: Run) -> None:
    run("--prompt", "Once", "--max-new-tokens", "20")
    assert run.notes == ""  # type: ignore[attr-defined]
    run("--max-new-tokens", "100")
    assert run.notes == (  # type: ignore[attr-defined]
        "note: a text may outgrow the context of 40 tokens:"
        " from there on the model reads only the last 30 to 40\n"
    )


def test_salience_and_refresh_reach_the_model(run: Run) -> None:
    plain = ("--prompt", "Once", "--max-new-tokens", "35", "--temperature", "0")
    texts = [
        run(*plain, *options)
        for options in (
            (), ("--salience", "causal"), ("--salience", "reactive"),
            ("--refresh", "9"), ("--refresh", "entropy:99"),
        )
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4


def test_weights_in_int8_write_a_text_of_their_own(run: Run) -> None:
    plain = ("--prompt", "Once", "--max-new-tokens", "35", "--temperature", "1.5", "--top-k", "0")
    as_it_is, rounded = (run(*plain, "--weights", weights) for weights in ("fp32", "int8"))
    assert rounded.startswith("Once")
    assert rounded != as_it_is


def test_what_is_skipped_reaches_the_model_and_needs_a_control_network(
    run: Run, tmp_path: Path, tiny: Params
) -> None:
    plain = ("--prompt", "Once", "--max-new-tokens", "35", "--temperature", "0")
    texts = [
        run(*plain, *options)
        for options in (
            (), ("--skip-below", "0"), ("--skip-below", "0.9"),
            ("--skip-below", "0.9", "--skip", "layer"),
        )
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    save_model(build_model(tiny, "baseline", 290), tmp_path / "baseline-1")
    with pytest.raises(SystemExit, match=r"error: .*/baseline-1: no control network, so no gate"):
        run(*plain, "--skip-below", "0.5", model=tmp_path / "baseline-1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "temperature -1.0: allowed are 0 (greedy) and finite numbers"),
        (["--temperature", "warm"], "argument --temperature: invalid float value: 'warm'"),
        (["--top-k", "-2"], "top_k -2: allowed are 1 and more, or 0 for all tokens"),
        (["--top-p", "0"], "top_p 0.0: allowed are numbers above 0, at most 1"),
        (["--seed", "-1"], "seed -1: allowed are 0 to 2**63 - 1"),
        (["--max-new-tokens", "-5"], "max_new_tokens -5: allowed are 0 and more"),
        (["--salience", "global"], "argument --salience: invalid choice: 'global'"),
        (["--refresh", "often"], "refresh 'often': allowed are a number of tokens, or entropy:"),
        (["--prompt", "a", "--prompts-file", "b"], "argument --prompts-file: not allowed with"),
        (["--prompts-file", "absent.txt"], "--prompts-file absent.txt: [Errno 2] No such file"),
        (["--prompts-file", "absent.txt", "--weights", "int8"], "--weights int8: one --prompt at"),
        (["--weights", "int4"], "argument --weights: invalid choice: 'int4'"),
        (["--prompt", "dragon " * 40], "prompt 'dragon dragon dragon dragon dragon drago' has "),
        (["--tokenizer", "absent"], "absent/vocab.json does not exist"),
        (
            ["--task", "0"],
            "task 0: this model was built for none (ncn.tasks and model.task_tokens 0)",
        ),
        (["--slider", "dialogue=1"], "slider 'dialogue': this model has none"),
        (["--slider", "dialogue"], "--slider 'dialogue': NAME=NUMBER was expected"),
        (["--speed", "9"], "unrecognized arguments: --speed 9"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    run: Run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        run(*arguments)
    assert str(ending.value.code).startswith(f"error: {message}")
    assert "\n" not in str(ending.value.code)
    assert capsys.readouterr().out == ""


def test_a_missing_model_and_a_foreign_tokenizer_are_one_line(
    run: Run, tmp_path: Path, tiny: Params
) -> None:
    with pytest.raises(SystemExit, match=r"error: .*absent/config.json does not exist: run `dvc"):
        run(model=tmp_path / "absent")
    save_model(build_model(tiny, "ncn", VOCABULARY), tmp_path / "other")
    with pytest.raises(SystemExit, match=r"other: 97 tokens, but .* has 290: --tokenizer must"):
        run(model=tmp_path / "other")


def test_tasks_and_sliders_reach_the_model(run: Run, told_directory: Path) -> None:
    plain = ("--prompt", "Once", "--max-new-tokens", "30", "--temperature", "0")
    texts = [
        run(*plain, *options, model=told_directory)
        for options in (
            (), ("--task", "0"), ("--task", "2"), ("--slider", "dialogue=3"),
            ("--slider", "dialogue=3", "--slider", "token_bytes=-6"),
        )
    ]  # fmt: skip
    assert len(set(texts)) == 5
    assert run.notes == (  # type: ignore[attr-defined]
        "note: token_bytes 1 is asked for; its mean in training is 4\n"
        "note: dialogue 0.05 is asked for; its mean in training is 0.02\n"
    )
    assert run(*plain, "--slider", "dialogue=0", model=told_directory) == texts[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "3"], "task 3: allowed are 0 to 2"),
        (["--slider", "mood=1"], "slider 'mood': this model has token_bytes, dialogue"),
        (["--slider", "dialogue=inf"], "slider dialogue inf: allowed are finite numbers"),
    ],
)
def test_what_a_model_cannot_be_told_is_one_line(
    run: Run, told_directory: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ending:
        run(*arguments, model=told_directory)
    assert ending.value.code == f"error: {message}"
