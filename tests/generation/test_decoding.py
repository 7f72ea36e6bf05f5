"""Generation: what the caches give is what the whole window would, and tokens fall as declared."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical

from ncn.__main__ import main
from ncn.commands import generate as command
from ncn.common.errors import InputError
from ncn.corpus.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from ncn.generation.decoding import (
    conditions_of,
    generate,
    generation_salience,
    stream,
    window_start,
)
from ncn.generation.refresh import ALWAYS, AboveEntropy, EveryTokens, Refresh, parse_refresh
from ncn.generation.sampling import Sampling, distribution, sample
from ncn.generation.text import continue_texts, stream_text
from ncn.model import LanguageModel, build_model, load_model, save_model
from ncn.model.control import ControlNetwork
from ncn.settings import END_OF_TEXT, Params
from tests.conftest import VOCABULARY, special, with_arm
from tests.model.test_language_model import shaken, tokens

# At this scale greedy text wanders over half of the vocabulary, and a wrong cache shows at once.
lively = partial(shaken, scale=1.0)

GREEDY = Sampling(temperature=0)
# Every arm that can generate: its settings, and the salience asked for.
ARMS = [
    pytest.param({"controller": "none"}, None, id="baseline"),
    pytest.param({"controller": "static"}, None, id="static"),
    pytest.param({"salience": "causal"}, None, id="causal"),
    pytest.param({"salience": "reactive"}, None, id="reactive"),
    pytest.param({"salience": "none"}, None, id="none"),
    pytest.param({"salience": "global"}, "reactive", id="global, reactively"),
    pytest.param({"salience": "global"}, "causal", id="global, causally"),
    pytest.param({"salience": "causal", "attention_entropy": True}, None, id="entropy"),
]


def long(params: Params, context_length: int = 300) -> Params:
    shape = params.model.model_copy(update={"context_length": context_length})
    return params.model_copy(update={"model": shape})


# Caches


@pytest.mark.parametrize(("settings", "salience"), ARMS)
@pytest.mark.parametrize("pieces", [(40,), (1,) * 40, (7, 1, 20, 1, 1, 10), (39, 1)])
def test_a_text_read_in_pieces_has_the_logits_of_the_whole(
    tiny: Params, settings: dict[str, str], salience: str | None, pieces: tuple[int, ...]
) -> None:
    text = tokens(3, 40)
    single, double = shaken(special(tiny, **settings)), lively(special(tiny, **settings)).double()
    for model, tolerance in ((single, 1e-4), (double, 1e-10)):
        cache = model.make_cache(3)
        logits = [model(piece, salience, cache) for piece in text.split(pieces, dim=1)]
        whole = model(text, salience)
        assert whole.std() > 0.3  # not a comparison of zeros
        torch.testing.assert_close(torch.cat(logits, dim=1), whole, atol=tolerance, rtol=0)
        assert cache.length == 40


@pytest.mark.parametrize(("settings", "salience"), ARMS)
@pytest.mark.parametrize("prompt", [3, 40])
def test_greedy_text_is_that_of_full_recomputation_far_past_the_context(
    tiny: Params, settings: dict[str, str], salience: str | None, prompt: int
) -> None:
    model, text = lively(special(tiny, **settings)), tokens(2, prompt)
    cached, recomputed = (
        generate(model, text, 256, 0.0, None, 0, salience, cached=cached)
        for cached in (True, False)
    )
    assert cached.shape == (2, prompt + 256)
    assert torch.equal(cached, recomputed)
    assert len(cached.unique()) > 25  # a text stuck on one token would prove little


@pytest.mark.parametrize("settings", [{"controller": "none"}, {"salience": "causal"}])
def test_greedy_text_is_that_of_full_recomputation_within_the_context(
    tiny: Params, settings: dict[str, str]
) -> None:
    model, text = lively(special(long(tiny), **settings)), tokens(2, 9)
    expected = text
    with torch.no_grad():
        for _ in range(256):
            expected = torch.cat([expected, model(expected)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, text, 256, 0.0), expected)


def test_the_last_logits_are_those_of_the_forward_pass(tiny: Params) -> None:
    model = lively(special(tiny))
    for batch in (1, 2, 5):
        text = tokens(batch, 11)
        torch.testing.assert_close(model.next_logits(text), model(text)[:, -1])


def test_a_cleared_cache_has_forgotten_its_text(tiny: Params) -> None:
    model, cache = lively(special(tiny, salience="causal")), None
    cache = model.make_cache(2)
    model(tokens(seed=1), cache=cache)
    cache.clear()
    assert torch.equal(model(tokens(), cache=cache), model(tokens(), cache=model.make_cache(2)))


def test_a_cache_refuses_what_it_cannot_hold(tiny: Params) -> None:
    model = special(tiny, salience="causal")
    cache = model.make_cache(2)
    model(tokens(length=39), cache=cache)
    with pytest.raises(ValueError, match="41 tokens are more than context_length 40"):
        model(tokens(length=2), cache=cache)
    with pytest.raises(ValueError, match="global salience pools the future"):
        model(tokens(length=1), "global", model.make_cache(2))


@given(st.integers(2, 40), st.integers(1, 400))
def test_windows_never_outgrow_the_context_nor_fall_below_three_quarters(
    context: int, length: int
) -> None:
    start = window_start(length, context)
    if length <= context:
        assert start == 0
    else:
        assert max(1, context * 3 // 4) <= length - start <= context
        assert window_start(length - 1, context) in {
            start,
            start - window_start(context + 1, context),
        }


# Salience and refresh


def test_global_models_generate_reactively_unless_asked_otherwise(tiny: Params) -> None:
    model = lively(special(tiny, salience="global"))
    own, reactive, causal = (
        generate(model, tokens(), 12, 0.0, salience=salience)
        for salience in (None, "reactive", "causal")
    )
    assert torch.equal(own, reactive)
    assert not torch.equal(own, causal)
    with pytest.raises(InputError, match="salience 'global': allowed to generate with are causal"):
        generate(model, tokens(), 1, salience="global")
    assert generation_salience(special(tiny, salience="causal"), None) == "causal"
    assert generation_salience(special(tiny, controller="none"), "causal") is None


def slow_refresh(
    model: LanguageModel, prompt: Tensor, new: int, refresh: Refresh
) -> tuple[Tensor, list[bool]]:
    """Greedy text of one row: c is pooled afresh for the whole text, and read where it was due."""
    assert model.control is not None
    assert model.control.pooling is not None
    pooling, text, due = model.control.pooling, prompt, []
    used = list(range(prompt.shape[1]))  # the position whose c each position uses
    pooled = type(pooling).forward
    for number in range(1, new + 1):
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(
                pooling, "forward", lambda x, mode, _=None: pooled(pooling, x, mode)[:, used]
            )
            logits = model(text)[:, -1]
        if isinstance(refresh, EveryTokens):
            due.append(number % refresh.n == 0)
        else:
            due.append(Categorical(logits=logits).entropy().item() > refresh.nats)
        used.append(len(used) if due[-1] else used[-1])
        text = torch.cat([text, logits.argmax(-1, keepdim=True)], dim=1)
    return text, due


@pytest.mark.parametrize("salience", ["causal", "reactive"])
@pytest.mark.parametrize("refresh", [EveryTokens(3), EveryTokens(50), AboveEntropy(1.3)])
def test_a_held_tonic_signal_is_the_one_of_the_last_refresh(
    tiny: Params, salience: str, refresh: Refresh
) -> None:
    model, prompts = lively(special(tiny, salience=salience)), tokens(3, 6)
    with_policy = generate(model, prompts, 34, 0.0, refresh=refresh)
    always = generate(model, prompts, 34, 0.0)
    for row, prompt in enumerate(prompts):
        expected, due = slow_refresh(model, prompt[None], 34, refresh)
        assert torch.equal(with_policy[row], expected[0])
        assert sum(due) < 34  # some are held
    assert not torch.equal(with_policy, always)


def test_refreshing_at_every_token_is_no_policy(tiny: Params) -> None:
    model, prompts = lively(special(tiny, salience="causal")), tokens(2, 6)
    always = generate(model, prompts, 80, 0.0)
    for refresh in (ALWAYS, EveryTokens(1), AboveEntropy(0.0)):
        assert torch.equal(generate(model, prompts, 80, 0.0, refresh=refresh), always)


def test_a_window_that_slides_is_encoded_with_fresh_signals(tiny: Params) -> None:
    model = lively(special(tiny, salience="causal"))
    text = generate(model, tokens(1, 40), 1, 0.0, refresh=EveryTokens(1000))
    longer = generate(model, tokens(1, 40), 2, 0.0, refresh=EveryTokens(1000))
    window = text[:, window_start(41, 40) :]
    assert window.shape[1] == 30
    assert torch.equal(longer[:, -1], model(window)[:, -1].argmax(-1))


@pytest.mark.parametrize(
    "text", ["0", "-3", "entropy:", "entropy:-1", "entropy:nan", "often", "x:1"]
)
def test_a_refresh_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^refresh .*: allowed are "):
        parse_refresh(text)


def test_refresh_policies_are_read_from_text() -> None:
    assert [parse_refresh(text) for text in ("1", "8", "entropy:2.5")] == [
        ALWAYS, EveryTokens(8), AboveEntropy(2.5),
    ]  # fmt: skip


# Sampling

LOGITS = st.lists(st.integers(-160, 160).map(lambda n: n / 8), min_size=1, max_size=30)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0.01, 10),
    top_k=st.none() | st.integers(0, 40),
    top_p=st.floats(0.01, 1),
)


@given(LOGITS, SAMPLINGS)
def test_what_is_kept_is_the_likeliest_and_no_more_than_needed(
    logits: list[float], sampling: Sampling
) -> None:
    row = torch.tensor([logits])
    (p,), (ids,) = distribution(row, sampling)
    assert sorted(ids.tolist()) == sorted(set(ids.tolist()))
    assert p.sum().item() == pytest.approx(1)
    k = min(sampling.top_k or len(logits), len(logits))
    assert len(ids) == k
    assert sorted(row[0, ids].tolist(), reverse=True) == sorted(logits, reverse=True)[:k]
    full = (row[0, ids].double() / sampling.temperature).softmax(0)
    kept = int((p > 0).sum())
    if sampling.top_p < 1:
        assert full[:kept].sum() >= sampling.top_p - 1e-9 or full[kept:].sum() < 1e-300
        assert full[: kept - 1].sum() < sampling.top_p + 1e-9
    torch.testing.assert_close(p[:kept], full[:kept] / full[:kept].sum())


@given(LOGITS, SAMPLINGS)
def test_each_token_is_drawn_as_often_as_it_is_probable(
    logits: list[float], sampling: Sampling
) -> None:
    n = 500
    rows = torch.tensor([logits]).expand(n, -1)
    drawn = sample(rows, (torch.arange(n) + 0.5) / n, sampling)
    (p,), (ids,) = distribution(rows[:1], sampling)
    expected = torch.zeros(len(logits), dtype=torch.float64).scatter(0, ids, p)
    counts = drawn.bincount(minlength=len(logits))
    assert (counts / n - expected).abs().max() <= 1.5 / n
    assert torch.all(expected[drawn] > 0)


@given(LOGITS, st.sampled_from([0.0, 0.5, 1 - 2**-53]), SAMPLINGS)
def test_the_ends_of_the_unit_interval_draw_tokens_that_were_kept(
    logits: list[float], uniform: float, sampling: Sampling
) -> None:
    row = torch.tensor([logits])
    token = sample(row, torch.tensor([uniform], dtype=torch.float64), sampling)
    (p,), (ids,) = distribution(row, sampling)
    assert p[ids == token].item() > 0


@given(LOGITS, st.floats(0, 1, exclude_max=True))
def test_no_temperature_one_token_or_next_to_no_mass_is_greedy(
    logits: list[float], uniform: float
) -> None:
    row, u = torch.tensor([logits]), torch.tensor([uniform], dtype=torch.float64)
    for sampling in (GREEDY, Sampling(1e-30), Sampling(top_k=1), Sampling(top_p=1e-9)):
        token = sample(row, u, sampling)
        assert row[0, token] == row.max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, r"temperature -1.0: allowed are 0 \(greedy\) and finite"),
        ({"temperature": float("nan")}, "temperature nan: allowed"),
        ({"temperature": float("inf")}, "temperature inf: allowed"),
        ({"top_k": -1}, "top_k -1: allowed are 1 and more, or 0 for all tokens"),
        ({"top_p": 0.0}, "top_p 0.0: allowed are numbers above 0, at most 1"),
        ({"top_p": 1.5}, "top_p 1.5: allowed"),
    ],
)
def test_values_out_of_range_name_what_is_allowed(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**settings)


# Seeds, rows, stopping


@pytest.fixture(scope="module")
def sampled(tiny: Params) -> LanguageModel:
    return lively(special(tiny, salience="causal"))


def test_a_seed_fixes_the_text_and_another_changes_it(sampled: LanguageModel) -> None:
    texts = [generate(sampled, tokens(), 60, 0.9, 20, seed, top_p=0.9) for seed in (3, 3, 4)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_a_row_is_what_it_is_alone_with_its_seed(sampled: LanguageModel) -> None:
    prompts = tokens(1, 5).expand(3, -1)
    rows = generate(sampled, prompts, 60, 0.9, 20, 7)
    for row in range(3):
        alone = generate(sampled, prompts[:1], 60, 0.9, 20, 7 + row)
        assert torch.equal(rows[row], alone[0])
    assert len({tuple(row.tolist()) for row in rows}) == 3  # one prompt, three texts
    assert torch.equal(generate(sampled, prompts, 60, 0.9, 20, [9, 8, 7])[2], rows[0])


def test_fewer_tokens_are_the_beginning_of_more(sampled: LanguageModel) -> None:
    short, long_ = (generate(sampled, tokens(), n, 1.0, None, 1) for n in (20, 70))
    assert torch.equal(short, long_[:, : short.shape[1]])


def test_a_row_stops_at_its_stop_token_and_the_text_when_all_have(sampled: LanguageModel) -> None:
    free = generate(sampled, tokens(2, 4), 60, 1.0, None, 2)[:, 4:]
    stop = int(free[0, 9])
    stopped = generate(sampled, tokens(2, 4), 60, 1.0, None, 2, stop=stop)[:, 4:]
    ends = [row.index(stop) + 1 if stop in row else 60 for row in free.tolist()]
    assert stopped.shape[1] == max(ends)
    for row, end in enumerate(ends):
        assert torch.equal(stopped[row, :end], free[row, :end])
        assert torch.all(stopped[row, end:] == stop)


def test_generation_leaves_no_trace_on_the_weights(sampled: LanguageModel) -> None:
    text = generate(sampled, tokens(), 5)
    assert not text.is_inference()
    assert all(not each.is_inference() for each in sampled.parameters())
    assert torch.equal(text[:, : tokens().shape[1]], tokens())
    assert torch.equal(generate(sampled, tokens(), 0), tokens())


@pytest.mark.parametrize(
    ("length", "options", "message"),
    [
        (0, {}, "a prompt of 0 tokens: allowed are 1 to context_length 40"),
        (41, {}, "a prompt of 41 tokens: allowed are 1 to context_length 40"),
        (4, {"max_new_tokens": -1}, "max_new_tokens -1: allowed are 0 and more"),
        (4, {"seed": [1]}, "1 seeds for 2 prompts"),
        (4, {"seed": -1}, "seed -1: allowed are 0"),
        (4, {"cached": False, "refresh": EveryTokens(2)}, "a refresh policy needs the cache"),
    ],
)
def test_what_cannot_be_generated_is_said(
    sampled: LanguageModel, length: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate(sampled, tokens(2, length), **({"max_new_tokens": 1} | options))


# Text

STORIES = ["Once upon a time there was a tiny dragon. He had a café. 🐉 flew.\n"] * 3


@pytest.fixture(scope="module")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(STORIES, 290, directory)
    return directory


@pytest.fixture(scope="module")
def tokenizer(tokenizer_directory: Path) -> Tokenizer:
    return load_tokenizer(tokenizer_directory)


@pytest.fixture(scope="module")
def model_directory(tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "ncn_causal-1"
    save_model(lively(build_model(tiny, "ncn_causal", 290)), directory)
    return directory


def test_a_streamed_piece_never_splits_a_character(tokenizer: Tokenizer) -> None:
    text = "é 🐉🐉\ufffd x"
    ids = [
        token
        for byte in text.encode()
        for token in range(256)
        if piece_of(tokenizer, token) == byte
    ]
    assert len(ids) == len(text.encode())
    pieces = list(stream_text(tokenizer, ids))
    assert "".join(pieces) == text
    assert pieces[:3] == ["é", " ", "🐉"]


def piece_of(tokenizer: Tokenizer, token: int) -> int:
    (byte,) = tokenizer._encoding.decode_single_token_bytes(token)
    return byte


@given(st.lists(st.integers(0, 288), max_size=30))
def test_streamed_pieces_add_up_to_the_text_for_any_tokens(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    kept = ids[: ids.index(tokenizer.end_of_text)] if tokenizer.end_of_text in ids else ids
    assert "".join(stream_text(tokenizer, ids)) == tokenizer.decode(kept)


def test_prompts_of_any_lengths_give_what_each_gives_alone(
    tiny: Params, tokenizer: Tokenizer
) -> None:
    model = lively(build_model(tiny, "ncn", 290))
    prompts = ["Once upon", "a tiny", "", "Once upon", "dragon " * 3]
    sampling = Sampling(0.9, 20)
    texts = continue_texts(model, tokenizer, prompts, 30, sampling, 5)
    for number, prompt in enumerate(prompts):
        assert continue_texts(model, tokenizer, [prompt], 30, sampling, 5 + number) == [
            texts[number]
        ]
    assert texts[0] != texts[3]
    assert END_OF_TEXT not in "".join(texts)


# The command

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

    def watched(*arguments: Any) -> Iterator[Tensor]:
        for token in stream(*arguments):
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
        (["--prompt", "dragon " * 40], "prompt 'dragon dragon dragon dragon dragon drago' has "),
        (["--tokenizer", "absent"], "absent/vocab.json does not exist"),
        (["--task", "0"], "task 0: this model was built for none (ncn.tasks 0)"),
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


@pytest.fixture(scope="module")
def told_directory(tiny: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that is told of tasks and sliders."""
    directory = tmp_path_factory.mktemp("told") / "model"
    inputs = {"tasks": 3, "sliders": ["token_bytes", "dialogue"], "salience": "causal"}
    model = lively(build_model(with_arm(tiny, **inputs), "special", 290))
    assert isinstance(model.control, ControlNetwork)
    model.control.slider_mean.copy_(torch.tensor([4.0, 0.02]))
    model.control.slider_sd.copy_(torch.tensor([0.5, 0.01]))
    save_model(model, directory)
    return directory


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


def test_told_text_is_that_of_full_recomputation_past_the_context(told_directory: Path) -> None:
    model = load_model(told_directory)
    conditions = conditions_of(model, 1, {"dialogue": -1.0})
    cached, recomputed = (
        generate(model, tokens(2, 9), 90, 0.0, conditions=conditions, cached=cached)
        for cached in (True, False)
    )
    assert torch.equal(cached, recomputed)
    assert not torch.equal(cached, generate(model, tokens(2, 9), 90, 0.0))


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
